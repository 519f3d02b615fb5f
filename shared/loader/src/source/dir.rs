//! A directory as a source: what a mounted volume is, and what tests compare every other source with.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use super::{Body, Boxed, Fault, FaultKind, Listed, Reply, Request, Source};
use crate::location::is_snapshot_name;
use crate::temporary::Temporary;
use crate::verify::stamp;

/// Bytes read and written at a time.
const PIECE: usize = 1024 * 1024;

/// A directory; keys are file names.
#[derive(Debug)]
pub(crate) struct Dir {
    dir: PathBuf,
}

/// The directory that a path means, and the file in it; an empty name for the directory itself.
pub(crate) fn split(path: &Path) -> (PathBuf, String) {
    if path.is_dir() {
        return (path.to_path_buf(), String::new());
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let dir =
        path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    (dir.to_path_buf(), name.unwrap_or_default())
}

impl Dir {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }
}

impl Source for Dir {
    fn url(&self, key: &str) -> String {
        self.dir.join(key).display().to_string()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<Listed>, Fault>> {
        Box::pin(async move {
            let mut found = Vec::new();
            for entry in fs::read_dir(&self.dir).map_err(local)? {
                let entry = entry.map_err(local)?;
                let key = entry.file_name().to_string_lossy().into_owned();
                let Ok(stat) = entry.metadata() else { continue };
                if stat.is_file() && is_snapshot_name(&key) && key.starts_with(prefix) {
                    let url = self.url(&key);
                    found.push(Listed { key, url, len: stat.len(), modified: Some(stat.mtime()) });
                }
            }
            found.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(found)
        })
    }

    fn get<'a>(&'a self, request: Request<'a>) -> Boxed<'a, Result<Reply, Fault>> {
        Box::pin(async move {
            let path = self.dir.join(request.key);
            if fs::metadata(&path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
                // To open a pipe is to wait for its writer.
                return Err(Fault::new(FaultKind::Local, "it is a pipe, a socket or a device"));
            }
            let file = File::open(path).map_err(local)?;
            let stat = file.metadata().map_err(local)?;
            let age = stat.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let version = format!("{}-{}-{:?}", stat.ino(), stat.len(), age.unwrap_or_default());
            if request.version.is_some_and(|wanted| wanted != version) {
                return Err(Fault::new(FaultKind::Changed, "the file was replaced"));
            }
            let end = request.range.end.min(stat.len());
            if request.range.start >= end {
                return Err(Fault::new(
                    FaultKind::Wrong,
                    format!("the file has {} bytes", stat.len()),
                ));
            }
            let range = request.range.start..end;
            let body = Box::new(Piecewise { file, range: range.clone() });
            Ok(Reply { version, total: stat.len(), range: Some(range), body })
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        file: &'a Path,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async move { copy(file, &self.dir.join(key), progress).map_err(local) })
    }

    fn remove<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async move { fs::remove_file(self.dir.join(key)).map_err(local) })
    }
}

struct Piecewise {
    file: File,
    range: Range<u64>,
}

impl Body for Piecewise {
    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, Fault>> {
        Box::pin(async move {
            let left = usize::try_from(self.range.end - self.range.start).unwrap_or(PIECE);
            if left == 0 {
                return Ok(None);
            }
            let mut piece = vec![0; left.min(PIECE)];
            self.file.read_exact_at(&mut piece, self.range.start).map_err(local)?;
            self.range.start += piece.len() as u64;
            Ok(Some(piece.into()))
        })
    }
}

/// Copies a file under a temporary name, durably, and renames it.
pub(crate) fn copy(from: &Path, to: &Path, progress: &(dyn Fn(u64) + Sync)) -> io::Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut source = File::open(from)?;
    let (mut target, temporary) =
        Temporary::create(to, fs::OpenOptions::new().write(true).create(true))?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = source.read(&mut piece)?;
        if read == 0 {
            break;
        }
        target.write_all(&piece[..read])?;
        progress(read as u64);
    }
    target.sync_all()?;
    let replaced = fs::symlink_metadata(to).ok();
    temporary.rename()?;
    if let Some(stat) = replaced {
        stamp::forget(to, None, &stat);
    }
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn local(error: io::Error) -> Fault {
    let kind = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FaultKind::Missing,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
        io::ErrorKind::UnexpectedEof => FaultKind::Broken,
        _ => FaultKind::Local,
    };
    Fault::new(kind, error.to_string())
}
