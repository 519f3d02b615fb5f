//! Reads safetensors checkpoints, the raw material of snapshots.
//!
//! A checkpoint is a directory with `model.safetensors`, or with `model.safetensors.index.json` and the shards it
//! names, beside `config.json`, `tokenizer.json` and the like. The weight files are mapped, their headers parsed and
//! checked by the `safetensors` crate; tensors are views of the mapping. The format has no content hashes, so damage
//! inside a tensor goes unseen here; that is why snapshots exist.
//!
//! A few models keep a tensor or two apart, in the format of `torch.save`: see [`torch`]. Files of other formats are looked
//! into by [`gguf`] and [`onnx`].
//!
//! Shard names come out of a JSON file and are joined to the directory, so only plain file names are followed.
//! Symbolic links are followed, because the hub's cache consists of them.

mod finite;
pub(crate) mod gguf;
pub(crate) mod onnx;
mod reader;
mod torch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use defrost_engine::blocks;
use defrost_loader::{Error, Kind, map_file, shown};
use defrost_model::BlockKind;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::SafeTensors;
use serde::Deserialize;

pub use finite::first_not_finite;
pub use gguf::{Gguf, GgufArray, GgufKind, GgufTensor, GgufType, GgufValue, GgufValues};
pub use onnx::{OnnxData, OnnxModel, OnnxTensor, OnnxType, Placement};
pub use safetensors::Dtype as CheckpointDtype;

const SINGLE: &str = "model.safetensors";
/// What older checkpoints have instead: a pickle, which runs code when read.
const PYTORCH: &str = "pytorch_model.bin";
const INDEX: &str = "model.safetensors.index.json";

/// Largest file that `file` and the index reader take into memory, in bytes. The largest tokenizers have 35 MB.
const LARGEST_FILE: u64 = 256 * 1024 * 1024;

/// Entries of a directory that are looked at for weights of another format; a model has some dozens.
const MOST_LISTED: usize = 10_000;

/// An open checkpoint directory.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    dir: PathBuf,
    /// The directory of the weights, below `dir`; mostly `dir` itself.
    weights: PathBuf,
    tensors: BTreeMap<String, CheckpointTensor>,
    metadata: BTreeMap<String, String>,
    norm_offset: f32,
    /// What its blocks are called together, if it has any.
    quantization: Option<String>,
    /// What stands for the files of a folder, of a GGUF file; the folder that it lies in is not looked at.
    gguf: Option<BTreeMap<String, Vec<u8>>>,
}

/// A tensor of a checkpoint; the bytes are a view of the mapped file, of any alignment.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointTensor {
    /// Element type.
    pub dtype: CheckpointDtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The elements, little endian, row-major.
    pub bytes: Bytes,
    /// The blocks of a GGUF file that the bytes are, of whole rows; the type of elements is that of bytes then.
    pub blocks: Option<BlockKind>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Maps the weights in a directory and checks their headers.
    ///
    /// Fails with [`Kind::NotFound`] if there are no weights in safetensors format, and with [`Kind::Corrupt`] if a
    /// header or the index is wrong or they contradict each other.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_in(dir, "")
    }

    /// Opens as [`open`](Self::open) does a checkpoint whose weights lie in a folder of it, such as `0_Transformer`; an
    /// empty name is the directory itself.
    ///
    /// Fails with [`Kind::Invalid`] if the name leads out of the directory.
    pub fn open_in(dir: &Path, folder: &str) -> Result<Self, Error> {
        let mut checkpoint = Self::empty(dir);
        if !folder.is_empty() {
            checkpoint.weights = checkpoint.within(folder)?;
        }
        let single = checkpoint.weights.join(SINGLE);
        if single.is_file() {
            checkpoint.add_file(&single)?;
        } else if let Some(index) = read_small(&checkpoint.weights.join(INDEX))? {
            checkpoint.add_shards(&index)?;
        } else {
            return Err(no_weights(&checkpoint.weights));
        }
        Ok(checkpoint)
    }

    /// Maps one file of weights and checks its header; the directory is the one it lies in.
    ///
    /// Fails as [`open`](Self::open) does.
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        let mut checkpoint = Self::empty(path.parent().unwrap_or_else(|| Path::new("")));
        checkpoint.add_file(path)?;
        Ok(checkpoint)
    }

    /// A checkpoint of which only the files beside the weights are wanted: it has no tensors.
    pub fn without_weights(dir: &Path) -> Self {
        Self::empty(dir)
    }

    /// This checkpoint with the tensors of one more file of its directory, `*.safetensors` or a state dict that
    /// `torch.save` wrote; `prefix` goes before their names. `None` if there is no such file. The name may lead into a
    /// folder, such as `2_Dense/model.safetensors`.
    ///
    /// Fails with [`Kind::Invalid`] if the name leads out of the directory, with [`Kind::Unsupported`] if the file holds
    /// anything but tensors, and with [`Kind::Corrupt`] if it is damaged or a tensor is there already.
    pub fn with_file(&self, name: &str, prefix: &str) -> Result<Option<Self>, Error> {
        let path = self.within(name)?;
        if self.gguf.is_some() || !path.is_file() {
            return Ok(None);
        }
        let tensors = if path.extension().is_some_and(|end| end == "safetensors") {
            Self::open_file(&path)?.tensors
        } else {
            torch::read(&map_file(&path)?).map_err(|error| error.in_file(&path))?
        };
        let mut all = self.clone();
        for (name, tensor) in tensors {
            let name = format!("{prefix}{name}");
            if all.tensors.insert(name.clone(), tensor).is_some() {
                let what = format!("tensor {} is in two files", shown(&name));
                return Err(Error::new(Kind::Corrupt, what).in_file(&path));
            }
        }
        Ok(Some(all))
    }

    /// This checkpoint with other names of its tensors.
    ///
    /// Fails with [`Kind::Corrupt`] if two tensors would get one name.
    pub fn renamed(&self, rename: impl Fn(&str) -> String) -> Result<Self, Error> {
        let mut all = Self { tensors: BTreeMap::new(), ..self.clone() };
        let mut before: BTreeMap<String, &str> = BTreeMap::new();
        for (old, tensor) in &self.tensors {
            let new = rename(old);
            if let Some(other) = before.insert(new.clone(), old) {
                let (new, other, old) = (shown(&new), shown(other), shown(old));
                let what = format!("tensors {other} and {old} both stand for {new}");
                return Err(Error::new(Kind::Corrupt, what)
                    .in_file(&self.weights)
                    .mismatch("one of them", "two")
                    .remedy("save the model again, so that each tensor is there once"));
            }
            all.tensors.insert(new, tensor.clone());
        }
        Ok(all)
    }

    fn empty(dir: &Path) -> Self {
        let weights = dir.to_path_buf();
        Self {
            dir: dir.to_path_buf(),
            weights,
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
            norm_offset: 0.0,
            quantization: None,
            gguf: None,
        }
    }

    /// A GGUF file: its tensors, what stands for the files of a folder, and what its blocks are called together.
    pub(crate) fn of_gguf(
        path: &Path,
        tensors: BTreeMap<String, CheckpointTensor>,
        files: BTreeMap<String, Vec<u8>>,
        quantization: String,
    ) -> Self {
        let dir = path.parent().unwrap_or_else(|| Path::new(""));
        let (gguf, quantization) = (Some(files), Some(quantization));
        Self { tensors, quantization, gguf, ..Self::empty(dir) }
    }

    /// This checkpoint with other tensors in the place of some, and what their blocks are called together.
    pub(crate) fn with_blocks(
        mut self,
        tensors: Vec<(String, CheckpointTensor)>,
        quantization: String,
    ) -> Self {
        self.tensors.extend(tensors);
        Self { quantization: Some(quantization), ..self }
    }

    /// What the blocks of its matrices are called together, such as `Q4_K_M`; `None` of checkpoints that were not quantised.
    pub fn quantization(&self) -> Option<&str> {
        self.quantization.as_deref()
    }

    /// Whether it is a GGUF file.
    pub fn is_gguf(&self) -> bool {
        self.gguf.is_some()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor by name; cloning it does not copy the weights.
    pub fn get(&self, name: &str) -> Option<CheckpointTensor> {
        self.tensors.get(name).cloned()
    }

    /// The texts under `__metadata__` in the headers, sorted by key; of shards that differ, the last one's.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The content of another file of the checkpoint, for instance `config.json` or `1_Pooling/config.json`, or
    /// `None` if there is none.
    ///
    /// Fails with [`Kind::Invalid`] if the name leads out of the directory or the file exceeds 256 MiB.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        if let Some(gguf) = &self.gguf {
            return Ok(gguf.get(name).cloned());
        }
        read_small(&self.within(name)?)
    }

    /// Reads as [`file`](Self::file) does, from the folder that the weights lie in.
    pub fn file_beside_weights(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        if self.gguf.is_some() {
            return self.file(name);
        }
        check_inside(&self.dir, name)?;
        read_small(&self.weights.join(name))
    }

    /// Names of the files in a folder below that of the weights, sorted, so many at most; none if there is no such folder.
    ///
    /// Fails with [`Kind::Invalid`] if the name leads out of the directory.
    pub(crate) fn listed_beside_weights(
        &self,
        folder: &str,
        most: usize,
    ) -> Result<Vec<String>, Error> {
        if self.gguf.is_some() {
            return Ok(Vec::new());
        }
        check_inside(&self.dir, folder)?;
        let entries = fs::read_dir(self.weights.join(folder)).into_iter().flatten();
        let names = entries
            .take(MOST_LISTED)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_plain_name(name)).collect();
        names.sort();
        names.truncate(most);
        Ok(names)
    }

    /// What is to be added to the weights of norms.
    pub(crate) fn norm_offset(&self) -> f32 {
        self.norm_offset
    }

    /// This checkpoint with another [`norm_offset`](Self::norm_offset).
    pub(crate) fn with_norm_offset(self, norm_offset: f32) -> Self {
        Self { norm_offset, ..self }
    }

    /// The path of a name inside of the directory.
    fn within(&self, name: &str) -> Result<PathBuf, Error> {
        check_inside(&self.dir, name)?;
        Ok(self.dir.join(name))
    }

    fn add_shards(&mut self, json: &[u8]) -> Result<(), Error> {
        let path = self.weights.join(INDEX);
        let index = parse_index(json).map_err(|error| error.in_file(&path))?;
        let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        for shard in shards {
            self.add_file(&self.weights.join(shard))?;
        }
        for (name, shard) in &index.weight_map {
            if !self.tensors.contains_key(name) {
                let what = format!("tensor {} is missing", shown(name));
                return Err(Error::new(Kind::Corrupt, what)
                    .in_file(&path)
                    .mismatch(format_args!("it in {}", shown(shard)), "no shard with it")
                    .remedy("download the checkpoint again"));
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        self.add_bytes(path, &map_file(path)?)
    }

    /// Adds the tensors of a file with this content.
    fn add_bytes(&mut self, path: &Path, all: &Bytes) -> Result<(), Error> {
        let broken = |what: String| {
            Error::new(Kind::Corrupt, what)
                .in_file(path)
                .remedy("the file is damaged or incomplete: download the checkpoint again")
        };
        let (header, metadata) = SafeTensors::read_metadata(all)
            .map_err(|error| broken(format!("not a safetensors file ({error})")))?;
        let data = header.checked_add(size_of::<u64>()).filter(|&start| start <= all.len());
        let data = data
            .map(|start| all.slice(start..))
            .ok_or_else(|| broken("the header is too long".to_owned()))?;
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            if start > end || end > data.len() {
                return Err(broken(format!("tensor {} reaches beyond the file", shown(&name)))
                    .mismatch(format_args!("an end up to {}", data.len()), end));
            }
            let tensor = CheckpointTensor {
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes: data.slice(start..end),
                blocks: None,
            };
            if self.tensors.insert(name.clone(), tensor).is_some() {
                return Err(broken(format!("tensor {} is in two shards", shown(&name))));
            }
        }
        self.metadata
            .extend(metadata.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        Ok(())
    }
}

fn no_weights(dir: &Path) -> Error {
    let found = foreign_weights(dir);
    let remedy = match found.as_deref() {
        Some(PYTORCH) => {
            format!("{PYTORCH} is not read: convert it to safetensors first")
        }
        Some(name) if Path::new(name).extension().is_some_and(|end| end == "onnx") => {
            format!("to pack {name} for the ort backend, name the file itself")
        }
        Some(name) => format!("to pack {name}, name the file itself"),
        None => "give the directory that holds the model's files".to_owned(),
    };
    let found = match found {
        Some(name) => format!("a directory with {name}"),
        None if dir.is_dir() => "a directory without them".to_owned(),
        None if dir.exists() => "a file".to_owned(),
        None => "no directory".to_owned(),
    };
    Error::new(Kind::NotFound, "no weights")
        .in_file(dir)
        .mismatch(format_args!("{SINGLE} or {INDEX}"), found)
        .remedy(remedy)
}

/// The first weights of another format in a directory, by name.
fn foreign_weights(dir: &Path) -> Option<String> {
    // Where the hub's repositories keep them.
    for dir in [dir.to_path_buf(), dir.join("onnx")] {
        let mut names: Vec<String> = fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .take(MOST_LISTED)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| {
                let extension = Path::new(name).extension();
                name == PYTORCH || extension.is_some_and(|end| end == "gguf" || end == "onnx")
            })
            .collect();
        names.sort();
        if let Some(name) = names.into_iter().next() {
            return Some(name.escape_debug().to_string());
        }
    }
    None
}

/// Reads an index and checks that every shard lies in its directory.
fn parse_index(json: &[u8]) -> Result<Index, Error> {
    let wrong = |what: String| Error::new(Kind::Corrupt, what);
    let index: Index = serde_json::from_slice(json)
        .map_err(|error| wrong(format!("not an index of shards ({error})")))?;
    for shard in index.weight_map.values() {
        if !is_plain_name(shard) {
            return Err(wrong("a shard lies outside the directory".to_owned())
                .mismatch("a plain file name", shown(shard))
                .remedy("do not use this checkpoint"));
        }
    }
    Ok(index)
}

/// Refuses a name that leads out of the directory it is joined to.
fn check_inside(dir: &Path, name: &str) -> Result<(), Error> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !plain || name.contains(['\\', '\0']) {
        return Err(Error::new(Kind::Invalid, "the name leads out of the checkpoint")
            .in_file(dir)
            .mismatch("a relative path without `..`", shown(name)));
    }
    Ok(())
}

/// Whether a name from a file names another file in the same directory.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
        && !name.contains(['\\', '\0'])
}

/// A whole file, `None` if it does not exist.
fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("cannot open the file", path, error)),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("cannot read the file", path, e))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(Error::new(Kind::Invalid, "the file is too large")
            .in_file(path)
            .mismatch(format_args!("at most {LARGEST_FILE} bytes"), "more"));
    }
    Ok(Some(bytes))
}

/// The elements of a tensor of floats (f16, bf16, f32, f64) or of blocks as f32.
///
/// Fails with [`Kind::Unsupported`] for any other type, and with [`Kind::Corrupt`] if the bytes are not a whole number
/// of elements.
pub fn to_f32(tensor: &CheckpointTensor) -> Result<Vec<f32>, Error> {
    let bytes = &tensor.bytes[..];
    if let Some(kind) = tensor.blocks {
        return of_blocks(tensor, kind);
    }
    match tensor.dtype {
        CheckpointDtype::F32 => elements(bytes, f32::from_le_bytes),
        #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is asked for")]
        CheckpointDtype::F64 => elements(bytes, |b| f64::from_le_bytes(b) as f32),
        CheckpointDtype::BF16 => elements(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        CheckpointDtype::F16 => {
            // The slice conversion uses F16C; one element at a time is several times slower.
            let halves = elements(bytes, f16::from_le_bytes)?;
            let mut out = vec![0.0; halves.len()];
            halves.convert_to_f32_slice(&mut out);
            Ok(out)
        }
        other => Err(Error::new(Kind::Unsupported, "not a tensor of floats")
            .mismatch("f16, bf16, f32 or f64", format_args!("{other:?}"))),
    }
}

fn of_blocks(tensor: &CheckpointTensor, kind: BlockKind) -> Result<Vec<f32>, Error> {
    let count: usize = tensor.shape.iter().product();
    let (weights, len) = kind.gguf_block();
    let row = tensor.shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(weights) || tensor.bytes.len() != count / weights * len {
        return Err(Error::new(Kind::Corrupt, "a tensor is no whole rows of blocks").mismatch(
            format_args!("rows of a multiple of {weights} weights"),
            format_args!("{:?} in {} bytes", tensor.shape, tensor.bytes.len()),
        ));
    }
    let mut out = vec![0.0; count];
    blocks::dequantize(kind, &tensor.bytes, &mut out);
    Ok(out)
}

fn elements<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Result<Vec<T>, Error> {
    let (whole, rest) = bytes.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(Error::new(Kind::Corrupt, "a tensor ends within an element")
            .mismatch(format_args!("a multiple of {N} bytes"), bytes.len()));
    }
    Ok(whole.iter().map(|&element| read(element)).collect())
}

/// Reads bytes as a weight file, for the fuzz targets.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn tensors_of(bytes: &Bytes) -> Result<BTreeMap<String, CheckpointTensor>, Error> {
    let mut checkpoint = Checkpoint::empty(Path::new(""));
    checkpoint.add_bytes(Path::new(SINGLE), bytes)?;
    Ok(checkpoint.tensors)
}

/// Reads bytes as an index, for the fuzz targets; returns the shards.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn shards_of(json: &[u8]) -> Result<BTreeSet<String>, Error> {
    Ok(parse_index(json)?.weight_map.into_values().collect())
}

#[cfg(test)]
mod tests;
