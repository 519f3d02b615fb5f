//! A small vocabulary, and texts made by going where a constraint lets one go, by chance.

use defrost_chat::{Grammar, GrammarCompiler, TokenConstraint, Tokenize, VocabularyToken};
use defrost_model::Constraint;

/// Every byte is a token; so are these.
const WORDS: [&str; 43] = [
    "{\"",
    "\": ",
    "\", \"",
    "\": \"",
    "\"}",
    "}",
    "\"",
    "{}",
    "[]",
    ", ",
    ": ",
    "[",
    "]",
    "true",
    "false",
    "null",
    "12",
    "007",
    "-1",
    ".5",
    "e+",
    "name",
    "place",
    "kind",
    "arguments",
    "a",
    "ab",
    "é",
    "🙂",
    "日本",
    "\\n",
    "\\u00",
    "2024-",
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "[THINK]",
    "[/THINK]",
    "\n\n",
    " the",
    "Zürich",
    "@example.org",
];
const SPECIALS: [&str; 5] = ["<|end|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>"];

pub(crate) struct Vocabulary {
    words: Vec<Vec<u8>>,
}

impl Vocabulary {
    pub(crate) fn new() -> Self {
        let bytes = (0..=255).map(|byte| vec![byte]);
        let words = WORDS.iter().chain(&SPECIALS).map(|word| word.as_bytes().to_vec());
        Self { words: bytes.chain(words).collect() }
    }

    fn first_special(&self) -> usize {
        self.words.len() - SPECIALS.len()
    }

    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.first_special()).expect("a small vocabulary")
    }

    /// The longest word first, as a plain tokenizer.
    fn tokenize(words: &[Vec<u8>], text: &str) -> Vec<u32> {
        let (mut rest, mut ids) = (text.as_bytes(), Vec::new());
        while !rest.is_empty() {
            let fits = words.iter().enumerate().filter(|(_, word)| rest.starts_with(word));
            let (id, word) = fits.max_by_key(|(_, word)| word.len()).expect("every byte is one");
            ids.push(u32::try_from(id).expect("a small vocabulary"));
            rest = &rest[word.len()..];
        }
        ids
    }

    pub(crate) fn compiler(&self) -> GrammarCompiler {
        let plain = self.words[..self.first_special()].to_vec();
        self.compiler_with(std::sync::Arc::new(move |text: &str| Self::tokenize(&plain, text)))
    }

    pub(crate) fn compiler_with(&self, tokenize: Tokenize) -> GrammarCompiler {
        let special = self.first_special();
        let tokens: Vec<VocabularyToken<'_>> = self
            .words
            .iter()
            .enumerate()
            .map(|(id, word)| match std::str::from_utf8(word) {
                Ok(name) if id >= special => VocabularyToken::Special(name),
                _ => VocabularyToken::Bytes(word),
            })
            .collect();
        GrammarCompiler::new(&tokens, &[self.end()], Some(tokenize)).expect("a vocabulary")
    }

    /// Whether a text goes through, with special tokens by their names, and may end then.
    pub(crate) fn accepts(&self, constraint: &mut TokenConstraint, text: &str) -> bool {
        for id in Self::tokenize(&self.words, text) {
            let allowed = match constraint.mask() {
                Ok(mask) => mask.is_none_or(|mask| mask.allows(id)),
                Err(_) => return false,
            };
            if constraint.is_done() || !allowed {
                // A forced token is the tokenizer's own; others of the same text are as good.
                return false;
            }
            constraint.accept(id).expect("it was allowed");
        }
        constraint.may_end()
    }

    /// A text that a constraint lets through; `None` if it does not end in time.
    pub(crate) fn walk(
        &self,
        constraint: &mut TokenConstraint,
        chance: &mut Chance,
    ) -> Option<String> {
        let mut bytes = Vec::new();
        for step in 0..1_500 {
            if constraint.is_done() {
                break;
            }
            let forced = constraint.forced();
            if !forced.is_empty() && chance.below(2) == 0 {
                for id in forced {
                    let mask = constraint.mask().expect("a mask").expect("one that restricts");
                    assert!(mask.allows(id), "forced, and forbidden");
                    constraint.accept(id).expect("a forced token");
                    bytes.extend_from_slice(&self.words[id as usize]);
                }
                continue;
            }
            let may_end = constraint.may_end();
            if may_end && (step > 200 || chance.below(4) == 0) {
                break;
            }
            let mask = constraint.mask().expect("a mask").expect("one that restricts");
            let mut ids: Vec<u32> = mask.iter().filter(|&id| id != self.end()).collect();
            if ids.is_empty() {
                assert!(may_end, "nothing can follow {:?}", String::from_utf8_lossy(&bytes));
                break;
            }
            // Words more often than bytes, and what ends something more and more often.
            let word = |id: u32| self.words[id as usize].as_slice();
            let ends = |id: &u32| matches!(word(*id), b"\"" | b"}" | b"]" | b"\"}");
            let is_late = step > 100 && chance.below(2) == 0;
            if ids.iter().any(ends) && (is_late || chance.below(4) == 0) {
                ids.retain(ends);
            } else if ids.iter().any(|&id| id > 255) && chance.below(3) > 0 {
                ids.retain(|&id| id > 255);
            }
            let id = ids[chance.below(ids.len())];
            constraint.accept(id).expect("it was allowed");
            bytes.extend_from_slice(word(id));
        }
        constraint.may_end().then(|| String::from_utf8(bytes).expect("whole letters at the end"))
    }
}

/// Numbers by chance, the same each time.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).expect("53 bits") % end
    }
}

pub(crate) fn constraint(compiler: &GrammarCompiler, grammar: &Grammar) -> TokenConstraint {
    compiler.compile(grammar).expect("a grammar that can be enforced")
}
