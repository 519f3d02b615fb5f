//! Files that appear whole or not at all, whichever other processes write them at the same time.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// After the destination's name come a dot, letters drawn for this writer, and this.
const UNFINISHED: &str = ".tmp";

/// How many letters are drawn. A name that is taken already is drawn again.
const DRAWN: usize = 6;

/// Gives the file at `path` these bytes, replacing what was there in one step. A failure changes
/// nothing and leaves nothing behind; only a process that is killed midway leaves its unfinished
/// file.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir =
        path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "expected the path of a file, found none")
    })?;
    let mut prefix = name.to_owned();
    prefix.push(".");
    let mut unfinished = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(UNFINISHED)
        .rand_bytes(DRAWN)
        // As other files are made: the process's umask says which users may read it.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)?;
    unfinished.write_all(bytes)?;
    unfinished.persist(path).map(drop).map_err(|error| error.error)
}

/// Whether this is the name of an unfinished file on its way to `destination`.
pub(crate) fn is_unfinished(name: &str, destination: &str) -> bool {
    name.strip_prefix(destination)
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(|rest| rest.strip_suffix(UNFINISHED))
        .is_some_and(|drawn| {
            drawn.len() == DRAWN && drawn.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_umask_decides_who_reads() {
        let dir = tempfile::tempdir().unwrap();
        let usual = dir.path().join("usual");
        std::fs::write(&usual, "x").unwrap();
        let path = dir.path().join("whole");
        write_whole(&path, b"x").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&usual));
    }

    #[test]
    fn unfinished_files_are_known_by_name() {
        assert!(is_unfinished("port.a1B2c3.tmp", "port"));
        for other in ["port.tmp", "port.12.tmp", "port.a1B2c3", "port.a1B2c-.tmp", "x.a1B2c3.tmp"] {
            assert!(!is_unfinished(other, "port"), "{other}");
        }
    }
}
