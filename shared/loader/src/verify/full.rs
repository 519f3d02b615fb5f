//! The complete check of a snapshot file: everything a restore checks, both hashes of every chunk, all padding.

use std::path::Path;

use crate::error::{Error, Kind};
use crate::format::cursor::to_usize;
use crate::format::manifest::Manifest;
use crate::hash::ChunkHash;
use crate::image::{Image, not_zero};
use crate::root::Root;

/// Reads a whole snapshot and checks every byte of it; returns its root.
///
/// `progress` is called after every chunk with the bytes done and the bytes in all. The instruction set the
/// weights are packed for does not matter here.
pub fn verify(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Root, Error> {
    let image = Image::open(path)?;
    let mapping = image.map(path)?;
    let manifest = &image.manifest;
    let file = mapping.as_slice();
    let mut gaps = gaps(manifest).into_iter().peekable();
    for (index, expected) in manifest.chunks.iter().enumerate() {
        let place = manifest.chunk_range(index);
        let range = to_usize(place.start)?..to_usize(place.end)?;
        let bytes = file.get(range).unwrap_or_default();
        let found = ChunkHash::of(bytes);
        if found != *expected {
            return Err(chunk_differs(index, expected, &found).at(place.start).in_file(path));
        }
        while let Some((start, end)) = gaps.next_if(|gap| gap.0 < place.end) {
            let bytes = file.get(to_usize(start)?..to_usize(end)?).unwrap_or_default();
            if let Some(first) = bytes.iter().position(|&byte| byte != 0) {
                return Err(not_zero(start + first as u64, bytes[first]).in_file(path));
            }
        }
        progress(place.end - manifest.data_offset, manifest.data_len);
    }
    Ok(image.root)
}

/// The file ranges of the data region that belong to no tensor.
fn gaps(manifest: &Manifest) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut end = manifest.data_offset;
    for tensor in &manifest.tensors {
        gaps.push((end, tensor.offset));
        end = tensor.offset + tensor.len;
    }
    gaps.push((end, manifest.data_offset + manifest.data_len));
    gaps.retain(|(start, end)| start < end);
    gaps
}

fn chunk_differs(index: usize, expected: &ChunkHash, found: &ChunkHash) -> Error {
    let name = |hash: &ChunkHash| {
        format!("xxh3 {:016x} blake3 {}", hash.xxh3, Root::from_bytes(hash.blake3))
    };
    Error::new(Kind::Corrupt, format!("chunk {index} does not match its hashes"))
        .mismatch(name(expected), name(found))
        .remedy("the file is damaged: delete it, then fetch or pack the snapshot again")
}
