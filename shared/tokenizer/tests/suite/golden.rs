//! The tiny tokenizers of the repository, with their golden texts and with made-up ones.

use std::sync::LazyLock;

use defrost_testing::golden;
use defrost_tokenizer::compile;
use proptest::prelude::*;

use super::common::{Both, golden_tokenizers};

static ALL: LazyLock<Vec<Both>> = LazyLock::new(golden_tokenizers);

#[test]
fn golden_texts_give_the_same_tokens() {
    for both in &*ALL {
        for case in golden::read(&both.name).cases {
            both.assert_same(&case.query);
            both.assert_same(&case.document);
        }
    }
}

#[test]
fn what_surrounds_texts_is_counted() {
    for both in &*ALL {
        for pair in [false, true] {
            assert_eq!(both.compiled.added(pair), both.added(pair), "{}", both.name);
        }
        let largest = both.reference.get_vocab(true).into_values().max().unwrap();
        assert_eq!(both.compiled.largest_id(), largest);
    }
}

#[test]
fn equal_files_give_equal_images() {
    for both in &*ALL {
        assert_eq!(compile(&both.json).unwrap(), compile(&both.json).unwrap(), "{}", both.name);
    }
}

proptest! {
    #[test]
    fn any_text_gives_the_same_tokens(text in ".{0,60}|[ -~\n]{0,80}|[a-z '\u{e0}-\u{ff}\u{300}-\u{330}\u{2581}]{0,60}") {
        for both in &*ALL {
            prop_assert_eq!(both.difference(&text), None);
        }
    }
}
