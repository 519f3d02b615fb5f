//! Spans without the blanks at their ends, in every form in which files ask for them; and the added tokens of published
//! RoBERTa tokenizers, which ask to be looked for in normalized text and have no normalizer.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::common::{Both, edited};
use super::made_up::{Source, text};

const ROBERTA: &str = "roberta-classifier";

/// Texts in which blanks start, end, part and make up texts, and lie beside added tokens.
const TEXTS: [&str; 16] = [
    " ",
    "  ",
    "    ",
    " a",
    "  a",
    "a ",
    " a  b   c ",
    "\n a\t b \r\n",
    "\u{3000}\u{a0}a \u{2003}b",
    "\u{120}a \u{120} \u{120}\u{120}b",
    " <mask> <mask>  a",
    "\u{3000}<mask>\u{3000} <mask>\n\u{85}<mask>",
    "<s> a</s> b </s>  <mask>",
    " \u{e9} \u{4e2d}\u{6587}  \u{1f600} ",
    "a\u{301} e\u{301}  \u{212b} ",
    "<unk> <pad><mask",
];

fn byte_level(trims: bool, has_prefix: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": has_prefix, "trim_offsets": trims})
}

fn roberta(trims: bool, has_prefix: bool) -> Value {
    json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
           "trim_offsets": trims, "add_prefix_space": has_prefix})
}

/// The added tokens as published files have them: all but the last for normalized text.
fn late_tokens() -> Value {
    let special = |id: u32, content: &str, is_late: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": !is_late,
               "rstrip": false, "normalized": is_late, "special": true})
    };
    json!([
        special(0, "<s>", true),
        special(1, "<pad>", true),
        special(2, "</s>", true),
        special(3, "<unk>", true),
        special(479, "<mask>", false)
    ])
}

/// Added tokens with blanks of their own.
fn blank_tokens() -> Value {
    let token = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": false})
    };
    json!([token(480, " a"), token(481, "\u{120}b "), token(482, "\u{3000}\u{120}")])
}

static ALL: LazyLock<Vec<Both>> = LazyLock::new(|| {
    let sequence = |of: [Value; 2]| json!({"type": "Sequence", "processors": of});
    let post = |value| edited(ROBERTA, "/post_processor", value);
    [
        ("byte level", post(byte_level(true, false))),
        ("byte level with a prefix", post(byte_level(true, true))),
        ("with a prefix", post(roberta(true, true))),
        ("untrimmed", post(roberta(false, true))),
        ("trimmed first", post(sequence([byte_level(true, true), roberta(false, false)]))),
        ("trimmed last", post(sequence([byte_level(false, true), roberta(true, false)]))),
        ("after a normalizer", edited("qwen2-mxbai", "/post_processor", byte_level(true, false))),
        ("late tokens", edited(ROBERTA, "/added_tokens", late_tokens())),
        ("blank tokens", edited(ROBERTA, "/added_tokens", blank_tokens())),
    ]
    .into_iter()
    .map(|(name, json)| Both::new(name, json))
    .collect()
});

#[test]
fn every_form_gives_the_offsets_of_the_crate() {
    for both in &*ALL {
        for text in TEXTS {
            both.assert_same(text);
            both.assert_same(&format!("{text}{text}"));
        }
        let special = both.added_tokens();
        for seed in 0..300 {
            both.assert_same(&text(&mut Source::new(seed), &special, &[]));
        }
    }
}

#[test]
fn blanks_are_left_out_of_spans() {
    let of = |name: &str| &ALL.iter().find(|both| both.name == name).unwrap().compiled;
    let text = " it is";
    let spans = |name: &str| {
        let found = of(name).encode(text).offsets;
        assert_eq!(found.len(), of("untrimmed").encode(text).offsets.len(), "{name}");
        (found[0].0, found.iter().any(|&(start, end)| text[start..end].contains(' ')))
    };
    assert_eq!(spans("untrimmed"), (0, true));
    assert_eq!(spans("byte level"), (1, false));
    assert_eq!(spans("byte level with a prefix").0, 0);
}

proptest! {
    #[test]
    fn any_text_gives_the_offsets_of_the_crate(text in "[ab \u{120}\u{3000}\n]{0,20}|.{0,30}|(<mask>|</?s>| |b|\u{e9}){0,12}") {
        for both in &*ALL {
            prop_assert_eq!(both.difference(&text), None);
        }
    }
}
