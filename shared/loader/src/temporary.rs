//! Files that get their name only when they are complete.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Names to try before giving up. In a container every start has the same process id, so a crash leaves names
/// behind that the next start runs into.
const ATTEMPTS: u64 = 1000;

/// A file under a temporary name beside its destination; removed when dropped, unless renamed.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    destination: PathBuf,
    renamed: bool,
}

impl Temporary {
    pub(crate) fn create(
        destination: &Path,
        options: &mut OpenOptions,
    ) -> io::Result<(File, Self)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = destination.file_name().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the destination is not the path of a file")
        })?;
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..ATTEMPTS {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}.{number}.tmp", std::process::id()));
            let path = destination.with_file_name(hidden);
            match options.create_new(true).open(&path) {
                Ok(file) => {
                    let destination = destination.to_path_buf();
                    return Ok((file, Self { path, destination, renamed: false }));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Gives the file its name, replacing what had it before.
    pub(crate) fn rename(mut self) -> io::Result<()> {
        fs::rename(&self.path, &self.destination)?;
        self.renamed = true;
        Ok(())
    }
}

/// Whether a file's name is one that [`Temporary::create`] gives: `.NAME.PID.NUMBER.tmp`.
pub(crate) fn is_own(path: &Path) -> bool {
    let digits = |part: Option<&str>| {
        part.is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(rest) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp")) else {
        return false;
    };
    let mut parts = rest.rsplit('.');
    digits(parts.next())
        && digits(parts.next())
        && parts.next().is_some_and(|name| !name.is_empty())
}

/// Makes a new name in its directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    let dir =
        path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(dir)?.sync_all()
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing can be done about a failure, and the leftover does no harm.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "a.snap", "0.1"] {
            let mut options = OpenOptions::new();
            let made = Temporary::create(&dir.path().join(name), options.write(true)).unwrap().1;
            assert!(is_own(&made.path), "{}", made.path.display());
        }
        for name in ["a.1.2.tmp", ".a.tmp", ".a.1.tmp", ".a.1.x.tmp", ".1.2.tmp", ".a.1.2"] {
            assert!(!is_own(Path::new(name)), "{name}");
        }
    }
}
