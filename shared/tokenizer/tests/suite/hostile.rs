//! Damaged images are refused or give wrong tokens: no panic, no endless work, no id beyond the largest.

use std::time::Instant;

use bytes::Bytes;
use defrost_tokenizer::{Compiled, compile};

use super::common::{Both, golden_tokenizers};
use super::made_up::{Source, text};

/// Texts tried on each damaged image.
const TEXTS: usize = 6;

/// Opens an image and uses everything.
fn try_out(image: Vec<u8>, texts: &[String]) {
    let Ok(compiled) = Compiled::open(Bytes::from(image)) else { return };
    for text in texts {
        let encoded = compiled.encode(text);
        let ids = compiled.ids(text);
        let all = [&encoded.ids, &ids, &compiled.single(&ids).ids, &compiled.pair(&ids, &ids).ids];
        for ids in all {
            assert!(ids.iter().all(|&id| id <= compiled.largest_id()));
        }
        let _ = (compiled.added(true), compiled.added(false));
    }
}

fn texts(both: &Both, source: &mut Source) -> Vec<String> {
    let special = both.added_tokens();
    let some = (0..TEXTS).map(|_| text(source, &special, &[]));
    some.chain(["Where do plants get their food? It's \u{e9}\u{4e2d} x".to_owned()]).collect()
}

#[test]
fn damaged_images_do_no_harm() {
    for both in golden_tokenizers() {
        let image = compile(&both.json).unwrap();
        let mut source = Source::new(7);
        let texts = texts(&both, &mut source);
        for round in 0..400 {
            let mut damaged = image.clone();
            for _ in 0..=source.below(1 << (round % 12)) {
                // Half of the damage to the header, where it does most.
                let end = if source.below(2) == 0 { 700 } else { damaged.len() };
                let at = source.below(end);
                let old = damaged[at];
                damaged[at] = source.of(&[0, 1, 0x7f, 0x80, 0xff, old ^ 1, old ^ 0x80]);
            }
            // So that damage elsewhere is not hidden by a refusal.
            if round % 2 == 0 {
                damaged[..256].copy_from_slice(&image[..256]);
            }
            let start = Instant::now();
            try_out(damaged, &texts);
            assert!(start.elapsed().as_secs() < 5, "{}: round {round}", both.name);
        }
    }
}

#[test]
fn whole_sections_of_one_value_do_no_harm() {
    for both in golden_tokenizers() {
        let image = compile(&both.json).unwrap();
        let texts = texts(&both, &mut Source::new(8));
        for value in [0, 0xff, 0x7f, 0x80, 0x01, 0x55] {
            let mut filled = image.clone();
            filled[4096..].fill(value);
            try_out(filled, &texts);
            let mut settings = image.clone();
            settings[264..4096].fill(value);
            try_out(settings, &texts);
        }
    }
}

#[test]
fn images_cut_short_are_refused() {
    for both in golden_tokenizers() {
        let image = compile(&both.json).unwrap();
        for len in (0..image.len()).step_by(97) {
            assert!(Compiled::open(Bytes::copy_from_slice(&image[..len])).is_err());
        }
    }
}
