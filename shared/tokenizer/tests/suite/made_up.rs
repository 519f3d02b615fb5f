//! Texts made to find differences: pieces of every kind that matters to some step, put together at random.

/// A small, fast source of numbers that are the same in every run.
pub(super) struct Source(u64);

impl Source {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }

    pub(super) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn one<'a>(&mut self, list: &'a [String]) -> &'a str {
        &list[self.below(list.len())]
    }

    fn within(&mut self, first: u32, last: u32) -> char {
        let code = first + u32::try_from(self.below((last - first + 1) as usize)).unwrap();
        char::from_u32(code).unwrap_or('\u{e000}')
    }
}

const SPACES: &str = " \t\n\r\u{b}\u{c}\u{85}\u{a0}\u{1680}\u{2003}\u{2009}\u{200b}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}\u{180e}";
const CONTRACTIONS: [&str; 14] = [
    "'s",
    "'S",
    "'t",
    "'re",
    "'RE",
    "'vE",
    "'m",
    "'ll",
    "'Ll",
    "'d",
    "'\u{17f}",
    "\u{2019}s",
    "'",
    "''s",
];
const WORDS: [&str; 16] = [
    "the",
    "plants",
    "Photosynthesis",
    "food",
    "\u{c4}rger",
    "stra\u{df}e",
    "\u{41c}\u{43e}\u{441}\u{43a}\u{432}\u{430}",
    "\u{3a3}\u{3af}\u{3c3}\u{3c5}\u{3c6}\u{3bf}\u{3c2}",
    "\u{627}\u{644}\u{639}\u{631}\u{628}\u{64a}\u{629}",
    "\u{4e2d}\u{6587}",
    "\u{6771}\u{4eac}\u{90fd}",
    "\u{d55c}\u{ad6d}\u{c5b4}",
    "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}",
    "\u{e44}\u{e17}\u{e22}",
    "\u{130}stanbul",
    "na\u{ef}ve",
];

/// A text of up to some 200 characters. `special` are texts of added tokens, `real` real sentences, which may be none.
pub(super) fn text(source: &mut Source, special: &[String], real: &[String]) -> String {
    let mut text = String::new();
    for _ in 0..=source.below(12) {
        part(source, special, real, &mut text);
    }
    text
}

fn part(source: &mut Source, special: &[String], real: &[String], out: &mut String) {
    match source.below(17) {
        0 => out.extend((0..=source.below(6)).map(|_| source.within(0, 0x10_ffff))),
        1 => out.extend((0..=source.below(6)).map(|_| source.within(0, 0xffff))),
        2 => out.extend((0..=source.below(10)).map(|_| source.within(0x20, 0x7e))),
        3 => {
            // A letter with marks, more than compose and out of order.
            out.push(source.within(0x41, 0x24f));
            out.extend((0..=source.below(5)).map(|_| source.within(0x300, 0x36f)));
        }
        4 => {
            let spaces: Vec<char> = SPACES.chars().collect();
            out.extend((0..=source.below(5)).map(|_| source.of(&spaces)));
        }
        5 => out.extend(std::iter::repeat_n(
            source.of(&[' ', '\n', '\t', '\u{3000}']),
            source.below(9),
        )),
        6 => out.extend((0..=source.below(3)).map(|_| source.within(0, 0x9f))),
        7 if !special.is_empty() => {
            let token = source.one(special);
            // Whole, or a part of it.
            let chars: Vec<char> = token.chars().collect();
            let (start, end) = match source.below(4) {
                0 => (source.below(chars.len()), chars.len()),
                1 => (0, source.below(chars.len()) + 1),
                _ => (0, chars.len()),
            };
            out.extend(&chars[start.min(end)..end]);
        }
        8 => {
            out.push_str(source.of(&WORDS));
            out.push_str(source.of(&CONTRACTIONS));
        }
        9 if !real.is_empty() => mutated(source, real, out),
        10 => {
            let c = source.within(0x21, 0x2fff);
            out.extend(std::iter::repeat_n(c, source.below(40)));
        }
        // Jamo, in and out of order; Indic and Tibetan signs; musical symbols that decompose.
        11 => out.extend((0..=source.below(5)).map(|_| source.within(0x1100, 0x11ff))),
        12 => {
            let (first, last) = source.of(&[
                (0x900, 0xdff),
                (0xf00, 0xfff),
                (0x1d15e, 0x1d1c0),
                (0xac00, 0xd7a3),
                (0xf900, 0xfaff),
                (0x1f1e6, 0x1f1ff),
                (0x1f3fb, 0x1f6ff),
                (0x2f800, 0x2fa1f),
                (0xff00, 0xffef),
                (0x3040, 0x30ff),
                (0x200b, 0x2064),
                (0xe0020, 0xe007f),
                (0x302a, 0x302f),
                (0x1ab0, 0x1aff),
                (0x600, 0x6ff),
            ]);
            out.extend((0..=source.below(6)).map(|_| source.within(first, last)));
        }
        13 => {
            let first = source.of(&['\u{1f468}', '\u{2764}', '\u{1f3f4}']);
            out.push(first);
            out.extend(
                (0..source.below(4))
                    .flat_map(|_| ['\u{200d}', source.within(0x1f466, 0x1f469), '\u{fe0f}']),
            );
        }
        14 => {
            let digits = format!("{} {}", source.next() % 100_000, source.next() % 10);
            out.push_str(&digits);
        }
        15 => {
            out.extend(
                (0..source.below(4)).map(|_| source.of(&['\u{2581}', ' ', 'a', '\u{2581}'])),
            );
        }
        _ => {
            out.push_str(source.of(&WORDS));
            out.push(source.of(&[' ', ' ', '.', ',', '-', '\n', '\u{3002}', '\u{2581}']));
        }
    }
}

/// A stretch of a real sentence in which some characters are lost, doubled, or others.
fn mutated(source: &mut Source, real: &[String], out: &mut String) {
    let chars: Vec<char> = source.one(real).chars().collect();
    let start = source.below(chars.len());
    for &c in chars[start..].iter().take(source.below(60)) {
        match source.below(30) {
            0 => {}
            1 => out.extend([c, c]),
            2 => out.push(source.within(0x20, 0x3ff)),
            3 => out.extend(c.to_uppercase()),
            _ => out.push(c),
        }
    }
}

/// Long texts, on which work must not grow with the square.
pub(super) fn long_texts() -> Vec<String> {
    vec![
        "a".repeat(1 << 20),
        " ".repeat(1 << 19),
        "\n".repeat(1 << 19),
        " \n".repeat(1 << 18),
        "\u{4e2d}\u{6587}".repeat(1 << 16),
        "e\u{301}\u{323}".repeat(1 << 16),
        "ab1 ".repeat(1 << 17),
        "\u{301}".repeat(1 << 12),
        "<|im_".repeat(1 << 16),
        "=".repeat(1 << 19),
    ]
}
