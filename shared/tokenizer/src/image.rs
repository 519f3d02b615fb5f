//! The bytes of a compiled tokenizer.
//!
//! All numbers are little-endian, every section starts at a multiple of 8 bytes, and nothing refers to an address. The
//! header is one page; opening an image reads nothing else.
//!
//! | bytes     | header                                                                       |
//! |-----------|------------------------------------------------------------------------------|
//! | 0-7       | magic                                                                        |
//! | 8-11      | version                                                                      |
//! | 12-15     | number of sections                                                           |
//! | 16-23     | bytes of the image                                                           |
//! | 24-231    | for each section: where it starts and how long it is, `u64` each              |
//! | 256-      | settings, see [`Settings`]                                                   |
//!
//! | section      | of                                     | holds                                              |
//! |--------------|----------------------------------------|----------------------------------------------------|
//! | `ClassIndex` | byte pairs, word pieces                | `u16` per 128 code points: which block             |
//! | `Classes`    | byte pairs, word pieces                | blocks of 128 bytes: properties of code points     |
//! | `AddedTrie`  | all                                    | trie of added tokens, to their place in `Added`    |
//! | `Added`      | all                                    | `u32` id and `u32` flags each                      |
//! | `Single`     | all                                    | what surrounds one text: `u32` kind, id, type each |
//! | `Pair`       | all                                    | the same for two texts                             |
//! | `Charsmap`   | normalizers with a `SentencePiece` map | its double array as it is                          |
//! | `MapTexts`   | "                                      | its replacements, each ended by a zero byte        |
//! | `Bytes`      | byte and character pairs               | `u32` id of each byte                              |
//! | `Merged`     | byte and character pairs               | `u32` id that the merge of each rank gives         |
//! | `Pairs`      | byte and character pairs               | hash table of merges, see [`crate::byte_pair`]     |
//! | `Trie`       | unigram, word pieces                   | trie of the vocabulary                             |
//! | "            | character pairs                        | trie of the characters that are tokens             |
//! | "            | byte pairs                             | trie of words that are tokens whatever is merged   |
//! | `Scores`     | unigram                                | `f64` score of each id                             |

use std::ops::Range;

use crate::error::FormatError;

/// A byte that is no UTF-8, a name, and a line end, as in snapshots.
const MAGIC: [u8; 8] = *b"\x89DFTOK\r\n";
/// Goes up with any change of the format, or of what the same bytes mean. A new value of a setting that earlier builds
/// refuse as unknown is neither: images made before stay as they are and open as before.
pub(crate) const VERSION: u32 = 1;
/// Bytes of the header: a page, so that the tables start on one of their own.
pub(crate) const HEADER: usize = 4096;
const TABLE: usize = 24;
const SETTINGS: usize = 256;
/// Sections start at multiples of this, the size of their largest numbers.
const ALIGN: usize = 8;
const SECTIONS: usize = 13;

/// A table inside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    ClassIndex,
    Classes,
    AddedTrie,
    Added,
    Single,
    Pair,
    Charsmap,
    MapTexts,
    Bytes,
    Merged,
    Pairs,
    Trie,
    Scores,
}

/// Numbers of the header beyond the sections. Each kind of tokenizer uses its own and leaves the others zero.
///
/// | bytes   | field         | meaning                                                                      |
/// |---------|---------------|------------------------------------------------------------------------------|
/// | 0-3     | `model`       | one of the constants in [`model`]                                            |
/// | 4-7     | `splitter`    | one of the constants in [`splitter`]                                         |
/// | 8-15    | `steps`       | normalizers in order, constants in [`step`], zero where there is none        |
/// | 16-19   | `largest_id`  | no larger id is ever given                                                   |
/// | 20-23   | `unknown`     | id of what the vocabulary lacks                                              |
/// | 24-31   | `unknown_score` | unigram: score of an unknown character, an `f64`                           |
/// | 32-35   | `longest_word`  | word pieces: characters beyond which a word is unknown                     |
/// | 36-39   | `prefix_len`  | word pieces: bytes of the prefix of pieces inside words                      |
/// | 64-95   | `prefix`      | that prefix                                                                  |
/// | 96-127  | `added_heads` | bit set of the first bytes of added tokens                                   |
/// | 128-143 | `plain`       | bit set of ASCII that a character map keeps                                  |
/// | 256-383 | `ascii`       | the properties of ASCII, a copy of what the class table says                 |
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) model: u32,
    pub(crate) splitter: u32,
    pub(crate) steps: [u8; 8],
    pub(crate) largest_id: u32,
    pub(crate) unknown: u32,
    pub(crate) unknown_score: f64,
    pub(crate) longest_word: u32,
    pub(crate) prefix_len: u32,
    pub(crate) prefix: [u8; MAX_PREFIX],
    pub(crate) added_heads: [u8; 32],
    pub(crate) plain: [u8; 16],
    pub(crate) ascii: [u8; 128],
}

/// Longest prefix of word pieces, in bytes; BERT's `##` has two.
pub(crate) const MAX_PREFIX: usize = 32;

/// Values of [`Settings::model`].
pub(crate) mod model {
    pub(crate) const BYTE_PAIR: u32 = 1;
    pub(crate) const UNIGRAM: u32 = 2;
    pub(crate) const WORD_PIECE: u32 = 3;
    pub(crate) const CHARACTER_PAIR: u32 = 4;
}

/// Values of [`Settings::splitter`].
pub(crate) mod splitter {
    pub(crate) const QWEN: u32 = 1;
    pub(crate) const GPT2: u32 = 2;
    pub(crate) const LLAMA3: u32 = 4;
    /// Digits are texts of their own before that; a flag beside [`GPT2`].
    pub(crate) const DIGITS: u32 = 1024;
    /// Nothing is split.
    pub(crate) const WHOLE: u32 = 32;
    /// Spans leave out the blanks at the ends of tokens; a flag beside splitters of byte pairs, see [`crate::trim`].
    pub(crate) const TRIMMED: u32 = 256;
    /// All but a single blank that starts a text; with [`TRIMMED`].
    pub(crate) const TRIMMED_PREFIX: u32 = 512;
    /// Both flags.
    pub(crate) const TRIMS: u32 = TRIMMED | TRIMMED_PREFIX;
    /// Blanks become `▁`; bit flags [`METASPACE_PREFIX`] and [`METASPACE_SPLIT`] follow.
    pub(crate) const METASPACE: u32 = 8;
    /// A text that does not start with one gets a `▁`.
    pub(crate) const METASPACE_PREFIX: u32 = 1;
    /// Every `▁` starts a piece.
    pub(crate) const METASPACE_SPLIT: u32 = 2;
    /// White space of any kind separates words, each of which is a text of its own; with both other flags.
    pub(crate) const METASPACE_WORDS: u32 = 4;
    /// Only what begins at byte 0 gets a `▁`; with [`METASPACE_PREFIX`], of character pairs.
    pub(crate) const METASPACE_FIRST: u32 = 16;
    pub(crate) const BERT: u32 = 3;
}

/// Values in [`Settings::steps`].
pub(crate) mod step {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const NFC: u8 = 1;
    pub(crate) const NFKC: u8 = 2;
    pub(crate) const CHARSMAP: u8 = 3;
    /// Each run of blanks becomes one.
    pub(crate) const COLLAPSE: u8 = 4;
    /// Each run of two blanks and more becomes one `▁`; always the last step.
    pub(crate) const COLLAPSE_MARKED: u8 = 5;
    /// White space at the end is removed.
    pub(crate) const TRIM_END: u8 = 6;
    /// Every text gets a `▁`, also one that starts with it.
    pub(crate) const PREPEND: u8 = 7;
    /// Every blank becomes a `▁`.
    pub(crate) const MARK: u8 = 8;
    /// BERT's; bit flags [`CLEAN`] and so on follow.
    pub(crate) const BERT: u8 = 16;
    pub(crate) const CLEAN: u8 = 1;
    pub(crate) const CHINESE: u8 = 2;
    pub(crate) const ACCENTS: u8 = 4;
    pub(crate) const LOWER: u8 = 8;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: 0,
            splitter: 0,
            steps: [step::NONE; 8],
            largest_id: 0,
            unknown: 0,
            unknown_score: 0.0,
            longest_word: 0,
            prefix_len: 0,
            prefix: [0; MAX_PREFIX],
            added_heads: [0; 32],
            plain: [0; 16],
            ascii: [0; 128],
        }
    }
}

impl Settings {
    fn write(&self, out: &mut [u8]) {
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.model.to_le_bytes());
        put(4, &self.splitter.to_le_bytes());
        put(8, &self.steps);
        put(16, &self.largest_id.to_le_bytes());
        put(20, &self.unknown.to_le_bytes());
        put(24, &self.unknown_score.to_bits().to_le_bytes());
        put(32, &self.longest_word.to_le_bytes());
        put(36, &self.prefix_len.to_le_bytes());
        put(64, &self.prefix);
        put(96, &self.added_heads);
        put(128, &self.plain);
        put(256, &self.ascii);
    }

    /// `None` if there are too few bytes.
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            model: u32::from_le_bytes(array(bytes, 0)?),
            splitter: u32::from_le_bytes(array(bytes, 4)?),
            steps: array(bytes, 8)?,
            largest_id: u32::from_le_bytes(array(bytes, 16)?),
            unknown: u32::from_le_bytes(array(bytes, 20)?),
            unknown_score: f64::from_bits(u64::from_le_bytes(array(bytes, 24)?)),
            longest_word: u32::from_le_bytes(array(bytes, 32)?),
            prefix_len: u32::from_le_bytes(array(bytes, 36)?),
            prefix: array(bytes, 64)?,
            added_heads: array(bytes, 96)?,
            plain: array(bytes, 128)?,
            ascii: array(bytes, 256)?,
        })
    }

    /// The prefix of word pieces.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix[..(self.prefix_len as usize).min(MAX_PREFIX)]
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Puts an image together.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) settings: Settings,
    sections: [Vec<u8>; SECTIONS],
}

impl Writer {
    pub(crate) fn set(&mut self, section: Section, bytes: Vec<u8>) {
        self.sections[section as usize] = bytes;
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        let mut table = Vec::new();
        for section in self.sections {
            table.extend((out.len() as u64).to_le_bytes());
            table.extend((section.len() as u64).to_le_bytes());
            out.extend(section);
            out.resize(out.len().next_multiple_of(ALIGN), 0);
        }
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&u32::try_from(SECTIONS).unwrap_or_default().to_le_bytes());
        let len = out.len() as u64;
        out[16..24].copy_from_slice(&len.to_le_bytes());
        out[TABLE..TABLE + table.len()].copy_from_slice(&table);
        self.settings.write(&mut out[SETTINGS..HEADER]);
        out
    }
}

/// Where the sections of an opened image lie. All ranges are inside it.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    ranges: [Range<usize>; SECTIONS],
}

impl Layout {
    pub(crate) fn range(&self, section: Section) -> Range<usize> {
        self.ranges[section as usize].clone()
    }
}

/// Checks a header: nothing else of `bytes` is read.
pub(crate) fn read(bytes: &[u8]) -> Result<(Layout, Settings), FormatError> {
    if array(bytes, 0) != Some(MAGIC) {
        return Err(FormatError::Foreign);
    }
    let short = FormatError::Damaged("its header is cut off");
    let word = |at| array(bytes, at).map(u32::from_le_bytes).ok_or_else(|| short.clone());
    let found = word(8)?;
    if found != VERSION {
        return Err(FormatError::Version { found, expected: VERSION });
    }
    if word(12)? as usize != SECTIONS || bytes.len() < HEADER {
        return Err(short);
    }
    let long = |at| array(bytes, at).map(u64::from_le_bytes).and_then(|n| usize::try_from(n).ok());
    if long(16) != Some(bytes.len()) {
        return Err(FormatError::Damaged("its length is not the one its header says"));
    }
    let outside = FormatError::Damaged("a section lies outside of it");
    let mut ranges: [Range<usize>; SECTIONS] = std::array::from_fn(|_| 0..0);
    for (index, range) in ranges.iter_mut().enumerate() {
        let start = long(TABLE + 16 * index).ok_or_else(|| outside.clone())?;
        let len = long(TABLE + 16 * index + 8).ok_or_else(|| outside.clone())?;
        let end = start.checked_add(len).filter(|&end| end <= bytes.len());
        *range = start..end.ok_or_else(|| outside.clone())?;
        if start < HEADER || start % ALIGN != 0 {
            return Err(FormatError::Damaged("a section does not start at a multiple of 8"));
        }
    }
    let settings = Settings::read(&bytes[SETTINGS..]).ok_or(short)?;
    Ok((Layout { ranges }, settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<u8> {
        let mut writer = Writer::default();
        writer.settings.model = model::UNIGRAM;
        writer.settings.unknown_score = -12.5;
        writer.set(Section::Trie, vec![1, 2, 3]);
        writer.set(Section::Scores, vec![4; 16]);
        writer.finish()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = image();
        let (layout, settings) = read(&bytes).unwrap();
        assert_eq!(bytes[layout.range(Section::Trie)], [1, 2, 3]);
        assert_eq!(bytes[layout.range(Section::Scores)], [4; 16]);
        assert_eq!((settings.model, settings.unknown_score), (model::UNIGRAM, -12.5));
        assert_eq!(layout.range(Section::Scores).start % ALIGN, 0);
    }

    #[test]
    fn other_bytes_are_refused_for_what_they_are() {
        let edited = |at: usize, bytes: &[u8]| {
            let mut image = image();
            image[at..at + bytes.len()].copy_from_slice(bytes);
            read(&image).unwrap_err()
        };
        assert_eq!(read(b"{}").unwrap_err(), FormatError::Foreign);
        assert_eq!(edited(0, b"{"), FormatError::Foreign);
        assert_eq!(edited(8, &[9]), FormatError::Version { found: 9, expected: VERSION });
        assert!(matches!(edited(16, &[9]), FormatError::Damaged(_)));
        assert!(matches!(edited(TABLE, &[0xff; 8]), FormatError::Damaged(_)));
        assert!(matches!(edited(TABLE + 8, &[0xff; 4]), FormatError::Damaged(_)));
        assert!(matches!(edited(TABLE, &[4]), FormatError::Damaged(_)));
        let image = image();
        for len in 0..image.len() {
            assert!(read(&image[..len]).is_err());
        }
    }
}
