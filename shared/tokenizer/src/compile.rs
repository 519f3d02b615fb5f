//! From a tokenizer.json to an image.
//!
//! The file is read strictly: a component, a field or a value that is not known to mean what the compiled form does
//! makes the file unsupported. What the `tokenizers` crate derives from a file (ids of added tokens, templates) is asked
//! of the crate. At the end the image must agree with it on texts made to find differences, or it is not given out.

mod byte_pair;
mod charsmap;
mod check;
mod classes;
mod json;
mod pipeline;
mod post;
mod reference;
mod trie;
mod vocabulary;

use bytes::Bytes;
use serde_json::Value;

use crate::encode::Compiled;
use crate::error::CompileError;
use crate::image::{Writer, model};
use json::Object;

/// Fields of a tokenizer.json. Truncation and padding are decided by the caller, and nothing is decoded.
const FIELDS: [&str; 9] = [
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
];

/// Compiles the bytes of a tokenizer.json to an image. Takes up to a few seconds and some hundred MB of memory. Equal
/// input gives equal bytes.
///
/// The image encodes as the tokenizer of the file does with truncation and padding off.
pub fn compile(tokenizer_json: &[u8]) -> Result<Vec<u8>, CompileError> {
    let mut file: Value = serde_json::from_slice(tokenizer_json)?;
    let mut writer = Writer::default();
    {
        let file = Object::of(&file, "the file")?;
        file.only(&FIELDS)?;
        if file.get("version").is_some_and(|version| version != "1.0") {
            return Err(CompileError::unsupported("a version other than 1.0"));
        }
        vocabulary::compile(file.object("model")?, &mut writer)?;
        pipeline::normalizer(file.get("normalizer"), &mut writer)?;
        pipeline::splitter(file.get("pre_tokenizer"), &mut writer)?;
        post::check(file.get("post_processor"), &mut writer.settings)?;
    }
    pipeline::check_together(&writer.settings)?;
    match writer.settings.model {
        model::BYTE_PAIR => classes::for_splitting(&mut writer)?,
        model::WORD_PIECE => classes::for_bert(&mut writer),
        _ => {}
    }
    let reference = reference::build(&mut file, writer.settings.model)?;
    drop(file);
    let added = reference::added(&reference, &mut writer)?;
    post::compile(&reference, &mut writer)?;
    let image = Bytes::from(writer.finish());
    let compiled = Compiled::open(image.clone())
        .map_err(|error| CompileError::unsupported(format!("its image: {error}")))?;
    check::agree(&compiled, &reference, &added)?;
    drop(compiled);
    Ok(image.into())
}
