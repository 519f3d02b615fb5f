//! The few calls that prompts need of a tokenizer, which is compiled ([`defrost_tokenizer`]) or, where that is not
//! possible, the `tokenizers` crate's.
//!
//! A text of megabytes would cost gigabytes and seconds to tokenise, only to be cut to a few hundred
//! tokens. So callers say how many tokens they can use, and of a long text only a prefix is
//! tokenised: cut at white space, doubled until it gives [`MARGIN`] tokens more than wanted or the
//! text ends. Pre-tokenizers split at white space and normalizers look at neighbours only, so the cut
//! can change nothing but the last few tokens, which the margin covers.

mod charsmap;
mod file;
mod lowercase;
mod model;
mod template;
mod vocabulary;

use std::ops::Range;

use bytes::Bytes;
use defrost_model::{TextRules, Tokens};
use defrost_tokenizer::{Compiled, Encoded, FormatError, Sequence};
use lowercase::Lowered;
use tokenizers::{Encoding, PostProcessor, Token, Tokenizer};

use crate::Error;

pub(crate) use vocabulary::Vocabulary;

/// Tokens beyond the wanted ones that a prefix must give before its tokens are trusted. A cut
/// changes the piece it falls into and perhaps the one before; pieces of natural text have fewer
/// than 20 tokens.
const MARGIN: usize = 64;

/// Bytes of the first prefix per wanted token. Natural text has 2 to 6 bytes a token, so that one
/// prefix is nearly always enough.
const BYTES_PER_TOKEN: usize = 12;

/// A tokenizer whose own truncation and padding are off: prompts decide both.
#[derive(Debug)]
pub struct TextTokenizer {
    form: Form,
    rules: TextRules,
}

/// Both give the same tokens; the crate knows components that are not compiled.
#[derive(Debug)]
enum Form {
    Compiled(Box<Compiled>),
    Crate(Box<Tokenizer>),
}

fn tokens(Sequence { ids, types }: Sequence) -> Tokens {
    Tokens { ids, types }
}

impl TextTokenizer {
    /// Reads the bytes of a tokenizer.json. Takes up to a second.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let form = Form::Crate(Box::new(file::read(json)?));
        Ok(Self { form, rules: TextRules::default() })
    }

    /// Opens a compiled tokenizer. Takes microseconds.
    pub fn from_image(image: Bytes) -> Result<Self, FormatError> {
        let form = Form::Compiled(Box::new(Compiled::open(image)?));
        Ok(Self { form, rules: TextRules::default() })
    }

    /// The same tokenizer, by these rules.
    #[must_use]
    pub fn with_rules(self, rules: TextRules) -> Self {
        Self { rules, ..self }
    }

    /// The text as it is tokenised.
    fn lowered<'a>(&self, text: &'a str) -> Lowered<'a> {
        if self.rules.lowercase { Lowered::of(text) } else { Lowered::unchanged(text) }
    }

    /// Tokens as the model takes them.
    fn typed(&self, tokens: Tokens) -> Tokens {
        let types = if self.rules.token_types { tokens.types } else { Vec::new() };
        Tokens { types, ..tokens }
    }

    /// The ids of a text without special tokens, to be put together by [`TextTokenizer::single`] or
    /// [`TextTokenizer::pair`]: all of them, or more than `limit`.
    pub fn ids(&self, text: &str, limit: usize) -> Result<Vec<u32>, Error> {
        bounded(text, limit, |prefix| {
            let prefix = &*self.lowered(prefix).text;
            match &self.form {
                Form::Compiled(compiled) => Ok(compiled.ids(prefix)),
                Form::Crate(tokenizer) => {
                    Ok(tokenizer.encode_fast(prefix, false).map_err(fault)?.get_ids().to_vec())
                }
            }
        })
    }

    /// Ids as of [`TextTokenizer::ids`], from the end: all of them, or more than `limit` that the text ends with.
    pub fn last_ids(&self, text: &str, limit: usize) -> Result<Vec<u32>, Error> {
        let (_, ids) = bounded_end(text, limit, |rest| self.ids(rest, usize::MAX))?;
        Ok(ids)
    }

    /// The longest suffix of `text` that is made of its last `limit` tokens, and whether that cut anything. Never cuts
    /// inside a character.
    pub fn cut_start<'a>(&self, text: &'a str, limit: usize) -> Result<(&'a str, bool), Error> {
        let (begin, spans) = bounded_end(text, limit, |rest| self.spans(rest))?;
        let Some(extra) = spans.len().checked_sub(limit).filter(|&extra| extra > 0) else {
            return Ok((text, false));
        };
        let start = spans.get(extra).map_or(text.len(), |(_, span)| begin + span.start);
        Ok((&text[start..], true))
    }

    /// The ids of a text without special tokens, and for each the bytes of the text that it stands for.
    pub fn spans(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, Error> {
        let lowered = self.lowered(text);
        let (ids, offsets) = match &self.form {
            Form::Compiled(compiled) => {
                let Encoded { ids, offsets } = compiled.encode(&lowered.text);
                (ids, offsets)
            }
            Form::Crate(tokenizer) => {
                let encoding = tokenizer.encode(&*lowered.text, false).map_err(fault)?;
                (encoding.get_ids().to_vec(), encoding.get_offsets().to_vec())
            }
        };
        let range = |(start, end): (usize, usize)| {
            let (start, end) = (lowered.origin(start), lowered.origin(end));
            let start = floor_char(text, start);
            start..floor_char(text, end.max(start))
        };
        Ok(ids.into_iter().zip(offsets.into_iter().map(range)).collect())
    }

    /// The one id of a text that must be one token.
    pub fn single_token(&self, text: &str) -> Result<u32, Error> {
        match self.ids(text, usize::MAX)?.as_slice() {
            [id] => Ok(*id),
            ids => Err(Error::Tokenizer(format!(
                "{text:?} must be one token for this template, it is {ids:?}"
            ))),
        }
    }

    /// The largest id it can give.
    pub fn largest_id(&self) -> u32 {
        match &self.form {
            Form::Compiled(compiled) => compiled.largest_id(),
            Form::Crate(tokenizer) => tokenizer.get_vocab(true).into_values().max().unwrap_or(0),
        }
    }

    /// Special tokens that [`TextTokenizer::single`] (or `pair`) adds.
    pub fn added(&self, pair: bool) -> usize {
        match &self.form {
            Form::Compiled(compiled) => compiled.added(pair),
            Form::Crate(tokenizer) => {
                tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(pair))
            }
        }
    }

    /// One text with the special tokens around it.
    pub fn single(&self, ids: &[u32]) -> Result<Tokens, Error> {
        let whole = match &self.form {
            Form::Compiled(compiled) => tokens(compiled.single(ids)),
            Form::Crate(tokenizer) => finish(tokenizer, ids, None)?,
        };
        Ok(self.typed(whole))
    }

    /// Two texts with the special tokens around and between them.
    pub fn pair(&self, first: &[u32], second: &[u32]) -> Result<Tokens, Error> {
        let whole = match &self.form {
            Form::Compiled(compiled) => tokens(compiled.pair(first, second)),
            Form::Crate(tokenizer) => finish(tokenizer, first, Some(second))?,
        };
        Ok(self.typed(whole))
    }

    /// The longest prefix of `text` that is made of its first `limit` tokens, and whether that cut
    /// anything. Never cuts inside a character.
    pub fn cut<'a>(&self, text: &'a str, limit: usize) -> Result<(&'a str, bool), Error> {
        let offsets = bounded(text, limit, |prefix| {
            let lowered = self.lowered(prefix);
            let offsets = match &self.form {
                Form::Compiled(compiled) => compiled.encode(&lowered.text).offsets,
                Form::Crate(tokenizer) => {
                    let encoding = tokenizer.encode(&*lowered.text, false).map_err(fault)?;
                    encoding.get_offsets().to_vec()
                }
            };
            let origin = |(start, end)| (lowered.origin(start), lowered.origin(end));
            Ok(offsets.into_iter().map(origin).collect())
        })?;
        let Some(&(start, _)) = offsets.get(limit) else {
            return Ok((text, false));
        };
        Ok((&text[..floor_char(text, start)], true))
    }
}

fn finish(tokenizer: &Tokenizer, first: &[u32], second: Option<&[u32]>) -> Result<Tokens, Error> {
    let second = second.map(encoding);
    let whole = tokenizer.post_process(encoding(first), second, true).map_err(fault)?;
    Ok(Tokens { ids: whole.get_ids().to_vec(), types: whole.get_type_ids().to_vec() })
}

/// An encoding of these ids, which is all that the crate's post-processors need to give ids and types.
fn encoding(ids: &[u32]) -> Encoding {
    let token = |&id: &u32| Token::new(id, String::new(), (0, 0));
    Encoding::from_tokens(ids.iter().map(token).collect(), 0)
}

/// Runs `encode` on prefixes of `text` until one gives enough tokens.
fn bounded<T>(
    text: &str,
    limit: usize,
    encode: impl Fn(&str) -> Result<Vec<T>, Error>,
) -> Result<Vec<T>, Error> {
    let enough = limit.saturating_add(MARGIN);
    let mut bytes = enough.saturating_mul(BYTES_PER_TOKEN);
    // A text a little longer than the prefix is cheaper whole than in two attempts.
    while bytes < text.len() / 2 {
        let prefix = &text[..floor_char(text, bytes)];
        let end = prefix.rfind(char::is_whitespace).unwrap_or(prefix.len());
        let tokens = encode(&prefix[..end])?;
        if tokens.len() > enough {
            return Ok(tokens);
        }
        bytes = bytes.saturating_mul(2);
    }
    encode(text)
}

/// Runs `encode` on suffixes of `text` until one gives enough tokens, and says where that one begins.
fn bounded_end<T>(
    text: &str,
    limit: usize,
    encode: impl Fn(&str) -> Result<Vec<T>, Error>,
) -> Result<(usize, Vec<T>), Error> {
    let enough = limit.saturating_add(MARGIN);
    let mut bytes = enough.saturating_mul(BYTES_PER_TOKEN);
    while bytes < text.len() / 2 {
        let begin = floor_char(text, text.len() - bytes);
        bytes = bytes.saturating_mul(2);
        // Cut inside of a word, all its tokens could be others than in the whole.
        let Some(space) = text[begin..].find(char::is_whitespace) else {
            continue;
        };
        let begin = begin + space;
        let tokens = encode(&text[begin..])?;
        if tokens.len() > enough {
            return Ok((begin, tokens));
        }
    }
    Ok((0, encode(text)?))
}

/// The largest character boundary up to `at`.
fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[allow(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn fault(err: tokenizers::Error) -> Error {
    Error::Tokenizer(err.to_string())
}

#[cfg(test)]
mod tests {
    use defrost_testing::golden::{self, EMBEDDING_MODELS, PAIR_MODELS};

    use super::*;

    /// Files on which the `tokenizers` crate panics; the first was found by fuzzing, the others by reading its code.
    #[test]
    fn damaged_files_are_refused_or_understood_without_a_panic() {
        let with = |normalizer: &str, decoder: &str| {
            format!(
                r#"{{"version":"1.0","added_tokens":[],"normalizer":{normalizer},"decoder":{decoder},"model":{{"type":"WordLevel","vocab":{{"a":0}},"unk_token":"a"}}}}"#
            )
        };
        for (normalizer, decoder) in [
            ("null", "del"),
            (r#"{"type":"Precompiled","precompiled_charsmap":"x"}"#, "null"),
            (r#"{"type":"Precompiled","precompiled_charsmap":""}"#, "null"),
            (r#"{"type":"Precompiled"}"#, "null"),
        ] {
            assert!(TextTokenizer::from_json(with(normalizer, decoder).as_bytes()).is_err());
        }
        let odd = with("null", r#"{"type":"no such decoder"}"#);
        assert_eq!(TextTokenizer::from_json(odd.as_bytes()).unwrap().ids("a", 9).unwrap(), [0]);
        let other = with("null", "null").replace("1.0", "2.0");
        let error = TextTokenizer::from_json(other.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("version \"2.0\", expected \"1.0\""), "{error}");
    }

    /// Prefixes give the same first tokens as whole texts, for every kind of tokenizer and for texts
    /// with and without white space.
    #[test]
    fn a_bounded_encoding_starts_as_the_whole_one() {
        for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
            let json = std::fs::read(golden::checkpoint(model).join("tokenizer.json")).unwrap();
            let image = defrost_tokenizer::compile(&json).unwrap();
            let tokenizer = TextTokenizer::from_json(&json).unwrap();
            let compiled = TextTokenizer::from_image(image.into()).unwrap();
            let golden = golden::read(model);
            let documents: Vec<&str> =
                golden.cases.iter().map(|case| case.document.as_str()).collect();
            let sentences = documents.join(" ").repeat(6);
            for text in [
                sentences.as_str(),
                &"a.".repeat(40_000),
                &"中文字符".repeat(9_000),
                &"word ".repeat(20_000),
                &"\n\n  \t".repeat(20_000),
                &"x".repeat(60_000),
                &"e\u{301}".repeat(20_000),
            ] {
                let whole = tokenizer.ids(text, usize::MAX).unwrap();
                assert_eq!(compiled.ids(text, usize::MAX).unwrap(), whole, "{model}");
                for limit in [1, 50, 512] {
                    let bounded = tokenizer.ids(text, limit).unwrap();
                    let wanted = (limit + 1).min(whole.len());
                    assert!(bounded.len() >= wanted, "{model}: too few of {}", whole.len());
                    assert_eq!(bounded[..wanted], whole[..wanted], "{model} at {limit}");
                    let last = compiled.last_ids(text, limit).unwrap();
                    let wanted = limit.min(whole.len());
                    assert!(last.ends_with(&whole[whole.len() - wanted..]), "{model} at {limit}");
                    let (suffix, cut) = tokenizer.cut_start(text, limit).unwrap();
                    assert!(text.ends_with(suffix), "{model} at {limit}");
                    assert_eq!(cut, whole.len() > limit, "{model} at {limit}");
                    assert_eq!(compiled.cut_start(text, limit).unwrap(), (suffix, cut), "{model}");
                    let (prefix, cut) = tokenizer.cut(text, limit).unwrap();
                    assert_eq!(cut, whole.len() > limit && prefix.len() < text.len(), "{model}");
                    assert_eq!(compiled.ids(text, limit).unwrap(), bounded, "{model} at {limit}");
                    assert_eq!(compiled.cut(text, limit).unwrap(), (prefix, cut), "{model}");
                    let (few, rest) = bounded.split_at(limit.min(bounded.len()));
                    assert_eq!(compiled.single(few).unwrap(), tokenizer.single(few).unwrap());
                    let pair = tokenizer.pair(few, rest).unwrap();
                    assert_eq!(compiled.pair(few, rest).unwrap(), pair, "{model}");
                }
            }
        }
    }
}
