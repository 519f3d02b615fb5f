//! A file of settings, `NAME=value` a line.
//!
//! Its values become part of the process's environment, where those of clients of object stores and of the hub are looked for
//! too; what is there already stays as it is.

use std::path::{Path, PathBuf};

/// The file that is read where none is named.
const USUAL: &str = ".env";

/// What a file says, and where it is.
#[derive(Debug, Default)]
pub(super) struct FromFile {
    pub(super) path: PathBuf,
    pub(super) names: Vec<String>,
}

/// Reads the file, before the process has other threads. Without a name the usual one is read, if it is there.
pub(super) fn load(path: Option<&Path>) -> Result<FromFile, String> {
    let usual = Path::new(USUAL);
    let path = match path {
        Some(path) => path,
        None if usual.is_file() => usual,
        None => return Ok(FromFile::default()),
    };
    let shown = path.display();
    let failed = |error: dotenvy::Error| match error {
        dotenvy::Error::LineParse(line, at) => format!(
            "{shown}: expected NAME=value, a comment after # or an empty line, found {line:?} (at character {at}); values with \
             spaces stand between quotes"
        ),
        error if error.not_found() => {
            format!("{shown}: there is no such file; --env-file names one of lines NAME=value")
        }
        error => {
            format!("{shown}: cannot be read: {error}; --env-file names a file of lines NAME=value")
        }
    };
    let entries = dotenvy::from_path_iter(path).map_err(failed)?;
    let names = entries.map(|entry| entry.map(|(name, _)| name)).collect::<Result<_, _>>();
    let names = names.map_err(failed)?;
    dotenvy::from_path(path).map_err(failed)?;
    Ok(FromFile { path: path.to_path_buf(), names })
}
