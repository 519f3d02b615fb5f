//! Tokenizers compiled to an image that is read in place.
//!
//! A tokenizer.json is megabytes of text: the `tokenizers` crate takes up to a second and 50 MB of memory to make hash
//! tables of it, at every start of a process that may answer a single request. `compile` does that work once, when a
//! model is packed. What it gives, an image, is laid out so that [`Compiled`] can look things up in a mapped file as it
//! is: opening one checks a header of one page, and a short text touches some dozens of pages of tables.
//!
//! Ids and offsets are those of the `tokenizers` crate, for every text. Three things see to that:
//!
//! * Properties of characters come from the very code that the crate uses, asked once for every code point.
//! * `compile` takes only what is known to be reproduced, component by component and setting by setting, and tries the
//!   result against the crate before it gives it out. All else is [`CompileError::Unsupported`], and the caller keeps
//!   using the crate.
//! * Tests compare both on real text in several languages, on every code point, and on millions of made-up texts.
//!
//! | kind            | normalizer                               | split                              | such as               |
//! |-----------------|------------------------------------------|------------------------------------|-----------------------|
//! | byte pairs      | none, NFC                                | patterns of Qwen, Llama 3, GPT-2;  | Qwen3, Llama 3,       |
//! |                 |                                          | at digits before GPT-2's           | `SmolLM`, RoBERTa     |
//! | character pairs | `▁` in front and for blanks              | not at all                         | Llama 2, Gemma        |
//! | unigram         | character map, NFC, NFKC, runs of blanks | at blanks                          | XLM-RoBERTa           |
//! | word pieces     | BERT's                                   | BERT's                             | BERT, `MiniLM`        |
//!
//! A text takes this way: added tokens are cut out (`added`); what is between them is normalized (`normalize`), cut
//! into pieces (`split`, `words`), and the pieces become tokens (`byte_pair`, `unigram`, `word_piece`), from whose spans
//! blanks may be left out (`trim`); special tokens around texts come last (`template`). The format is described in `image`.
//!
//! Nothing in an image is trusted: all indices are checked, and all loops end after an amount of work that depends on
//! the text alone. A damaged image gives wrong ids, none above [`Compiled::largest_id`], but no panic.

mod added;
mod byte_pair;
mod character_map;
mod classes;
mod compile;
mod encode;
mod error;
mod image;
mod normalize;
mod split;
mod template;
mod trie;
mod trim;
mod unigram;
mod view;
mod word_piece;
mod words;

pub use character_map::{CharacterMap, CharacterMapError};
pub use compile::compile;
pub use encode::{Compiled, Encoded};
pub use error::{CompileError, FormatError};
pub use template::Sequence;
