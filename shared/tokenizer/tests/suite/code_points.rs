//! Every code point, alone and among letters, digits, apostrophes and white space.

use super::common::{Both, every_tokenizer};

/// Compares texts made of many code points first: where those agree token by token, each does.
fn compare(both: &Both, make: impl Fn(char) -> String) {
    // A line break parts texts for every splitter, and no character of one reaches over it.
    let all: Vec<char> = (0..=0x10_ffff).filter_map(char::from_u32).collect();
    for some in all.chunks(512) {
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

/// Alone, where nothing is before a code point: [`TOKENIZER_ALL_ALONE`] takes a minute.
#[test]
fn code_points_alone_give_the_same_tokens() {
    let step = if std::env::var_os("TOKENIZER_ALL_ALONE").is_some() { 1 } else { 37 };
    for both in every_tokenizer() {
        for c in (0..=0x10_ffff).step_by(step).filter_map(char::from_u32) {
            let mut text = [0; 4];
            both.assert_same(c.encode_utf8(&mut text));
        }
    }
}
