//! Compiles the normalizer and the pre-tokenizer.

use serde_json::{Value, json};

use super::charsmap;
use super::json::Object;
use crate::error::CompileError;
use crate::image::{Settings, Writer, model, splitter, step};

const QWEN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BLANK: &str = "\u{2581}";

pub(super) fn normalizer(value: Option<&Value>, writer: &mut Writer) -> Result<(), CompileError> {
    let mut steps = Vec::new();
    if let Some(value) = value {
        add_steps(Object::of(value, "the normalizer")?, &mut steps, writer)?;
    }
    if steps.len() > writer.settings.steps.len() {
        return Err(CompileError::unsupported("a normalizer of many steps"));
    }
    writer.settings.steps[..steps.len()].copy_from_slice(&steps);
    Ok(())
}

fn add_steps(
    object: Object<'_>,
    steps: &mut Vec<u8>,
    writer: &mut Writer,
) -> Result<(), CompileError> {
    let step = match object.text("type")? {
        "Sequence" => {
            object.only(&["type", "normalizers"])?;
            for value in object.list("normalizers")? {
                add_steps(Object::of(value, "the normalizer")?, steps, writer)?;
            }
            return Ok(());
        }
        "NFC" => {
            object.only(&["type"])?;
            step::NFC
        }
        "NFKC" => {
            object.only(&["type"])?;
            step::NFKC
        }
        "Precompiled" => {
            object.only(&["type", "precompiled_charsmap"])?;
            if steps.contains(&step::CHARSMAP) {
                return Err(CompileError::unsupported("two character maps"));
            }
            charsmap::compile(object.text("precompiled_charsmap")?, writer)?;
            step::CHARSMAP
        }
        "Replace" => {
            object.only(&["type", "pattern", "content"])?;
            let is = |pattern: &Value| object.get("pattern") == Some(pattern);
            match object.text("content")? {
                BLANK if is(&json!({"String": " "})) => step::MARK,
                _ if !is(&json!({"Regex": " {2,}"})) => return Err(object.wrong("pattern")),
                " " => step::COLLAPSE,
                BLANK => step::COLLAPSE_MARKED,
                _ => return Err(object.wrong("content")),
            }
        }
        "Prepend" => {
            object.only(&["type", "prepend"])?;
            if object.text("prepend")? != BLANK {
                return Err(object.wrong("prepend"));
            }
            step::PREPEND
        }
        "Strip" => {
            object.only(&["type", "strip_left", "strip_right"])?;
            let sides = [object.boolean("strip_left", None)?, object.boolean("strip_right", None)?];
            match sides {
                [false, true] => step::TRIM_END,
                _ => return Err(object.wrong("strip_left")),
            }
        }
        "BertNormalizer" => bert(object)?,
        _ => return Err(object.wrong("type")),
    };
    steps.push(step);
    Ok(())
}

fn bert(object: Object<'_>) -> Result<u8, CompileError> {
    let fields = ["type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"];
    object.only(&fields)?;
    let lower = object.boolean("lowercase", None)?;
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    Ok(step::BERT
        | flag(object.boolean("clean_text", None)?, step::CLEAN)
        | flag(object.boolean("handle_chinese_chars", None)?, step::CHINESE)
        | flag(object.boolean("strip_accents", Some(lower))?, step::ACCENTS)
        | flag(lower, step::LOWER))
}

pub(super) fn splitter(value: Option<&Value>, writer: &mut Writer) -> Result<(), CompileError> {
    let is_characters = writer.settings.model == model::CHARACTER_PAIR;
    let Some(value) = value else {
        if !is_characters {
            return Err(CompileError::unsupported("a tokenizer without pre-tokenizer"));
        }
        writer.settings.splitter = splitter::WHOLE;
        return Ok(());
    };
    let object = Object::of(value, "the pre-tokenizer")?;
    let mut parts = Vec::new();
    if object.text("type")? == "Sequence" {
        object.only(&["type", "pretokenizers"])?;
        for value in object.list("pretokenizers")? {
            parts.push(Object::of(value, "the pre-tokenizer")?);
        }
    } else {
        parts.push(object);
    }
    let kinds = parts.iter().map(|part| part.text("type")).collect::<Result<Vec<_>, _>>()?;
    writer.settings.splitter = match (kinds.as_slice(), parts.as_slice()) {
        (["Split", "ByteLevel"], [split, bytes]) => {
            split.only(&["type", "pattern", "behavior", "invert"])?;
            let is = |pattern: &str| split.get("pattern") == Some(&json!({ "Regex": pattern }));
            let found = if is(QWEN) { splitter::QWEN } else { splitter::LLAMA3 };
            if found == splitter::LLAMA3 && !is(LLAMA3)
                || split.text("behavior")? != "Isolated"
                || split.boolean("invert", None)?
            {
                return Err(split.wrong("pattern"));
            }
            byte_level(*bytes, false)?;
            found
        }
        (["Digits", "ByteLevel"], [digits, bytes]) => {
            digits.only(&["type", "individual_digits"])?;
            if !digits.boolean("individual_digits", Some(false))? {
                return Err(digits.wrong("individual_digits"));
            }
            byte_level(*bytes, true)?;
            splitter::GPT2 | splitter::DIGITS
        }
        // Gemma's, to which the normalizer leaves no blank.
        (["Split"], [split]) if writer.settings.steps.contains(&step::MARK) => {
            split.only(&["type", "pattern", "behavior", "invert"])?;
            if split.get("pattern") != Some(&json!({"String": " "}))
                || split.boolean("invert", None)?
            {
                return Err(split.wrong("pattern"));
            }
            splitter::WHOLE
        }
        (["ByteLevel"], [bytes]) => {
            byte_level(*bytes, true)?;
            splitter::GPT2
        }
        (["Metaspace"], [metaspace]) => splitter::METASPACE | marks(*metaspace, is_characters)?,
        (["WhitespaceSplit", "Metaspace"], [words, metaspace]) => {
            words.only(&["type"])?;
            let flags = marks(*metaspace, false)?;
            if flags != splitter::METASPACE_PREFIX | splitter::METASPACE_SPLIT {
                return Err(metaspace.wrong("prepend_scheme"));
            }
            splitter::METASPACE | flags | splitter::METASPACE_WORDS
        }
        (["BertPreTokenizer"], [bert]) => {
            bert.only(&["type"])?;
            splitter::BERT
        }
        _ => return Err(CompileError::unsupported(format!("pre-tokenizers {kinds:?}"))),
    };
    Ok(())
}

fn byte_level(object: Object<'_>, use_regex: bool) -> Result<(), CompileError> {
    object.only(&["type", "add_prefix_space", "trim_offsets", "use_regex"])?;
    if object.boolean("add_prefix_space", None)? {
        return Err(object.wrong("add_prefix_space"));
    }
    if object.boolean("use_regex", Some(true))? != use_regex {
        return Err(object.wrong("use_regex"));
    }
    Ok(())
}

fn marks(object: Object<'_>, is_characters: bool) -> Result<u32, CompileError> {
    object.only(&[
        "type",
        "replacement",
        "prepend_scheme",
        "split",
        "add_prefix_space",
        "str_rep",
    ])?;
    if object.text("replacement")? != BLANK {
        return Err(object.wrong("replacement"));
    }
    let scheme =
        object.get("prepend_scheme").map_or(Ok("always"), |_| object.text("prepend_scheme"));
    let prefix = match scheme? {
        "always" if object.boolean("add_prefix_space", Some(true))? => splitter::METASPACE_PREFIX,
        "never" => 0,
        "first" if is_characters => splitter::METASPACE_PREFIX | splitter::METASPACE_FIRST,
        _ => return Err(object.wrong("prepend_scheme")),
    };
    let split = object.boolean("split", Some(true))?;
    Ok(prefix | if split { splitter::METASPACE_SPLIT } else { 0 })
}

/// Refuses models with a normalizer or splitter that they are not compiled with.
pub(super) fn check_together(settings: &Settings) -> Result<(), CompileError> {
    let is_bert = |&step: &u8| step & step::BERT != 0;
    let is_mark = |step: &u8| [step::PREPEND, step::MARK].contains(step);
    let steps: Vec<u8> =
        settings.steps.iter().copied().take_while(|&step| step != step::NONE).collect();
    let fits = match settings.model {
        model::BYTE_PAIR => {
            let untrimmed = settings.splitter & !splitter::TRIMS;
            let digits = splitter::GPT2 | splitter::DIGITS;
            [splitter::QWEN, splitter::LLAMA3, splitter::GPT2, digits].contains(&untrimmed)
                && (steps.is_empty() || steps == [step::NFC])
        }
        model::CHARACTER_PAIR => {
            let flags = splitter::METASPACE_PREFIX | splitter::METASPACE_FIRST;
            steps.iter().all(is_mark)
                && (settings.splitter == splitter::WHOLE
                    || settings.splitter & !flags == splitter::METASPACE)
        }
        model::UNIGRAM => {
            // A `▁` in the place of blanks is as good as a blank if only the splitter sees it, which makes one of every
            // blank, unless it parts words at white space.
            let is_words = settings.splitter & splitter::METASPACE_WORDS != 0;
            let marked = steps.iter().position(|&step| step == step::COLLAPSE_MARKED);
            settings.splitter & splitter::METASPACE != 0
                && !steps.iter().any(|step| is_bert(step) || is_mark(step))
                && marked.is_none_or(|at| at + 1 == steps.len() && !is_words)
        }
        model::WORD_PIECE => {
            settings.splitter == splitter::BERT && steps.len() == 1 && steps.iter().all(is_bert)
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(CompileError::unsupported("a normalizer or pre-tokenizer of another kind than the model"))
}
