//! What the fuzz targets in `fuzz/` run, and the tests over the committed inputs.
//!
//! Each function takes bytes from anywhere. To refuse them is always right; what is accepted must keep the promises
//! that later code relies on, and the function panics where it does not. Checksums would keep a fuzzer out of all that
//! lies behind them, so inputs are also tried with their checksums made right, as an attacker would.

#[cfg(target_os = "linux")]
mod image;

use bytes::Bytes;

use crate::checkpoint::gguf::{Gguf, GgufValue};
use crate::checkpoint::onnx::{OnnxData, OnnxModel};
use crate::checkpoint::{shards_of, tensors_of};
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

/// A safetensors file.
pub fn safetensors(input: &[u8]) {
    let Ok(tensors) = tensors_of(&Bytes::copy_from_slice(input)) else {
        return;
    };
    for tensor in tensors.values() {
        let elements: usize = tensor.shape.iter().product();
        assert_eq!(Some(tensor.bytes.len() * 8), elements.checked_mul(tensor.dtype.bitsize()));
        let _ = crate::to_f32(tensor);
    }
}

/// An index of shards.
pub fn shard_index(input: &[u8]) {
    for shard in shards_of(input).unwrap_or_default() {
        assert!(!shard.is_empty() && shard != "." && shard != "..");
        assert!(!shard.contains(['/', '\\', '\0']), "{shard:?} leads out of the directory");
    }
}

/// A GGUF file.
pub fn gguf(input: &[u8]) {
    let Ok(model) = Gguf::parse(Bytes::copy_from_slice(input)) else {
        return;
    };
    for (key, value) in model.metadata() {
        assert!(!key.is_empty());
        check_value(value);
    }
    let mut total = 0;
    for tensor in model.tensors() {
        assert!(tensor.offset.is_multiple_of(u64::from(model.alignment())));
        if let (Some((block, size)), Some(bytes)) = (tensor.kind.block(), &tensor.bytes) {
            let elements: usize = tensor.shape.iter().product();
            assert_eq!(bytes.len() as u64, elements as u64 / block * size);
            total += bytes.len();
        }
    }
    assert!(total <= input.len(), "tensors overlap");
}

fn check_value(value: &GgufValue) {
    if let GgufValue::Array(array) = value {
        assert_eq!(array.values().count() as u64, array.len(), "an element cannot be decoded");
        for value in array.values() {
            assert_eq!(value.kind(), array.element());
            check_value(&value);
        }
    }
}

/// An ONNX model.
pub fn onnx(input: &[u8]) {
    let Ok(model) = OnnxModel::parse(Bytes::copy_from_slice(input)) else {
        return;
    };
    let mut total = 0;
    for tensor in model.initializers() {
        assert!(!tensor.name.is_empty());
        match &tensor.data {
            OnnxData::Raw(bytes) => {
                total += bytes.len();
                assert!(tensor.len_bytes().is_none_or(|len| len == bytes.len() as u64));
            }
            OnnxData::External { location, offset, len } => {
                assert!(!location.is_empty() && !location.contains(['/', '\\', '\0']));
                assert!(offset.checked_add(len.or(tensor.len_bytes()).unwrap_or(0)).is_some());
            }
            OnnxData::Typed { values, .. } => assert!(*values <= input.len() as u64),
            OnnxData::Empty => assert!(tensor.shape.contains(&0)),
        }
    }
    assert!(total <= input.len(), "initializers overlap");
}
