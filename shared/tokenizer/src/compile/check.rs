//! Tries an image against the `tokenizers` crate before it is given out.
//!
//! The texts are few and short, so that packing is not slow: they are there to notice a component that was taken for
//! something it is not. That all texts agree is shown by the tests of this crate.

use tokenizers::Tokenizer;

use super::reference::refused;
use crate::encode::Compiled;
use crate::error::CompileError;

const TEXTS: [&str; 24] = [
    "",
    " ",
    "  \t\n ",
    "Where do plants get their food?",
    " It's  what we'LL say, they\u{2019}ve SAID;  don't!\r\n\r\n  Twice\t",
    "3.14159, 1 000 and 2\u{b2} \u{bd} \u{2460} \u{ff11}\u{ff12}",
    "na\u{ef}ve cafe\u{301} \u{c5}ngstr\u{f6}m \u{212b} \u{130}stanbul \u{1e9e} stra\u{df}e",
    "\u{4e2d}\u{6587}\u{5b57}\u{7b26}\u{ff0c}\u{f900}\u{3002} \u{65e5}\u{672c}\u{8a9e}\u{30c6}\u{30ad}\u{30b9}\u{30c8} \u{d55c}\u{ad6d}\u{c5b4}",
    "\u{627}\u{644}\u{639}\u{631}\u{628}\u{64a}\u{651}\u{629} \u{5e2}\u{5b4}\u{5d1}\u{5e8}\u{5b4}\u{5d9}\u{5ea} \u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940} \u{e44}\u{e17}\u{e22}",
    "\u{1f600} \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{1f1e9}\u{1f1ea} \u{2764}\u{fe0f}",
    "\0\u{1}\u{7f}\u{85}\u{a0}\u{ad}\u{200b}\u{2028}\u{feff}\u{fffd}\u{10ffff}",
    "\u{2581}\u{2581}a \u{2581} b\u{2581}",
    "\u{301}a\u{327}\u{301} \u{1161}\u{11a8} \u{1112}\u{1161}\u{11ab} \u{302e}\u{323}",
    "\u{fb01}ne \u{2167} \u{3392} \u{fdfa} \u{2122}\u{1e}g",
    "fn main() { println!(\"{}\", x[0] + y->z); } // ====----",
    "https://example.org/a?b=c&d=%20#e <a@b.de>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "                                                                    x",
    "\n\n\n\n \n \n  \n\t\t\tx\r\n\r",
    "'s 'S 'T'RE'Ve 'lL 'd'M '\u{17f} 're\u{301}",
    "\u{3a3}\u{3a3}\u{3a3} \u{3bf}\u{3b4}\u{3cc}\u{3c2} \u{41f}\u{440}\u{438}\u{432}\u{435}\u{442} \u{10d2}\u{10d0}",
    "unaffable antidisestablishmentarianism xyzzy \u{16a0}\u{16a2}\u{16a6}",
    "a\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}b \u{e0}\u{323}",
    "<s> </s> [CLS] <mask> <|im_start|> <|endoftext|> [unused1]",
];

/// Compares ids, offsets and pairs; `added` are the added tokens.
pub(super) fn agree(
    compiled: &Compiled,
    reference: &Tokenizer,
    added: &[String],
) -> Result<(), CompileError> {
    for token in added {
        agree_on(compiled, reference, token)?;
        agree_on(compiled, reference, &format!("a {token}  {token}{token}b \n{token} "))?;
    }
    TEXTS.iter().try_for_each(|text| agree_on(compiled, reference, text))
}

fn agree_on(compiled: &Compiled, reference: &Tokenizer, text: &str) -> Result<(), CompileError> {
    let expected = reference.encode(text, false).map_err(refused)?;
    let found = compiled.encode(text);
    let pair = reference.post_process(expected.clone(), Some(expected.clone()), true);
    let pair = pair.map_err(refused)?;
    let found_pair = compiled.pair(&found.ids, &found.ids);
    if found.ids != expected.get_ids()
        || found.offsets != expected.get_offsets()
        || compiled.ids(text) != found.ids
        || found_pair.ids != pair.get_ids()
        || found_pair.types != pair.get_type_ids()
    {
        return Err(CompileError::unsupported(format!("it gives other tokens for {text:?}")));
    }
    Ok(())
}
