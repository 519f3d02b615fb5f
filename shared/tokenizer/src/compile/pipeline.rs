//! Compiles the normalizer and the pre-tokenizer.

use serde_json::{Value, json};

use super::charsmap;
use super::json::Object;
use crate::error::CompileError;
use crate::image::{Settings, Writer, model, splitter, step};

const QWEN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
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
            if object.get("pattern") != Some(&json!({"Regex": " {2,}"})) {
                return Err(object.wrong("pattern"));
            }
            match object.text("content")? {
                " " => step::COLLAPSE,
                BLANK => step::COLLAPSE_MARKED,
                _ => return Err(object.wrong("content")),
            }
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
    let value =
        value.ok_or_else(|| CompileError::unsupported("a tokenizer without pre-tokenizer"))?;
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
            if split.get("pattern") != Some(&json!({ "Regex": QWEN }))
                || split.text("behavior")? != "Isolated"
                || split.boolean("invert", None)?
            {
                return Err(split.wrong("pattern"));
            }
            byte_level(*bytes, false)?;
            splitter::QWEN
        }
        (["ByteLevel"], [bytes]) => {
            byte_level(*bytes, true)?;
            splitter::GPT2
        }
        (["Metaspace"], [metaspace]) => splitter::METASPACE | marks(*metaspace)?,
        (["WhitespaceSplit", "Metaspace"], [words, metaspace]) => {
            words.only(&["type"])?;
            let flags = marks(*metaspace)?;
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

fn marks(object: Object<'_>) -> Result<u32, CompileError> {
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
        _ => return Err(object.wrong("prepend_scheme")),
    };
    let split = object.boolean("split", Some(true))?;
    Ok(prefix | if split { splitter::METASPACE_SPLIT } else { 0 })
}

/// Refuses models with a normalizer or splitter that they are not compiled with.
pub(super) fn check_together(settings: &Settings) -> Result<(), CompileError> {
    let is_bert = |&step: &u8| step & step::BERT != 0;
    let steps: Vec<u8> =
        settings.steps.iter().copied().take_while(|&step| step != step::NONE).collect();
    let fits = match settings.model {
        model::BYTE_PAIR => {
            [splitter::QWEN, splitter::GPT2].contains(&(settings.splitter & !splitter::TRIMS))
                && (steps.is_empty() || steps == [step::NFC])
        }
        model::UNIGRAM => {
            // A `▁` in the place of blanks is as good as a blank if only the splitter sees it, which makes one of every
            // blank, unless it parts words at white space.
            let is_words = settings.splitter & splitter::METASPACE_WORDS != 0;
            let marked = steps.iter().position(|&step| step == step::COLLAPSE_MARKED);
            settings.splitter & splitter::METASPACE != 0
                && !steps.iter().any(is_bert)
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
