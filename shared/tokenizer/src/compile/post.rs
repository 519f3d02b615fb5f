//! Compiles the post-processor: the crate is asked what it puts around a text of one token, and between two.

use serde_json::Value;
use tokenizers::{Encoding, PostProcessor, Token, Tokenizer};

use super::json::Object;
use super::reference::refused;
use crate::error::CompileError;
use crate::image::{Section, Settings, Writer, model, splitter};
use crate::template::{FIRST, MAX_ENTRIES, SECOND, SPECIAL};

/// Ids that stand for the two texts. No token has them: ids end at 2^31.
const TEXTS: [(u32, u32); 2] = [(u32::MAX, FIRST), (u32::MAX - 1, SECOND)];

/// Refuses what is not reproduced and what the crate would panic at, and notes how spans are trimmed.
pub(super) fn check(value: Option<&Value>, settings: &mut Settings) -> Result<(), CompileError> {
    let Some(value) = value else { return Ok(()) };
    let object = Object::of(value, "the post-processor")?;
    if object.text("type")? != "Sequence" {
        return check_one(object, settings).map(|_| ());
    }
    object.only(&["type", "processors"])?;
    let mut templates = 0;
    for value in object.list("processors")? {
        let object = Object::of(value, "the post-processor")?;
        templates += usize::from(check_one(object, settings)?);
    }
    if templates > 1 {
        return Err(CompileError::unsupported("more than one template"));
    }
    Ok(())
}

/// Says whether it adds tokens.
fn check_one(object: Object<'_>, settings: &mut Settings) -> Result<bool, CompileError> {
    match object.text("type")? {
        "ByteLevel" => {
            object.only(&["type", "add_prefix_space", "trim_offsets", "use_regex"])?;
            note_trim(object, settings)?;
            return Ok(false);
        }
        "TemplateProcessing" => {
            object.only(&["type", "single", "pair", "special_tokens"])?;
            let specials = object.object("special_tokens")?;
            for (_, special) in specials.entries() {
                let special = Object::of(special, "a special token")?;
                special.list("ids")?;
            }
            for (key, texts) in [("single", &["A"][..]), ("pair", &["A", "B"])] {
                for piece in object.list(key)? {
                    check_piece(Object::of(piece, key)?, texts, specials)?;
                }
            }
        }
        "BertProcessing" => object.only(&["type", "sep", "cls"])?,
        "RobertaProcessing" => {
            object.only(&["type", "sep", "cls", "trim_offsets", "add_prefix_space"])?;
            note_trim(object, settings)?;
        }
        _ => return Err(object.wrong("type")),
    }
    Ok(true)
}

/// Only byte pairs are trimmed: the blanks of their tokens are bytes of the text, which other models do not keep. Twice
/// is refused because the crate counts the same blanks again.
fn note_trim(object: Object<'_>, settings: &mut Settings) -> Result<(), CompileError> {
    let keeps_prefix = object.boolean("add_prefix_space", None)?;
    if !object.boolean("trim_offsets", None)? {
        return Ok(());
    }
    if settings.model != model::BYTE_PAIR || settings.splitter & splitter::TRIMMED != 0 {
        return Err(object.wrong("trim_offsets"));
    }
    let prefix = if keeps_prefix { splitter::TRIMMED_PREFIX } else { 0 };
    settings.splitter |= splitter::TRIMMED | prefix;
    Ok(())
}

fn check_piece(
    piece: Object<'_>,
    texts: &[&str],
    specials: Object<'_>,
) -> Result<(), CompileError> {
    piece.only(&["Sequence", "SpecialToken"])?;
    if piece.get("Sequence").is_some() {
        let sequence = piece.object("Sequence")?;
        if texts.contains(&sequence.text("id")?) {
            return Ok(());
        }
        return Err(sequence.wrong("id"));
    }
    let special = piece.object("SpecialToken")?;
    if specials.get(special.text("id")?).is_none() {
        return Err(special.wrong("id"));
    }
    Ok(())
}

/// An encoding of one token that stands for a text.
fn text(id: u32) -> Encoding {
    Encoding::from_tokens(vec![Token::new(id, String::new(), (0, 0))], 0)
}

pub(super) fn compile(reference: &Tokenizer, writer: &mut Writer) -> Result<(), CompileError> {
    for (section, texts) in [(Section::Single, 1), (Section::Pair, 2)] {
        let second = (texts == 2).then(|| text(TEXTS[1].0));
        let whole = reference.post_process(text(TEXTS[0].0), second, true).map_err(refused)?;
        let mut entries = Vec::new();
        let mut found = Vec::new();
        for (&id, &kind_type) in whole.get_ids().iter().zip(whole.get_type_ids()) {
            let kind = TEXTS.iter().find(|&&(text, _)| text == id).map_or(SPECIAL, |text| text.1);
            match kind {
                SPECIAL if id > writer.settings.largest_id => {
                    return Err(CompileError::unsupported(format!("a special token with id {id}")));
                }
                SPECIAL => entries.push([SPECIAL, id, kind_type]),
                _ => {
                    found.push(kind);
                    entries.push([kind, 0, kind_type]);
                }
            }
        }
        found.sort_unstable();
        let added = reference.get_post_processor().map_or(0, |post| post.added_tokens(texts == 2));
        if found != [FIRST, SECOND][..texts]
            || entries.len() > MAX_ENTRIES
            || entries.len() != added + texts
        {
            return Err(CompileError::unsupported("a template that does not hold each text once"));
        }
        writer.set(section, entries.into_iter().flatten().flat_map(u32::to_le_bytes).collect());
    }
    Ok(())
}
