//! The fuzz target of whole snapshot files, and its inputs: short to store, and right in every checksum if wanted.
//!
//! ```text
//! u8   flags: 1 compact, 2 hashes of the chunks made right, 4 opened with verification in the background
//! compact: u16 length of the manifest, manifest, data up to its last byte that is not zero
//! else:    the file, byte for byte
//! ```
//!
//! A compact image gets superblocks that fit its manifest, so that every mutation of the manifest reaches the code
//! behind the superblock's checksum and the root.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::format::codec::data_offset;
use crate::format::superblock::Superblock;
use crate::format::{PAGE, align_up};
use crate::hash::ChunkHash;
use crate::root::Root;
use crate::{OpenOptions, Snapshot, VerifyMode};

const COMPACT: u8 = 1;
const SEAL_CHUNKS: u8 = 2;
const BACKGROUND: u8 = 4;

/// Bytes of data an image may have: a few chunks of the smallest size.
const MOST_DATA: usize = 64 * 1024;

/// Where the manifest's header keeps the chunk size and the number of chunks.
const CHUNK_SIZE_AT: usize = 8;
const CHUNKS_AT: usize = 32;

/// Bytes of the two hashes of a chunk.
const HASHES: usize = 40;

/// The short form of a snapshot file with right checksums; `None` if it is not one or its manifest is too long.
pub fn compact(file: &[u8]) -> Option<Vec<u8>> {
    let page = usize::try_from(PAGE).ok()?;
    let head = file.first_chunk()?;
    let superblock = Superblock::decode(head, file.len() as u64).ok()?;
    let manifest_len = u16::try_from(superblock.manifest_len).ok()?;
    let manifest = file.get(page..page + usize::from(manifest_len))?;
    let start =
        usize::try_from(data_offset(superblock.manifest_len, file.len() as u64).ok()?).ok()?;
    let data = file.get(start..file.len() - page)?;
    let end = data.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut out = vec![COMPACT | SEAL_CHUNKS];
    out.extend_from_slice(&manifest_len.to_le_bytes());
    out.extend_from_slice(manifest);
    out.extend_from_slice(&data[..end]);
    Some(out)
}

/// A whole snapshot file, in the form that [`compact`] makes: opened in every way, read and verified.
///
/// # Panics
///
/// If a promise is broken, or if no file can be made in memory.
pub fn snapshot_file(input: &[u8]) {
    let (bytes, background) = expand(input);
    let file = InMemory::new(&bytes);
    let Ok((root, manifest)) = crate::inspect(file.path()) else {
        return;
    };
    let mut options = OpenOptions::new([&*manifest.isa], manifest.layout_abi);
    options.threads = 1;
    options.verify = if background { VerifyMode::OnTheFly } else { VerifyMode::Eager };
    let opened = Snapshot::open(file.path(), &options);
    let whole = opened.as_ref().is_ok_and(|snapshot| snapshot.wait_verified().is_ok());
    if let Ok(snapshot) = opened {
        assert_eq!(snapshot.root(), root);
        for entry in &manifest.tensors {
            let tensor = snapshot.tensor(&entry.name);
            if let Ok(tensor) = &tensor {
                let start = usize::try_from(entry.offset).expect("checked");
                assert_eq!(tensor.bytes, bytes[start..start + tensor.bytes.len()]);
                assert_eq!(tensor.bytes.len() as u64, entry.len);
            }
            assert_eq!(tensor.is_ok(), whole, "all is good or nothing is handed out");
        }
    }
    let verified = crate::verify(file.path(), &mut |done, total| assert!(done <= total));
    if let Ok(verified) = verified {
        assert!(whole, "the complete check accepts what a restore refuses");
        assert_eq!(verified, root);
    }
}

/// The file an input stands for, and whether to verify in the background.
fn expand(input: &[u8]) -> (Vec<u8>, bool) {
    let Some((&flags, rest)) = input.split_first() else {
        return (Vec::new(), false);
    };
    let file = match rest.split_first_chunk::<2>() {
        Some((len, rest)) if flags & COMPACT != 0 => {
            let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
            let (manifest, data) = rest.split_at(len);
            build(manifest.to_vec(), data, flags & SEAL_CHUNKS != 0)
        }
        _ => rest.to_vec(),
    };
    (file, flags & BACKGROUND != 0)
}

fn build(mut manifest: Vec<u8>, data: &[u8], seal: bool) -> Vec<u8> {
    let mut data = data[..data.len().min(MOST_DATA)].to_vec();
    data.resize(padded(data.len()), 0);
    if seal {
        seal_chunks(&mut manifest, &data);
    }
    let page = padded(1);
    let file_len = page + padded(manifest.len()) + data.len() + page;
    let superblock = Superblock {
        file_len: file_len as u64,
        manifest_len: manifest.len() as u64,
        root: Root::of(&manifest),
    }
    .encode();
    let mut file = superblock.to_vec();
    file.extend_from_slice(&manifest);
    file.resize(page + padded(manifest.len()), 0);
    file.extend_from_slice(&data);
    file.extend_from_slice(&superblock);
    file
}

/// Overwrites the last records of the manifest with the hashes of the data.
fn seal_chunks(manifest: &mut [u8], data: &[u8]) {
    let number = |at: usize| {
        let bytes = manifest.get(at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let (Some(size), Some(count)) = (number(CHUNK_SIZE_AT), number(CHUNKS_AT)) else {
        return;
    };
    let chunks = data.chunks(size.max(1));
    let Some(start) = count.checked_mul(HASHES).and_then(|len| manifest.len().checked_sub(len))
    else {
        return;
    };
    for (record, chunk) in manifest[start..].chunks_exact_mut(HASHES).zip(chunks) {
        let hash = ChunkHash::of(chunk);
        record[..8].copy_from_slice(&hash.xxh3.to_le_bytes());
        record[8..].copy_from_slice(&hash.blake3);
    }
}

fn padded(len: usize) -> usize {
    align_up(len as u64, PAGE).and_then(|len| usize::try_from(len).ok()).unwrap_or(len)
}

/// A file that exists in memory only, with a path to open it by.
struct InMemory {
    path: PathBuf,
    /// The path lives as long as the descriptor.
    _file: File,
}

impl InMemory {
    fn new(bytes: &[u8]) -> Self {
        let descriptor = rustix::fs::memfd_create("snapshot", rustix::fs::MemfdFlags::CLOEXEC);
        let mut file = File::from(descriptor.expect("memory for a file"));
        file.write_all(bytes).expect("memory for the file's content");
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Self { path, _file: file }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
