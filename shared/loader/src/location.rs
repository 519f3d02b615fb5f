//! What `MODEL` may say: a path, `s3://bucket/key`, or `hf://org/name@revision`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Kind, shown};

/// Where a snapshot, or what one can be made from, lies.
///
/// ```
/// use defrost_loader::Location;
///
/// let location: Location = "s3://models/rerank/bge.snap".parse()?;
/// assert_eq!(location, Location::S3 { bucket: "models".into(), key: "rerank/bge.snap".into() });
/// assert_eq!(location.to_string(), "s3://models/rerank/bge.snap");
/// assert!(matches!("/models/bge.snap".parse()?, Location::Path(_)));
/// assert!("ftp://models/bge.snap".parse::<Location>().is_err());
/// # Ok::<(), defrost_loader::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// A file, or a directory with one snapshot in it (a mounted volume).
    Path(PathBuf),
    /// An object, or a prefix with one snapshot below it.
    S3 {
        /// The bucket.
        bucket: String,
        /// The object's key, or a prefix; empty for the whole bucket.
        key: String,
    },
    /// A model on the hub, from which a snapshot can be packed.
    Hub {
        /// `org/name`.
        id: String,
        /// A branch, tag or commit; `main` if not given.
        revision: String,
    },
}

impl Location {
    /// Whether it names one snapshot file rather than a place that holds some.
    pub fn is_snapshot(&self) -> bool {
        match self {
            Self::Path(path) => path.extension().is_some_and(|extension| extension == "snap"),
            Self::S3 { key, .. } => is_snapshot_name(key),
            Self::Hub { .. } => false,
        }
    }
}

/// The model of the hub that a path may have been meant for: `org/name`, where nothing lies on this machine.
///
/// ```
/// # use std::path::Path;
/// assert_eq!(defrost_loader::hub_name(Path::new("BAAI/bge-m3")), Some("BAAI/bge-m3"));
/// assert_eq!(defrost_loader::hub_name(Path::new("models/bge-m3.snap")), None);
/// ```
pub fn hub_name(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let (org, name) = text.split_once('/')?;
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let is_one = plain(org) && plain(name) && !is_snapshot_name(name);
    (is_one && fs::symlink_metadata(path).is_err()).then_some(text)
}

/// What to do about a path at which there is no snapshot, where it can be told what there is instead.
pub(crate) fn advice(path: &Path) -> Option<String> {
    if let Some(name) = hub_name(path) {
        return Some(format!(
            "hf://{name} is the model of that name on the hub: `defrost pack hf://{name}` makes a snapshot of it"
        ));
    }
    let ends = |path: &Path, endings: &[&str]| {
        path.extension().and_then(|end| end.to_str()).is_some_and(|end| endings.contains(&end))
    };
    let pack = |source: &Path| {
        format!("it is a checkpoint: `defrost pack {}` makes a snapshot of it", source.display())
    };
    let weights = ["safetensors", "bin", "pt", "onnx"];
    if path.is_dir() {
        let entries = fs::read_dir(path).ok()?.flatten().map(|entry| entry.path());
        let is_checkpoint = |file: &PathBuf| {
            file.file_name() == Some("config.json".as_ref()) || ends(file, &weights)
        };
        return entries.into_iter().any(|file| is_checkpoint(&file)).then(|| pack(path));
    }
    match path.parent() {
        Some(_) if ends(path, &["onnx"]) => Some(pack(path)),
        Some(dir) if ends(path, &weights) => {
            Some(pack(if dir.as_os_str().is_empty() { Path::new(".") } else { dir }))
        }
        _ if ends(path, &["gguf"]) => Some(
            "files of GGUF are only shown (`defrost inspect`): pack the checkpoint in safetensors that it was made from"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Whether a key or file name is one of a snapshot; the case matters, as it does to stores.
pub(crate) fn is_snapshot_name(name: &str) -> bool {
    name.strip_suffix(".snap").is_some()
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::Hub { id, revision } => write!(f, "hf://{id}@{revision}"),
        }
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |expected: &str| {
            Error::new(Kind::Invalid, "not a place for snapshots").mismatch(expected, shown(text))
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() {
                Err(wrong("a path, s3://bucket/key or hf://org/name"))
            } else {
                Ok(Self::Path(PathBuf::from(text)))
            };
        };
        match scheme {
            "s3" => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(wrong("s3://bucket/key"));
                }
                Ok(Self::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            "hf" => {
                let (id, revision) = rest.split_once('@').unwrap_or((rest, "main"));
                match id.split_once('/') {
                    Some((org, name))
                        if !org.is_empty()
                            && !name.is_empty()
                            && !name.contains('/')
                            && !revision.is_empty() =>
                    {
                        Ok(Self::Hub { id: id.to_owned(), revision: revision.to_owned() })
                    }
                    _ => Err(wrong("hf://org/name or hf://org/name@revision")),
                }
            }
            "file" if rest.starts_with('/') => Ok(Self::Path(PathBuf::from(rest))),
            _ => Err(wrong("a path, s3://bucket/key or hf://org/name").remedy(
                "Google Cloud Storage and others are reached as s3:// with AWS_ENDPOINT_URL",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for text in ["a/b.snap", "s3://b/", "s3://b/p/x.snap", "hf://org/name@v1"] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        assert_eq!("hf://o/n".parse::<Location>().unwrap().to_string(), "hf://o/n@main");
        assert_eq!("s3://b".parse::<Location>().unwrap().to_string(), "s3://b/");
        assert_eq!("file:///m/x.snap".parse::<Location>().unwrap().to_string(), "/m/x.snap");
        for wrong in ["", "s3://", "s3:///k", "hf://n", "hf://o/n/x", "hf://o/n@", "gs://b/k"] {
            let error = wrong.parse::<Location>().unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{wrong}");
        }
    }
}
