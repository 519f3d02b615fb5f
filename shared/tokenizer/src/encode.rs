//! An opened image, and the way of a text through it.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::added::{Added, Part};
use crate::byte_pair::{Merges, Symbol};
use crate::classes::{Classes, split as class};
use crate::error::FormatError;
use crate::image::{self, Layout, Section, Settings, model, splitter, step};
use crate::normalize::bert::Bert;
use crate::normalize::charsmap::Charsmap;
use crate::normalize::{Compatible, Composed, Span, Text};
use crate::split::{self, Pattern, Scanner};
use crate::template::{Sequence, Template};
use crate::trie::Trie;
use crate::trim::{Ends, Trim};
use crate::unigram::{Best, Unigram};
use crate::view::{Longs, Words};
use crate::word_piece::WordPiece;
use crate::words;

/// A tokenizer over the bytes of an image. Cheap to clone; any number of threads may use it at once.
#[derive(Debug, Clone)]
pub struct Compiled {
    bytes: Bytes,
    layout: Layout,
    settings: Box<Settings>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    BytePair { pattern: Pattern, digits: bool, trim: Option<Trim> },
    CharacterPair { blanks: Option<Prefix> },
    Unigram { blanks: Blanks, split: bool },
    WordPiece,
}

/// Which texts get a `▁` where blanks become that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    None,
    All,
    First,
}

/// How blanks become `▁`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blanks {
    Marked { prefix: bool },
    Words,
}

/// The tokens of a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoded {
    /// The token ids.
    pub ids: Vec<u32>,
    /// The first byte of each token in the text, and the byte after its last; where the tokenizer says so, without the
    /// blanks at its ends.
    pub offsets: Vec<(usize, usize)>,
}

/// What the parts of a text need again and again.
#[derive(Default)]
struct Scratch {
    symbols: Vec<Symbol>,
    best: Vec<Best>,
    pieces: Vec<(u32, usize, usize)>,
}

/// Collects tokens.
struct Output {
    encoded: Encoded,
    tracked: bool,
    largest_id: u32,
    /// The trimming of spans; `None` if they stay as they are, or the caller does not ask for them.
    trim: Option<Trim>,
    /// The start of the part that is being encoded, in bytes of the text.
    shift: usize,
}

impl Output {
    fn push(&mut self, id: u32, (start, end): Span) {
        self.encoded.ids.push(id.min(self.largest_id));
        if self.tracked {
            self.encoded.offsets.push((self.shift + start, self.shift + end));
        }
    }

    /// Leaves the blanks at its ends out of the span of the token pushed last.
    fn trim(&mut self, ends: impl FnOnce() -> Ends) {
        let Some(trim) = self.trim else { return };
        let is_first = self.encoded.offsets.len() == 1;
        if let Some(span) = self.encoded.offsets.last_mut() {
            *span = trim.apply(*span, ends(), is_first);
        }
    }
}

impl Compiled {
    /// Opens an image. Takes microseconds: only the header, one page, is read.
    pub fn open(bytes: Bytes) -> Result<Self, FormatError> {
        let (layout, settings) = image::read(&bytes)?;
        let kind = match (settings.model, settings.splitter) {
            (model::BYTE_PAIR, kind) => {
                let (trim, digits) = (Trim::of(kind), kind & splitter::DIGITS != 0);
                let pattern = match kind & !(splitter::TRIMS | splitter::DIGITS) {
                    splitter::QWEN if !digits => Pattern::Qwen,
                    splitter::LLAMA3 if !digits => Pattern::Llama3,
                    splitter::GPT2 => Pattern::Gpt2,
                    _ => return Err(FormatError::Damaged("it is of no known kind")),
                };
                Kind::BytePair { pattern, digits, trim }
            }
            (model::CHARACTER_PAIR, splitter::WHOLE) => Kind::CharacterPair { blanks: None },
            (model::CHARACTER_PAIR, kind)
                if kind & !(splitter::METASPACE_PREFIX | splitter::METASPACE_FIRST)
                    == splitter::METASPACE =>
            {
                let has = |flag| kind & flag != 0;
                let prefix = match (has(splitter::METASPACE_PREFIX), has(splitter::METASPACE_FIRST))
                {
                    (false, _) => Prefix::None,
                    (true, false) => Prefix::All,
                    (true, true) => Prefix::First,
                };
                Kind::CharacterPair { blanks: Some(prefix) }
            }
            (model::UNIGRAM, kind) if kind & !7 == splitter::METASPACE => {
                let prefix = kind & splitter::METASPACE_PREFIX != 0;
                let is_words = kind & splitter::METASPACE_WORDS != 0;
                Kind::Unigram {
                    blanks: if is_words { Blanks::Words } else { Blanks::Marked { prefix } },
                    split: kind & splitter::METASPACE_SPLIT != 0,
                }
            }
            (model::WORD_PIECE, splitter::BERT) => Kind::WordPiece,
            _ => return Err(FormatError::Damaged("it is of no known kind")),
        };
        let slots = layout.range(Section::Pairs).len() / size_of::<u64>();
        if slots != 0 && !slots.is_power_of_two() {
            return Err(FormatError::Damaged("its table of merges has a wrong size"));
        }
        Ok(Self { bytes, layout, settings: Box::new(settings), kind })
    }

    /// The ids of a text, without special tokens around it.
    pub fn ids(&self, text: &str) -> Vec<u32> {
        self.run(text, false).ids
    }

    /// The ids of a text and where each token lies in it, without special tokens around it. A few times slower than
    /// [`Compiled::ids`].
    pub fn encode(&self, text: &str) -> Encoded {
        self.run(text, true)
    }

    /// How many special tokens [`Compiled::single`], or for a pair [`Compiled::pair`], adds.
    pub fn added(&self, pair: bool) -> usize {
        self.template(if pair { Section::Pair } else { Section::Single }).added()
    }

    /// One text with special tokens around it.
    pub fn single(&self, ids: &[u32]) -> Sequence {
        self.template(Section::Single).fill(ids, &[], self.settings.largest_id)
    }

    /// Two texts with special tokens around and between them.
    pub fn pair(&self, first: &[u32], second: &[u32]) -> Sequence {
        self.template(Section::Pair).fill(first, second, self.settings.largest_id)
    }

    /// The largest id it can give.
    pub fn largest_id(&self) -> u32 {
        self.settings.largest_id
    }

    fn section(&self, section: Section) -> &[u8] {
        self.bytes.get(self.layout.range(section)).unwrap_or_default()
    }

    fn template(&self, section: Section) -> Template<'_> {
        Template(Words::new(self.section(section)))
    }

    fn classes(&self) -> Classes<'_> {
        let (index, blocks) = (self.section(Section::ClassIndex), self.section(Section::Classes));
        Classes::new(&self.settings.ascii, index, blocks)
    }

    fn run(&self, text: &str, tracked: bool) -> Encoded {
        let mut scratch = Scratch::default();
        let mut out = Output {
            encoded: Encoded::default(),
            tracked,
            largest_id: self.settings.largest_id,
            trim: match self.kind {
                Kind::BytePair { trim, .. } if tracked => trim,
                _ => None,
            },
            shift: 0,
        };
        let added = Added {
            heads: &self.settings.added_heads,
            trie: Trie::new(self.section(Section::AddedTrie)),
            tokens: Words::new(self.section(Section::Added)),
        };
        // Most texts of a few bytes a token: growing twice is cheaper than touching memory that is not needed.
        out.encoded.ids.reserve(text.len() / 6 + 4);
        added.split(text, |part| match part {
            Part::Token(id, Range { start, end }) => {
                out.shift = 0;
                out.push(id, (start, end));
                out.trim(|| Ends::of_text(&text[start..end]));
            }
            Part::Text(range) => {
                out.shift = range.start;
                let mut part = Text::new(&text[range], tracked);
                self.normalize(&mut part);
                match self.kind {
                    Kind::BytePair { pattern, digits: false, .. } => {
                        let whole = 0..part.chars.len();
                        self.byte_pair(&part, whole, pattern, &mut scratch, &mut out);
                    }
                    Kind::BytePair { pattern, .. } => {
                        split::digits(&part.chars, self.classes(), |start, end| {
                            self.byte_pair(&part, start..end, pattern, &mut scratch, &mut out);
                        });
                    }
                    Kind::CharacterPair { blanks } => {
                        if let Some(prefix) = blanks {
                            let is_first = prefix == Prefix::First && out.shift == 0;
                            words::mark_blanks(&mut part, prefix == Prefix::All || is_first);
                        }
                        self.character_pair(&part, &mut scratch, &mut out);
                    }
                    Kind::Unigram { blanks, split } => {
                        match blanks {
                            Blanks::Marked { prefix } => words::mark_blanks(&mut part, prefix),
                            Blanks::Words => words::mark_words(&mut part),
                        }
                        self.unigram(&part, split, &mut scratch, &mut out);
                    }
                    Kind::WordPiece => self.word_piece(&part, &mut scratch, &mut out),
                }
            }
        });
        out.encoded
    }

    fn normalize(&self, text: &mut Text<'_>) {
        for &step in self.settings.steps.iter().take_while(|&&step| step != step::NONE) {
            match step {
                // Of ASCII, every form is the text itself.
                step::NFC | step::NFKC if text.chars.is_ascii() => {}
                step::NFC if self.is_composed(&text.chars) => {}
                step::NFC => text.apply(&Composed),
                step::NFKC => text.apply(&Compatible),
                step::CHARSMAP => text.apply(&Charsmap {
                    units: Words::new(self.section(Section::Charsmap)),
                    texts: self.section(Section::MapTexts),
                    plain: &self.settings.plain,
                }),
                step::COLLAPSE | step::COLLAPSE_MARKED => text.collapse_blanks(),
                step::TRIM_END => text.trim_end(),
                step::PREPEND => text.prepend(words::BLANK),
                step::MARK => words::mark_blanks(text, false),
                flags if flags & step::BERT != 0 => {
                    Bert { classes: self.classes(), flags }.apply(text);
                }
                _ => {}
            }
        }
    }

    /// Whether no character can change under NFC. Only byte-pair tokenizers have the flag in their classes.
    fn is_composed(&self, text: &str) -> bool {
        let classes = self.classes();
        matches!(self.kind, Kind::BytePair { .. })
            && text.chars().all(|c| classes.of(c) & class::COMPOSED != 0)
    }

    fn merges(&self) -> Merges<'_> {
        Merges {
            bytes: Words::new(self.section(Section::Bytes)),
            merged: Words::new(self.section(Section::Merged)),
            pairs: Longs::new(self.section(Section::Pairs)),
            trie: Trie::new(self.section(Section::Trie)),
        }
    }

    /// Appends the tokens of a part of the text, which is split as if nothing were beside it.
    fn byte_pair(
        &self,
        text: &Text<'_>,
        part: Range<usize>,
        pattern: Pattern,
        scratch: &mut Scratch,
        out: &mut Output,
    ) {
        let merges = self.merges();
        let chars = &text.chars[part.clone()];
        let scanner = Scanner { text: chars, classes: self.classes(), pattern };
        let bytes = chars.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let end = scanner.piece_end(at);
            merges.encode(bytes.get(at..end).unwrap_or_default(), &mut scratch.symbols);
            for symbol in &scratch.symbols {
                let after = at + symbol.len;
                out.push(symbol.id, text.span(part.start + at, part.start + after));
                out.trim(|| Ends::of_bytes(bytes.get(at..after).unwrap_or_default()));
                at = after;
            }
            at = end;
        }
    }

    fn character_pair(&self, text: &Text<'_>, scratch: &mut Scratch, out: &mut Output) {
        self.merges().encode_characters(&text.chars, &mut scratch.symbols);
        let mut at = 0;
        for symbol in &scratch.symbols {
            out.push(symbol.id, text.span(at, at + symbol.len));
            at += symbol.len;
        }
    }

    fn unigram(&self, text: &Text<'_>, split: bool, scratch: &mut Scratch, out: &mut Output) {
        let unigram = Unigram {
            trie: Trie::new(self.section(Section::Trie)),
            scores: Longs::new(self.section(Section::Scores)),
            unknown: self.settings.unknown,
            unknown_score: self.settings.unknown_score,
        };
        let Scratch { best, pieces, .. } = scratch;
        let mut encode = |start: usize, end: usize| {
            pieces.clear();
            unigram.encode(&text.chars[start..end], best, pieces);
            for &(id, from, to) in &*pieces {
                out.push(id, text.span(start + from, start + to));
            }
        };
        if split {
            words::marked_pieces(&text.chars, encode);
        } else {
            encode(0, text.chars.len());
        }
    }

    fn word_piece(&self, text: &Text<'_>, scratch: &mut Scratch, out: &mut Output) {
        let trie = Trie::new(self.section(Section::Trie));
        let word_piece = WordPiece {
            trie,
            inside: trie.walk(trie.root(), self.settings.prefix()),
            unknown: self.settings.unknown,
            longest_word: self.settings.longest_word as usize,
        };
        let chars: &Cow<'_, str> = &text.chars;
        words::bert_words(chars, self.classes(), |start, end| {
            word_piece.encode(&chars[start..end], &mut scratch.pieces);
            for &(id, from, to) in &scratch.pieces {
                out.push(id, text.span(start + from, start + to));
            }
        });
    }
}
