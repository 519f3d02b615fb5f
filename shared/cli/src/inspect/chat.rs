//! What a snapshot of a language model says about conversations.

use std::path::Path;

use anyhow::Result;
use defrost_loader::{Manifest, OpenOptions, Snapshot, VerifyMode};
use defrost_model::{ChatSpec, stored};

/// Reads it, if the snapshot has it; only the bytes that hold it are looked at.
pub(super) fn read(file: &Path, manifest: &Manifest) -> Result<Option<ChatSpec>> {
    if !manifest.tensors.iter().any(|tensor| &*tensor.name == stored::CHAT) {
        return Ok(None);
    }
    let mut options = OpenOptions::new([&*manifest.isa], manifest.layout_abi);
    options.verify = VerifyMode::OnTheFly;
    let snapshot = Snapshot::open(file, &options)?;
    let bytes = snapshot.tensor(stored::CHAT)?.bytes;
    Ok(Some(ChatSpec::from_json(&bytes, usize::MAX)?))
}

/// The same for people.
pub(super) fn lines(chat: &ChatSpec) -> Vec<String> {
    let template = |text: &str| format!("{} bytes", text.len());
    let own = chat.template.as_deref().map_or_else(|| "none".to_owned(), template);
    let named =
        chat.named_templates.iter().map(|(name, text)| format!("{name} {}", template(text)));
    let templates: Vec<String> = std::iter::once(own).chain(named).collect();
    let ids: Vec<String> = chat.ends.iter().map(ToString::to_string).collect();
    let special = chat.special_tokens.iter().map(|(name, text)| format!("{name} {text:?}"));
    let mut lines = vec![format!("chat.template = {}", templates.join(", "))];
    if !ids.is_empty() {
        lines.push(format!("chat.ends = {}", ids.join(", ")));
    }
    if let Some(bos) = chat.bos {
        let added = if chat.add_bos { "put before texts" } else { "not put before texts" };
        lines.push(format!("chat.bos = {bos} ({added})"));
    }
    let special: Vec<String> = special.collect();
    if !special.is_empty() {
        lines.push(format!("chat.special_tokens = {}", special.join(", ")));
    }
    if let Some(sampling) = chat.sampling.described() {
        lines.push(format!("chat.sampling = {sampling}"));
    }
    if let Some(quantization) = &chat.quantization {
        lines.push(format!("chat.quantization = {quantization}"));
    }
    lines
}
