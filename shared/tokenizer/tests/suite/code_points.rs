//! Code points alone and among letters, digits, apostrophes and white space: all if `TOKENIZER_THOROUGH` is set, else
//! those up to U+0FFF and some of the rest.

use super::common::{Both, every_tokenizer, is_thorough};

/// Compares texts made of many code points first: where those agree token by token, each does.
fn compare(both: &Both, make: impl Fn(char) -> String) {
    // A line break parts texts for every splitter, and no character of one reaches over it.
    let all: Vec<char> = (0..=0x10_ffff).filter_map(char::from_u32).collect();
    let is_tried = |at: usize| is_thorough() || at < 8 || at.is_multiple_of(23);
    for (_, some) in all.chunks(512).enumerate().filter(|&(at, _)| is_tried(at)) {
        let together: String = some.iter().map(|&c| make(c)).collect();
        both.assert_same(&together);
    }
}

#[test]
fn every_code_point_gives_the_same_tokens() {
    // One of each kind is enough: the others differ in vocabulary only.
    let mut seen = Vec::new();
    for both in every_tokenizer().into_iter().rev() {
        let kind: Vec<u8> =
            both.json.windows(16).find(|text| text.starts_with(b"\"pre_tok")).unwrap().to_vec();
        let name = (kind, both.added_tokens().len());
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        compare(&both, |c| format!("a{c}b 1{c}'{c}s\n"));
        compare(&both, |c| format!("'{c}e'{c}l'r{c}'v{c}'l{c} {c} \u{1}{c}\r{c}\n"));
        compare(&both, |c| format!("{c}\u{301}\u{323} e{c}\u{327} {c}{c}\n"));
        println!("{}", both.name);
    }
}

/// Alone, where nothing is before a code point.
#[test]
fn code_points_alone_give_the_same_tokens() {
    let step = if is_thorough() { 1 } else { 37 };
    for both in every_tokenizer() {
        for c in (0..=0x10_ffff).step_by(step).filter_map(char::from_u32) {
            let mut text = [0; 4];
            both.assert_same(c.encode_utf8(&mut text));
        }
    }
}
