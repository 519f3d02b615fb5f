//! Reads `torch.save`d state dicts: `sparse_linear.pt` beside the safetensors of BGE-M3 and the like.
//!
//! Such a file (since torch 1.6) is a zip archive of entries that are stored as they are:
//!
//! ```text
//! NAME/data.pkl     a pickle of protocol 2: {tensor name: (storage key, element type, offset, shape, strides)}
//! NAME/data/KEY     the bytes of one storage
//! NAME/byteorder    "little" or "big"; older files have none and are little endian
//! ```
//!
//! A pickle is a program that may call anything. This one is not run: [`pickle`] knows the few instructions that a state
//! dict of plain tensors consists of, and refuses every other instruction and every other name. [`zip`] reads the
//! archive's directory. Tensors are views of the mapped file. As with safetensors, damage inside a tensor goes unseen.

mod pickle;
mod zip;

use std::collections::BTreeMap;

use bytes::Bytes;
use defrost_loader::{Error, Kind, shown};

use self::pickle::Stored;
use self::zip::Archive;
use super::{CheckpointDtype, CheckpointTensor};

const PICKLE: &str = "/data.pkl";

/// The tensors of a file with this content, by name.
///
/// Fails with [`Kind::Corrupt`] if the archive or the pickle contradicts itself, and with [`Kind::Unsupported`] if the
/// file is of another kind: compressed, of another byte order, with strided tensors, or anything but a dictionary of
/// tensors.
pub(super) fn read(file: &Bytes) -> Result<BTreeMap<String, CheckpointTensor>, Error> {
    let archive = Archive::open(file)?;
    let folder = archive
        .names()
        .find_map(|name| name.strip_suffix(PICKLE).filter(|folder| !folder.contains('/')))
        .ok_or_else(|| Error::new(Kind::Unsupported, "the archive has no data.pkl"))?;
    if let Some(order) = archive.get(&format!("{folder}/byteorder"))?
        && &order[..] != b"little"
    {
        let found = shown(&String::from_utf8_lossy(&order));
        return Err(Error::new(Kind::Unsupported, "the byte order is foreign")
            .mismatch("\"little\"", found));
    }
    let program = archive.get(&format!("{folder}{PICKLE}"))?.unwrap_or_default();
    pickle::read(&program)?
        .into_iter()
        .map(|(name, stored)| {
            let data = archive.get(&format!("{folder}/data/{}", stored.key))?;
            let tensor = tensor(&stored, data).map_err(|what| {
                Error::new(Kind::Corrupt, format!("tensor {}: {what}", shown(&name)))
            })?;
            Ok((name, tensor))
        })
        .collect()
}

/// The view of a storage that a tensor is.
fn tensor(stored: &Stored, data: Option<Bytes>) -> Result<CheckpointTensor, String> {
    let data = data.ok_or_else(|| format!("there is no storage {}", shown(&stored.key)))?;
    let size = match stored.dtype {
        CheckpointDtype::F64 => 8,
        CheckpointDtype::F32 => 4,
        _ => 2,
    };
    let mut count = 1usize;
    for (&dim, &stride) in stored.shape.iter().zip(&stored.strides).rev() {
        // Strides of dimensions of one element mean nothing.
        if stride != count && dim > 1 {
            return Err(format!("its strides {:?} are not row-major", stored.strides));
        }
        count = count.checked_mul(dim).ok_or("its shape overflows")?;
    }
    let range = stored.offset.checked_mul(size).zip(count.checked_mul(size));
    let range = range.and_then(|(start, len)| Some(start..start.checked_add(len)?));
    match range {
        Some(range) if range.end <= data.len() => Ok(CheckpointTensor {
            dtype: stored.dtype,
            shape: stored.shape.clone(),
            bytes: data.slice(range),
            blocks: None,
        }),
        _ => Err(format!("its {count} elements reach beyond its storage of {} bytes", data.len())),
    }
}

#[cfg(test)]
mod tests;
