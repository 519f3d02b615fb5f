//! Made-up texts under every tokenizer. `TOKENIZER_FUZZ_RUNS` says how many for each; `TOKENIZER_FUZZ_SEED` where to
//! start.

use super::common::every_tokenizer;
use super::made_up::{Source, long_texts, text};
use super::real_texts::texts;

/// Enough to meet every kind of part next to every other, and done in seconds.
const RUNS: u64 = 3_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn made_up_texts_give_the_same_tokens() {
    let (runs, seed) = (setting("TOKENIZER_FUZZ_RUNS", RUNS), setting("TOKENIZER_FUZZ_SEED", 1));
    let real = texts();
    for both in every_tokenizer() {
        let special = both.added_tokens();
        for run in 0..runs {
            let mut source = Source::new(seed.wrapping_add(run));
            both.assert_same(&text(&mut source, &special, &real));
        }
        println!("{}: {runs} texts", both.name);
    }
}

#[test]
fn long_texts_give_the_same_tokens_in_time() {
    for both in every_tokenizer() {
        for text in long_texts() {
            let start = std::time::Instant::now();
            let found = both.compiled.ids(&text);
            let took = start.elapsed();
            assert!(took.as_secs() < 5, "{}: {took:?} for {:?}...", both.name, &text[..5]);
            let expected = both.reference.encode_fast(text.as_str(), false).unwrap();
            assert_eq!(found, expected.get_ids(), "{}: {:?}...", both.name, &text[..5]);
        }
    }
}
