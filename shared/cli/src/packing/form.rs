//! What lies at a place, and what kind of model it is, as far as its file says.

use std::path::{Path, PathBuf};

use defrost_loader::{Location, hub_name};
use defrost_model::Head;
use defrost_pack::{ModelKind, OnnxSource, SpecOptions, find_gguf, kind_of, open_checkpoint};

/// The key under which a snapshot keeps the model's name.
const NAME: &str = "model.name";

/// The key under which a snapshot keeps what turns hidden states into answers.
const HEAD: &str = "model.head";

/// What lies at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// A snapshot on this machine.
    Snapshot { name: Option<String>, kind: ModelKind },
    /// One GGUF file, in a folder maybe.
    Gguf(PathBuf),
    /// A model of ONNX, or a folder with one.
    Onnx,
    /// A checkpoint's folder.
    Folder(PathBuf),
    /// A snapshot in a bucket.
    Bucket,
    /// A checkpoint on the hub.
    Hub,
}

/// Looks at a place. The error says what was expected there.
pub(crate) fn look(place: &str) -> Result<Form, String> {
    let path = match place.parse::<Location>().map_err(|error| error.to_string())? {
        Location::Path(path) => path,
        Location::Hub { .. } => return Ok(Form::Hub),
        _ => return Ok(Form::Bucket),
    };
    if !path.exists() {
        let hub = hub_name(&path).map_or_else(String::new, |name| {
            format!("; a model of that name on the hub is hf://{name}")
        });
        return Err(format!("there is nothing at {place}: {EXPECTED}{hub}"));
    }
    if OnnxSource::find(&path).is_some() {
        return Ok(Form::Onnx);
    }
    if let Some(file) = find_gguf(&path).map_err(|error| error.to_string())? {
        return Ok(Form::Gguf(file));
    }
    if path.join("config.json").is_file() || path.join("modules.json").is_file() {
        return Ok(Form::Folder(path));
    }
    let (_, manifest) = defrost_loader::inspect(&in_folder(&path))
        .map_err(|error| format!("{error}: {EXPECTED}"))?;
    let meta = |key: &str| manifest.meta.get(key).map(ToString::to_string);
    let head = meta(HEAD).and_then(|head| Head::by_name(&head));
    let kind = match head {
        Some(Head::LanguageModel) => ModelKind::Chat,
        Some(head) if head.is_pooling() => ModelKind::Embedder,
        Some(_) => ModelKind::Reranker,
        None => {
            return Err(format!(
                "{place}: the snapshot does not say what its model is for; pack it again"
            ));
        }
    };
    Ok(Form::Snapshot { name: meta(NAME), kind })
}

const EXPECTED: &str = "expected a snapshot (defrost pack makes one), a .gguf file, a checkpoint's folder, s3://bucket/key or \
     hf://org/name";

/// A folder may stand for the one snapshot in it, as mounted volumes do.
fn in_folder(path: &Path) -> PathBuf {
    let entries = std::fs::read_dir(path).into_iter().flatten();
    let mut found = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "snap"));
    match (found.next(), found.next()) {
        (Some(only), None) => only,
        _ => path.to_path_buf(),
    }
}

/// The kind of the model there, if its files tell.
pub(crate) fn kind(form: &Form, place: &str) -> Result<Option<ModelKind>, String> {
    match form {
        Form::Snapshot { kind, .. } => Ok(Some(*kind)),
        // No other is packed from such files.
        Form::Gguf(_) => Ok(Some(ModelKind::Chat)),
        Form::Folder(folder) => {
            let options = SpecOptions { name: stem(place), ..SpecOptions::default() };
            let checkpoint = open_checkpoint(folder).map_err(|error| error.to_string())?;
            kind_of(&checkpoint, &options).map(Some).map_err(|error| error.to_string())
        }
        Form::Onnx | Form::Bucket | Form::Hub => Ok(None),
    }
}

/// Bytes that the model takes, about, where its place is no snapshot, whose length tells.
pub(crate) fn bytes(form: &Form) -> u64 {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
    match form {
        Form::Gguf(file) => length(file),
        Form::Folder(folder) => {
            let entries = std::fs::read_dir(folder).into_iter().flatten();
            let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
            files.filter(|path| path.is_file()).map(|path| length(&path)).sum()
        }
        Form::Snapshot { .. } | Form::Onnx | Form::Bucket | Form::Hub => 0,
    }
}

/// The last part of a place, without what tells its form.
pub(crate) fn stem(place: &str) -> String {
    let place = place.trim_end_matches('/');
    let place = place.strip_prefix("hf://").map_or(place, |id| id.split('@').next().unwrap_or(id));
    let last = place.rsplit('/').next().unwrap_or(place);
    [".snap", ".gguf", ".onnx"]
        .iter()
        .find_map(|end| last.strip_suffix(end))
        .unwrap_or(last)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn a_model_is_called_as_its_file() {
        for (place, name) in [
            ("/models/bge-m3-int8.snap", "bge-m3-int8"),
            ("qwen2.5-0.5b-q8_0.gguf", "qwen2.5-0.5b-q8_0"),
            ("s3://models/rerank/bge.snap", "bge"),
            ("hf://Qwen/Qwen3-0.6B@main", "Qwen3-0.6B"),
            ("models/Qwen3-0.6B/", "Qwen3-0.6B"),
        ] {
            assert_eq!(stem(place), name);
        }
    }
}
