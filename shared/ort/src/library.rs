//! Finds ONNX Runtime's library and opens it, once for the process.
//!
//! In this order: the path that is configured (`ORT_DYLIB_PATH`, a file or a folder), the folder of the running binary,
//! and whatever the system's loader finds under the name `libonnxruntime.so`. A configured path that does not work is an
//! error, not a reason to look elsewhere. A process opens one library; a second path is refused.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use defrost_model::Error;
use ort::environment::Environment;

use super::runtime;

/// The library's name without its version.
const NAME: &str = "libonnxruntime.so";
/// Variable of the configured path.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The opened library.
#[derive(Clone)]
pub(super) struct Library {
    pub(super) environment: Environment,
    pub(super) path: PathBuf,
    /// The library's description of itself: commit, build type, flags.
    pub(super) build: &'static str,
}

/// The library at this path, or found as the head of this file says.
pub(super) fn open(configured: Option<&Path>) -> Result<Library, Error> {
    static OPENED: OnceLock<Result<Library, String>> = OnceLock::new();
    let opened = OPENED.get_or_init(|| open_first(configured));
    let library = opened.clone().map_err(runtime)?;
    match configured.map(|path| in_folder(path).unwrap_or_else(|| path.to_path_buf())) {
        Some(path) if path != library.path => Err(runtime(format!(
            "{} is open already, {} cannot be opened beside it: a process has one ONNX Runtime",
            library.path.display(),
            path.display()
        ))),
        _ => Ok(library),
    }
}

fn open_first(configured: Option<&Path>) -> Result<Library, String> {
    let (path, is_given) = match configured {
        Some(path) if path.is_dir() => {
            let found = in_folder(path).ok_or_else(|| {
                format!(
                    "{VARIABLE} is the folder {}, expected a file {NAME}* in it, found none; {REMEDY}",
                    path.display()
                )
            })?;
            (found, true)
        }
        Some(path) if !path.is_file() => {
            return Err(format!(
                "{VARIABLE} is {}, expected ONNX Runtime's library {NAME}*, found no such file; {REMEDY}",
                path.display()
            ));
        }
        Some(path) => (path.to_path_buf(), true),
        None => {
            let exe = std::env::current_exe().ok();
            let beside = exe.as_deref().and_then(Path::parent).and_then(in_folder);
            (beside.unwrap_or_else(|| PathBuf::from(NAME)), false)
        }
    };
    let builder = ort::init_from(&path).map_err(|error| {
        let expected = if is_given {
            format!("expected the library of ONNX Runtime 1.{} or newer", ort::MINOR_VERSION)
        } else {
            format!(
                "expected {VARIABLE} to name it, found {VARIABLE} unset and none beside the binary"
            )
        };
        format!("cannot open ONNX Runtime: {expected}; {error}; {REMEDY}")
    })?;
    let environment = builder
        .build()
        .map_err(|error| format!("cannot start ONNX Runtime of {}: {error}", path.display()))?;
    Ok(Library { environment, build: ort::info(), path })
}

const REMEDY: &str = "scripts/ops/fetch_onnxruntime fetches it, and `pip install onnxruntime` has it under onnxruntime/capi";

/// The library in a folder, the last one by name if there are several; `None` for what is no folder or holds none.
fn in_folder(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name == NAME || name.strip_prefix(NAME).is_some_and(|rest| rest.starts_with('.'))
        })
        .collect();
    found.sort();
    found.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_searched_for_the_library_and_for_nothing_like_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(in_folder(dir.path()), None);
        for name in ["libonnxruntime_providers_shared.so", "libonnxruntime.so.1.32.0", "x.so"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        assert_eq!(in_folder(dir.path()), Some(dir.path().join("libonnxruntime.so.1.32.0")));
    }
}
