//! Objects from files: each is mapped, so that a benchmark's gigabytes lie in memory once.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use bytes::Bytes;

/// Calls `found` with every bucket (no key, no bytes) and every file below `dir/bucket/`, whose
/// path is its key.
pub(super) fn load(dir: &Path, mut found: impl FnMut(&str, Option<&str>, Bytes)) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.path().is_dir() {
            continue;
        }
        let bucket = name(&entry)?;
        found(&bucket, None, Bytes::new());
        let mut folders = vec![(entry.path(), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let (path, key) = (entry.path(), format!("{prefix}{}", name(&entry)?));
                if path.is_dir() {
                    folders.push((path, format!("{key}/")));
                } else {
                    found(&bucket, Some(&key), map(&path)?);
                }
            }
        }
    }
    Ok(())
}

fn name(entry: &fs::DirEntry) -> io::Result<String> {
    entry.file_name().into_string().map_err(|name| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} is no key", name.display()))
    })
}

#[allow(unsafe_code, reason = "the standard library maps no files")]
fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    // An empty file cannot be mapped.
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: `S3Server::serve_dir` and `--dir` ask that the files stay as they are, and only tests
    // and benchmarks, which own them, call it.
    let mapped = unsafe { memmap2::Mmap::map(&file) }?;
    Ok(Bytes::from_owner(mapped))
}
