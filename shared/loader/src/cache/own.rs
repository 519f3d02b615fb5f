//! Which files of a directory are the cache's own.
//!
//! A cache may lie where its owner keeps other files, and `--cache-dir` may name a folder by mistake. So what is listed,
//! counted and removed is only what has a name that the cache gives:
//!
//! ```text
//! ROOT.snap                           a download
//! ROOT.partial                        one that is not complete
//! ROOT.ISA-ABI.snap                   the packed copy of a portable snapshot
//! ORG-NAME@REVISION.PRECISION.ISA-ABI.snap   a model of the hub, packed
//! ```
//!
//! A root has 64 digits, which no file is named by chance: these are the cache's even where they are damaged. The
//! last form is less certain, so such a file must also begin as snapshots do.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::format::superblock::MAGIC;
use crate::root::Root;

/// What a file of a cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// A complete snapshot.
    Snapshot,
    /// A snapshot that is being downloaded, or whose download was killed.
    Partial,
}

/// What the file is to the cache; `None` if it is not the cache's own.
pub(crate) fn own(path: &Path) -> Option<Own> {
    let name = path.file_name()?.to_str()?;
    if let Some(stem) = name.strip_suffix(".partial") {
        return stem.parse::<Root>().is_ok().then_some(Own::Partial);
    }
    let stem = name.strip_suffix(".snap")?;
    let is_own = names_a_root(stem) || (names_a_packed_model(stem) && begins_as_a_snapshot(path));
    is_own.then_some(Own::Snapshot)
}

/// Whether a snapshot of this name is known to be one by it: `ROOT` or `ROOT.ISA-ABI`.
pub(crate) fn names_a_root(stem: &str) -> bool {
    let (root, rest) = stem.split_once('.').map_or((stem, None), |(root, rest)| (root, Some(rest)));
    root.parse::<Root>().is_ok() && rest.is_none_or(is_layout)
}

/// `ORG-NAME@REVISION.PRECISION.ISA-ABI`.
fn names_a_packed_model(stem: &str) -> bool {
    let mut parts = stem.rsplitn(3, '.');
    let (layout, precision, model) = (parts.next(), parts.next(), parts.next());
    layout.is_some_and(is_layout)
        && precision.is_some_and(|precision| ["int8", "bf16", "f32"].contains(&precision))
        && model.is_some_and(|model| {
            model.split_once('@').is_some_and(|(name, revision)| {
                name.contains('-') && !name.starts_with('-') && !revision.is_empty()
            })
        })
}

/// `x86-64-1`.
fn is_layout(text: &str) -> bool {
    text.rsplit_once('-').is_some_and(|(isa, abi)| {
        let digits = !abi.is_empty() && abi.bytes().all(|byte| byte.is_ascii_digit());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        digits && !isa.is_empty() && isa.bytes().all(plain)
    })
}

/// Whether a file has the first bytes of a snapshot, in whatever state the others are.
fn begins_as_a_snapshot(path: &Path) -> bool {
    // A pipe of that name would be waited for.
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    let mut begins = [0; MAGIC.len()];
    is_file
        && File::open(path).and_then(|mut file| file.read_exact(&mut begins)).is_ok()
        && begins == MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_cache_gives_are_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = "0f".repeat(32);
        let begun = [&MAGIC[..], b"and more"].concat();
        for (name, bytes, expected) in [
            (format!("{root}.snap"), &begun[..], Some(Own::Snapshot)),
            (format!("{root}.snap"), b"", Some(Own::Snapshot)),
            (format!("{root}.x86-64-1.snap"), b"torn", Some(Own::Snapshot)),
            (format!("{root}.partial"), b"", Some(Own::Partial)),
            ("BAAI-bge-m3@main.int8.x86-64-1.snap".to_owned(), &begun, Some(Own::Snapshot)),
            ("o-n@v1.2.int8.generic-12.snap".to_owned(), &begun, Some(Own::Snapshot)),
            ("BAAI-bge-m3@main.int8.x86-64-1.snap".to_owned(), b"somebody's notes", None),
            ("bge-m3-int8.snap".to_owned(), &begun, None),
            ("photo.snap".to_owned(), b"JPEG", None),
            ("film.partial".to_owned(), b"", None),
            (format!("{root}.mine.snap"), &begun, None),
            (format!("{}.snap", &root[1..]), &begun, None),
            (format!("{root}x.snap"), &begun, None),
            (format!("a{root}.partial"), b"", None),
            (".snap".to_owned(), &begun, None),
            ("@.int8.-1.snap".to_owned(), &begun, None),
        ] {
            let path = dir.path().join(&name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(own(&path), expected, "{name}");
        }
    }
}
