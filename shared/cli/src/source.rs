//! Where checkpoints come from: a directory, or `hf://org/name@revision`.

#[cfg(feature = "hub")]
use std::path::Path;
use std::path::PathBuf;

use anyhow::{Result, bail};

/// A checkpoint directory on this machine, and the name its model goes by.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
}

/// The files of a checkpoint that `pack` reads: those of a transformer, which old checkpoints of sentence-transformers keep
/// in `0_Transformer`, those of modules after it, and the heads that BGE-M3 keeps apart. An adapter's configuration and
/// code are fetched too, since a model with them is another one.
#[cfg(feature = "hub")]
const FILES: [&str; 34] = [
    "*_Dense/*",
    "*_LogitScore/config.json",
    "*_Normalize/config.json",
    "*_Pooling/config.json",
    "0_Transformer/adapter_config.json",
    "0_Transformer/added_tokens.json",
    "0_Transformer/config.json",
    "0_Transformer/model.safetensors",
    "0_Transformer/model.safetensors.index.json",
    "0_Transformer/model-*-of-*.safetensors",
    "0_Transformer/sentence_*_config.json",
    "0_Transformer/special_tokens_map.json",
    "0_Transformer/tokenizer.json",
    "0_Transformer/tokenizer_config.json",
    "adapter_config.json",
    "added_tokens.json",
    "additional_chat_templates/*.jinja",
    "chat_template.jinja",
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "*.py",
    "modules.json",
    "sentence_*_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "colbert_linear.pt",
    "colbert_linear.safetensors",
    "sparse_linear.pt",
    "sparse_linear.safetensors",
];

/// Finds the checkpoint, downloading it where it is on the hub.
pub(crate) fn open(source: &str) -> Result<Source> {
    if let Some(id) = source.strip_prefix("hf://") {
        return download(id);
    }
    if source.contains("://") {
        bail!("unknown source {source:?}: expected a directory or hf://org/name[@revision]");
    }
    let dir = PathBuf::from(source);
    if let Some(name) = defrost_loader::hub_name(&dir) {
        bail!("{name}: there is no such folder; a model of that name on the hub is hf://{name}");
    }
    let name = dir
        .canonicalize()
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| source.to_owned());
    Ok(Source { dir, name })
}

#[cfg(not(feature = "hub"))]
fn download(id: &str) -> Result<Source> {
    bail!("hf://{id}: this defrost was built without the feature `hub`; give a local directory")
}

#[cfg(feature = "hub")]
fn download(id: &str) -> Result<Source> {
    use anyhow::Context;

    let (name, revision) = id.split_once('@').unwrap_or((id, "main"));
    let Some((owner, repository)) = name.split_once('/') else {
        bail!("hf://{id}: expected hf://org/name or hf://org/name@revision");
    };
    if owner.is_empty() || repository.is_empty() || repository.contains('/') || revision.is_empty()
    {
        bail!("hf://{id}: expected hf://org/name or hf://org/name@revision");
    }
    let client = hf_hub::HFClientSync::new().context("cannot set up the hub client")?;
    let patterns = FILES.iter().map(|&file| file.to_owned());
    let bar = crate::progress::bytes("download");
    let dir = client
        .model(owner, repository)
        .snapshot_download()
        .revision(revision)
        .allow_patterns(patterns.collect())
        .progress(hub_progress::Bar::new(bar.clone()))
        .send()
        .with_context(|| {
            format!(
                "cannot get {name} at {revision} from the hub (HF_ENDPOINT names another one, \
                 HF_TOKEN gives access)"
            )
        })?;
    bar.finish_and_clear();
    let listed = client
        .model(owner, repository)
        .list_tree()
        .revision(dir.file_name().unwrap_or_default().to_string_lossy())
        .recursive(true)
        .send()
        .with_context(|| format!("cannot list the files of {name} on the hub"))?;
    for entry in listed {
        if let hf_hub::repository::RepoTreeEntry::File { path, size, .. } = entry {
            check_size(&dir, &path, size)?;
        }
    }
    Ok(Source { dir, name: name.to_owned() })
}

/// Compares a downloaded file with what the hub lists. hf-hub keeps whatever a request for a file
/// was answered with, an error page too, and from then on takes it for the file.
#[cfg(feature = "hub")]
fn check_size(dir: &Path, path: &str, size: u64) -> Result<()> {
    use std::fs;
    use std::path::Component;

    use anyhow::Context;

    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let Some(found) = fs::metadata(dir.join(path)).ok().filter(|_| plain) else {
        // Not one of the files asked for.
        return Ok(());
    };
    if found.len() == size {
        return Ok(());
    }
    // The file's name in the snapshot is a link to its bytes.
    let bytes = fs::canonicalize(dir.join(path))?;
    let repository = dir.ancestors().nth(2).unwrap_or(dir);
    if bytes.starts_with(fs::canonicalize(repository)?) {
        fs::remove_file(&bytes).with_context(|| format!("cannot remove {}", bytes.display()))?;
    }
    bail!(
        "{path} came with {} bytes from the hub, which lists {size}; it is out of the cache again, \
         try once more",
        found.len()
    )
}

#[cfg(feature = "hub")]
mod hub_progress {
    use std::collections::HashMap;
    use std::sync::{Mutex, PoisonError};

    use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};

    use crate::progress;

    /// Sums the files' progress into one bar.
    pub(super) struct Bar {
        bar: progress::Bar,
        files: Mutex<HashMap<String, u64>>,
    }

    impl Bar {
        pub(super) fn new(bar: progress::Bar) -> Self {
            Self { bar, files: Mutex::default() }
        }
    }

    impl ProgressHandler for Bar {
        fn on_progress(&self, event: &ProgressEvent) {
            match event {
                ProgressEvent::Download(DownloadEvent::Start { total_bytes, .. }) => {
                    self.bar.set_length(*total_bytes);
                }
                ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                    let mut known = self.files.lock().unwrap_or_else(PoisonError::into_inner);
                    for file in files {
                        known.insert(file.filename.clone(), file.bytes_completed);
                    }
                    self.bar.set_position(known.values().sum());
                }
                ProgressEvent::Download(DownloadEvent::AggregateProgress {
                    bytes_completed,
                    ..
                }) => self.bar.set_position(*bytes_completed),
                _ => {}
            }
        }
    }
}
