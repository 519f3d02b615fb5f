//! The bytes that each token stands for, as one table.
//!
//! Text is streamed token by token, and a token is not always whole characters, so what is needed of a vocabulary is bytes.
//! They are made of tokenizer.json's vocabulary by its decoder, once: [`Pieces::compile`] reads nothing else of the file
//! (no merges, no scores, which are most of it) and gives an image, which a snapshot may hold so that a start only maps it.
//!
//! | bytes of the image | what                                                                    |
//! |--------------------|-------------------------------------------------------------------------|
//! | 0-7                | magic                                                                   |
//! | 8-15               | `u32` number of tokens, `u32` zero                                      |
//! | then               | `u32` for each token and one more: where its bytes begin                |
//! | then               | a bit for each token, lowest first: whether it is a special one         |
//! | then               | the bytes of all tokens                                                 |
//!
//! What a decoder does at the start of a text (`Strip`, `Metaspace`) is left out: a completion goes on from a prompt, and a
//! blank before its first word belongs to it.

mod decoders;
mod file;

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;

use crate::Error;

const MAGIC: [u8; 8] = *b"\x89DFPCS\r\n";
const HEADER: usize = 16;

/// See the module page.
#[derive(Debug, Clone)]
pub struct Pieces {
    image: Bytes,
    count: usize,
}

impl Pieces {
    /// The image of a tokenizer.json's vocabulary. Equal input gives equal bytes.
    ///
    /// # Errors
    /// If the file is damaged, or its decoder joins tokens in a way that depends on more than each of them.
    pub fn compile(tokenizer_json: &[u8]) -> Result<Vec<u8>, Error> {
        let file = file::read(tokenizer_json)?;
        let decoder = decoders::Decoder::of(file.decoder.as_ref(), file.is_byte_level)?;
        let count = file.tokens.keys().next_back().map_or(0, |&id| id as usize + 1);
        let too_many =
            || Error::Tokenizer("tokenizer.json: the vocabulary is too large".to_owned());
        // Far beyond any vocabulary; a damaged id must not ask for memory.
        if count > 1 << 24 {
            return Err(too_many());
        }
        let mut image = MAGIC.to_vec();
        image.extend(u32::try_from(count).map_err(|_| too_many())?.to_le_bytes());
        image.extend([0; 4]);
        let mut special = vec![0u8; count.div_ceil(8)];
        let mut bytes = Vec::new();
        for id in 0u32.. {
            image.extend(u32::try_from(bytes.len()).map_err(|_| too_many())?.to_le_bytes());
            if id as usize == count {
                break;
            }
            if let Some(token) = file.tokens.get(&id) {
                bytes.extend(decoder.bytes(&token.text, token.is_added));
                if token.is_special {
                    special[id as usize / 8] |= 1 << (id % 8);
                }
            }
        }
        image.extend(special);
        image.extend(bytes);
        Ok(image)
    }

    /// Opens an image; reads its header only. What is damaged beyond that gives wrong bytes, but no panic.
    ///
    /// # Errors
    /// If it is none.
    pub fn open(image: Bytes) -> Result<Self, Error> {
        let wrong = |what: &str| Err(Error::Tokenizer(format!("the table of tokens {what}")));
        if image.get(..8) != Some(&MAGIC) {
            return wrong("is of another version; pack the model again");
        }
        let Some(count) = word(&image, 8).map(|count| count as usize) else {
            return wrong("is cut off");
        };
        if image.len() < HEADER + (count + 1) * 4 + count.div_ceil(8) {
            return wrong("is cut off");
        }
        Ok(Self { image, count })
    }

    /// One more than the largest id.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes that a token stands for, those of its name if it is a special one; none if there is no such token.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.range(id).and_then(|range| self.image.get(range)).unwrap_or_default()
    }

    fn range(&self, id: u32) -> Option<Range<usize>> {
        let id = id as usize;
        let texts = HEADER + (self.count + 1) * 4 + self.count.div_ceil(8);
        let at = |id: usize| Some(texts + word(&self.image, HEADER + id * 4)? as usize);
        if id < self.count { Some(at(id)?..at(id + 1)?) } else { None }
    }

    /// Whether a token is one of the tokenizer's special ones, which stand for no text.
    pub fn is_special(&self, id: u32) -> bool {
        let bits = HEADER + (self.count + 1) * 4;
        let (id, byte) = (id as usize, bits + id as usize / 8);
        id < self.count && self.image.get(byte).is_some_and(|byte| byte >> (id % 8) & 1 == 1)
    }

    /// The special tokens.
    pub fn special(&self) -> BTreeSet<u32> {
        (0..).take(self.count).filter(|&id| self.is_special(id)).collect()
    }

    /// The text that tokens stand for, with U+FFFD for what is no UTF-8.
    pub fn text(&self, ids: &[u32], skip_special: bool) -> String {
        let ids = ids.iter().filter(|&&id| !(skip_special && self.is_special(id)));
        let bytes: Vec<u8> = ids.flat_map(|&id| self.bytes(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let found = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(found.try_into().ok()?))
}

#[cfg(test)]
mod tests;
