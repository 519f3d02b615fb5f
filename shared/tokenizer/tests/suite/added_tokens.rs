//! Added tokens alone, together, inside of things, and in parts.

use super::common::{Both, every_tokenizer};

#[test]
fn added_tokens_are_found_where_the_crate_finds_them() {
    for both in every_tokenizer() {
        let tokens = both.added_tokens();
        for token in &tokens {
            surrounded(&both, token);
            for (at, _) in token.char_indices() {
                for text in [&token[..at], &token[at..]] {
                    both.assert_same(text);
                    both.assert_same(&format!("{text}{token} {text} {token}{text}"));
                }
            }
            for other in &tokens {
                both.assert_same(&format!("{token}{other}"));
                both.assert_same(&format!("a {token} \n {other}\u{3000}{token}b"));
            }
        }
    }
}

fn surrounded(both: &Both, token: &str) {
    for before in
        ["", "a", " ", "  ", "\n\t", "\u{3000}", "\u{e9}", ".", "\u{2581}", "a ", "e\u{301}"]
    {
        for after in ["", "a", " ", "  ", "\n\t", "\u{3000}", "\u{301}", ".", "\u{2581}", " a"] {
            both.assert_same(&format!("{before}{token}{after}"));
            both.assert_same(&format!("{before}{token}{after}{token}{after}"));
        }
    }
    both.assert_same(&token.to_uppercase());
    both.assert_same(&token.to_lowercase());
}
