//! What the fuzz targets in `fuzz/` run, and the tests over the committed inputs.
//!
//! Each function takes bytes from anywhere. To refuse them is always right; what is accepted must keep the promises
//! that later code relies on, and the function panics where it does not. Checksums would keep a fuzzer out of all that
//! lies behind them, so inputs are also tried with their checksums made right, as an attacker would.

#[cfg(target_os = "linux")]
mod image;

use crate::format::manifest::Manifest;
use crate::format::superblock::{self, Superblock};

#[cfg(target_os = "linux")]
pub use image::{compact, snapshot_file};

/// A superblock: 8 bytes of file length, then the block, cut or filled with zeros to its length.
pub fn superblock(input: &[u8]) {
    let Some((file_len, bytes)) = input.split_first_chunk::<8>() else {
        return;
    };
    let file_len = u64::from_le_bytes(*file_len);
    let mut block = [0; superblock::LEN];
    let len = bytes.len().min(block.len());
    block[..len].copy_from_slice(&bytes[..len]);
    check_superblock(&block, file_len);
    superblock::seal(&mut block);
    check_superblock(&block, file_len);
}

fn check_superblock(block: &[u8; superblock::LEN], file_len: u64) {
    if let Ok(found) = Superblock::decode(block, file_len) {
        assert_eq!(found.encode(), *block, "accepted in another form than ours");
        assert_eq!(found.file_len, file_len);
        assert!(found.manifest_len < file_len);
    }
}

/// A manifest: 8 bytes of file length, then the manifest.
pub fn manifest(input: &[u8]) {
    if let Some((file_len, bytes)) = input.split_first_chunk::<8>() {
        check_manifest(bytes, u64::from_le_bytes(*file_len));
    }
}

pub(crate) fn check_manifest(bytes: &[u8], file_len: u64) {
    let Ok(manifest) = Manifest::decode(bytes, file_len) else {
        return;
    };
    assert_eq!(
        manifest.encode().ok().as_deref(),
        Some(bytes),
        "accepted in another form than ours"
    );
    assert_eq!(manifest.file_len(), file_len);
    for tensor in &manifest.tensors {
        assert!(tensor.offset + tensor.len <= manifest.data_offset + manifest.data_len);
        let chunks = manifest.chunks_of(tensor.offset, tensor.len);
        assert!(chunks.end <= manifest.chunks.len() as u64);
    }
}
