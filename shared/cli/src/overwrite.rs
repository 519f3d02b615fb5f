//! What a command may write.
//!
//! Three rules, for every command that writes:
//!
//! * A file that is there is replaced only with `--force`, and so is a folder created that was missing: a mistyped name
//!   costs nothing.
//! * What a command reads it never writes over, `--force` or not, by whatever name: files are told apart by device and
//!   inode, so that links and standard input are seen through.
//! * What is no regular file (a folder, a pipe, a device) is never replaced: files get their names by being renamed, which
//!   would put a file in the place of `/dev/null`.
//!
//! They are checked before anything is downloaded, loaded or computed.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// How deep a checkpoint's folder is looked into: its files, and those of its modules.
const DEPTH: usize = 3;

/// The file that a command is going to write; may the three rules hold for it.
pub(crate) fn check(out: &Path, reads: &[&Path], force: bool) -> Result<()> {
    let shown = out.display();
    if ends_in_a_folder(out) {
        if out.is_dir() {
            bail!("{shown} is a folder: expected the name of a file");
        }
        bail!("{shown}: expected the name of a file, found that of a folder");
    }
    if let Ok(found) = fs::metadata(out) {
        for read in reads {
            if let Some(same) = find(&found, read, DEPTH) {
                bail!(
                    "{shown} is what this command reads ({}): give the output another name",
                    same.display()
                );
            }
        }
        if found.is_dir() {
            bail!("{shown} is a folder: expected the name of a file");
        }
        if !found.is_file() {
            bail!("{shown} is no regular file, and would be replaced by one: give another name");
        }
    }
    if fs::symlink_metadata(out).is_ok() {
        if !force {
            bail!("{shown} is there already: give another name, or --force to replace it");
        }
        return Ok(());
    }
    folder(parent(out), force)
}

/// The folder that a command is going to fill.
pub(crate) fn check_folder(out: &Path, force: bool) -> Result<()> {
    let shown = out.display();
    match fs::read_dir(out) {
        Ok(mut entries) => {
            if !force && entries.next().is_some() {
                bail!(
                    "{shown} is there already and not empty: give another name, or --force to write over its files"
                );
            }
            Ok(())
        }
        Err(_) if fs::symlink_metadata(out).is_ok() => bail!("{shown} is no folder"),
        Err(_) => folder(parent(out), force),
    }
}

/// Whether the folder is there, or may be created.
pub(crate) fn folder(dir: &Path, force: bool) -> Result<()> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => bail!("{} is no folder", dir.display()),
        // A part of its path that is a file: nothing can be created there.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(error).with_context(|| format!("the folder {} cannot be there", dir.display()))
        }
        Err(_) if force => Ok(()),
        Err(_) => bail!(
            "the folder {} does not exist: create it, or give --force to have it created",
            dir.display()
        ),
    }
}

/// Creates the folder of an output that has been checked.
pub(crate) fn make_room(out: &Path) -> Result<()> {
    let dir = parent(out);
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

/// Whether a file lies in a folder, however both are named.
pub(crate) fn lies_in(file: &Path, dir: &Path) -> bool {
    match (real(file), dir.canonicalize()) {
        (Some(file), Ok(dir)) => file.starts_with(dir),
        _ => false,
    }
}

fn parent(out: &Path) -> &Path {
    out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// `a/`, `.` and `..` are no names of files.
fn ends_in_a_folder(out: &Path) -> bool {
    out.as_os_str().as_encoded_bytes().ends_with(b"/") || out.file_name().is_none()
}

/// The file among `read` that is the one found: itself, or one of a checkpoint's folder.
fn find(found: &Metadata, read: &Path, depth: usize) -> Option<PathBuf> {
    let path = real(read)?;
    let there = fs::metadata(&path).ok()?;
    if (there.dev(), there.ino()) == (found.dev(), found.ino()) {
        return Some(read.to_owned());
    }
    if !there.is_dir() || depth == 0 {
        return None;
    }
    // Snapshots that lie beside a checkpoint are not read with it.
    let entries = fs::read_dir(read).ok()?.flatten().map(|entry| entry.path());
    let mut files = entries.filter(|path| path.extension() != Some("snap".as_ref()));
    files.find_map(|file| find(found, &file, depth - 1))
}

/// The path, or what stands for standard input.
fn real(path: &Path) -> Option<PathBuf> {
    if path.as_os_str() == "-" {
        return Path::new("/dev/stdin").canonicalize().ok();
    }
    path.canonicalize().ok()
}
