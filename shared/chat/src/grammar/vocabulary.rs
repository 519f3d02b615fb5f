//! A model's tokens as llguidance takes them.

use std::collections::HashMap;
use std::sync::Arc;

use llguidance::toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};

/// What a token is, by its id's place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VocabularyToken<'a> {
    /// The bytes that it stands for, wherever it stands.
    Bytes(&'a [u8]),
    /// A special token, with the text of its name: no grammar means it by its text.
    Special(&'a str),
    /// Nothing: its id is not used.
    None,
}

/// Tokens of a text as the model's tokenizer makes them within a text: with no token before, and none for the text's
/// beginning. Those that do not stand for the text itself, since a space was put before it or a part of it was taken for the
/// name of a special token, are not used.
pub type Tokenize = Arc<dyn Fn(&str) -> Vec<u32> + Send + Sync>;

/// What llguidance asks about tokens.
pub(super) struct Environment {
    trie: TokTrie,
    tokenize: Option<Tokenize>,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let Some(tokenize) = &self.tokenize else { return self.trie.greedy_tokenize(bytes) };
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let ids = tokenize(text);
            let are_known = ids.iter().all(|&id| (id as usize) < self.trie.vocab_size());
            if are_known && self.trie.decode_raw(&ids) == text.as_bytes() {
                return ids;
            }
            self.trie.greedy_tokenize(text.as_bytes())
        })
    }

    /// Without the model's own tokenizer nothing is forced, as other tokens than the model's own would be.
    fn tokenize_is_canonical(&self) -> bool {
        self.tokenize.is_some()
    }
}

/// The ids of special tokens by their names.
pub(super) type Specials = HashMap<String, u32>;

pub(super) fn environment(
    tokens: &[VocabularyToken<'_>],
    ends: &[u32],
    tokenize: Option<Tokenize>,
) -> Result<(Environment, Specials), String> {
    let vocab = u32::try_from(tokens.len()).map_err(|_| "too many tokens".to_owned())?;
    let ends: Vec<u32> = ends.iter().copied().filter(|&end| end < vocab).collect();
    let Some(&first_end) = ends.first() else {
        return Err("no token ends a text".to_owned());
    };
    let mut specials = Specials::new();
    let mut words = Vec::with_capacity(tokens.len());
    for (id, token) in (0..vocab).zip(tokens) {
        let special = |name: &[u8]| {
            let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
            word.extend_from_slice(name);
            word
        };
        words.push(match token {
            VocabularyToken::Bytes(bytes) if ends.contains(&id) => special(bytes),
            // No text has this byte, and llguidance takes it for the sign of special tokens.
            VocabularyToken::Bytes(bytes)
                if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) =>
            {
                Vec::new()
            }
            VocabularyToken::Bytes(bytes) => bytes.to_vec(),
            VocabularyToken::Special(name) => {
                specials.insert((*name).to_owned(), id);
                special(name.as_bytes())
            }
            VocabularyToken::None => Vec::new(),
        });
    }
    let info = TokRxInfo::new(vocab, first_end);
    let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
    Ok((Environment { trie, tokenize }, specials))
}
