//! Reads GGUF files, the weights of llama.cpp: header, metadata and where each tensor lies.
//!
//! ```text
//! header    "GGUF", u32 version (2 or 3), u64 tensors, u64 metadata pairs; all numbers little endian
//! metadata  n x (string key, u32 type, value)           string: u64 length, UTF-8; array: u32 type, u64 count, values
//! tensors   n x (string name, u32 rank, rank x u64 dimension, u32 kind, u64 offset)
//!           padding up to a multiple of general.alignment (32 if the metadata does not say)
//! data      each tensor at its offset from here, a multiple of the alignment
//! ```
//!
//! The file is mapped and arrays and tensors are views of it, so that a vocabulary of 250,000 words costs nothing until
//! a caller looks at it. The counts of the header are compared with what the rest of the file could hold before
//! anything is made of them. Dimensions are written innermost first and given outermost first here, as everywhere in
//! this crate. GGUF has no hashes: damage inside a tensor goes unseen.

pub(crate) mod head;
mod kind;
mod value;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use defrost_loader::{Error, Kind, MAX_RANK, map_file, shown};

use super::reader::{Reader, to_usize};

pub use kind::GgufKind;
pub use value::{GgufArray, GgufType, GgufValue, GgufValues};

const MAGIC: [u8; 4] = *b"GGUF";

/// Alignment of the data if the metadata does not say, in bytes; from the format's specification.
const DEFAULT_ALIGNMENT: u32 = 32;

/// Bytes of the shortest metadata pair: a key of one byte, its length, the type, a value of one byte.
const SHORTEST_PAIR: u64 = 8 + 1 + 4 + 1;

/// Bytes of the shortest tensor entry: a name of one byte, its length, rank, no dimensions, kind, offset.
const SHORTEST_TENSOR: u64 = 8 + 1 + 4 + 4 + 8;

/// A GGUF file: its metadata and tensors.
///
/// ```
/// use defrost_pack::{Gguf, GgufValue};
///
/// # fn main() -> Result<(), defrost_loader::Error> {
/// let mut file = b"GGUF\x03\0\0\0".to_vec();
/// file.extend_from_slice(&0u64.to_le_bytes()); // tensors
/// file.extend_from_slice(&1u64.to_le_bytes()); // metadata pairs
/// file.extend_from_slice(&20u64.to_le_bytes());
/// file.extend_from_slice(b"general.architecture");
/// file.extend_from_slice(&8u32.to_le_bytes()); // a string
/// file.extend_from_slice(&4u64.to_le_bytes());
/// file.extend_from_slice(b"bert");
///
/// let model = Gguf::parse(file.into())?;
/// assert_eq!(model.get("general.architecture"), Some(&GgufValue::String("bert".into())));
/// assert!(model.tensors().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Gguf {
    version: u32,
    alignment: u32,
    metadata: BTreeMap<String, GgufValue>,
    tensors: Vec<GgufTensor>,
}

/// A tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GgufTensor {
    /// The name of the tensor, unique in the file.
    pub name: String,
    /// The kind of storage of the elements.
    pub kind: GgufKind,
    /// Dimensions in elements, outermost first.
    pub shape: Vec<usize>,
    /// The offset of the tensor in the file, in bytes.
    pub offset: u64,
    /// The bytes of the tensor, a view of the file; `None` if the kind, and with it the length, is not known.
    pub bytes: Option<Bytes>,
}

impl Gguf {
    /// Maps a file and reads all but its tensors' data.
    ///
    /// Fails with [`Kind::NotFound`], [`Kind::Denied`] or [`Kind::Io`] if the file cannot be read, otherwise as
    /// [`parse`](Self::parse) does.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::parse(map_file(path)?).map_err(|error| error.in_file(path))
    }

    /// Reads the content of a file, which may be anything.
    ///
    /// Fails with [`Kind::Unsupported`] for another version or byte order, with [`Kind::Truncated`] if the file is
    /// shorter than it says, and with [`Kind::Corrupt`] if it contradicts itself or is no GGUF file.
    pub fn parse(bytes: Bytes) -> Result<Self, Error> {
        let file = bytes.clone();
        let mut reader = Reader::new(bytes);
        let version = version(&mut reader)?;
        let tensor_count = count(&mut reader, "tensors", SHORTEST_TENSOR)?;
        let pair_count = count(&mut reader, "metadata pairs", SHORTEST_PAIR)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..pair_count {
            let at = reader.offset();
            let len = reader.u64("the metadata")?;
            let key = reader.name(len, "a metadata key")?;
            let value = value::read(&mut reader)?;
            if metadata.contains_key(&key) {
                return Err(Error::new(Kind::Corrupt, "a metadata key occurs twice")
                    .at(at)
                    .mismatch("keys that differ", shown(&key)));
            }
            metadata.insert(key, value);
        }
        let alignment = alignment(&metadata)?;
        let mut infos = Vec::new();
        for _ in 0..tensor_count {
            infos.push(Info::read(&mut reader)?);
        }
        let start = reader.offset().checked_next_multiple_of(u64::from(alignment));
        let start = start.filter(|&start| infos.is_empty() || start <= file.len() as u64);
        let start = start.ok_or_else(|| {
            Error::new(Kind::Truncated, "the file ends before its data")
                .at(reader.offset())
                .mismatch(format_args!("zeros up to a multiple of {alignment}"), "the end")
        })?;
        let tensors = place(&infos, &file, start, alignment)?;
        Ok(Self { version, alignment, metadata, tensors })
    }

    /// The format's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What tensors are aligned to, in bytes; a power of two.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// All metadata, sorted by key.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &GgufValue)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The metadata value of a key such as `general.architecture`.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// All tensors, in the order of the file's table.
    pub fn tensors(&self) -> &[GgufTensor] {
        &self.tensors
    }
}

fn version(reader: &mut Reader) -> Result<u32, Error> {
    let magic = reader.array::<4>("the header")?;
    if magic != MAGIC {
        return Err(Error::new(Kind::Corrupt, "not a GGUF file")
            .at(0)
            .mismatch(MAGIC.escape_ascii(), magic.escape_ascii()));
    }
    let version = reader.u32("the header")?;
    let refuse = |what: &str, found: String| {
        Err(Error::new(Kind::Unsupported, what.to_owned())
            .at(4)
            .mismatch("version 2 or 3, little endian", found)
            .remedy("convert the model again with a current llama.cpp"))
    };
    match version {
        2 | 3 => Ok(version),
        0x0200_0000 | 0x0300_0000 => {
            refuse("a GGUF file of a big-endian machine", format!("{version:#010x}"))
        }
        _ => refuse("unknown GGUF version", version.to_string()),
    }
}

/// A count of the header, bounded by what the rest of the file can hold.
fn count(reader: &mut Reader, what: &str, shortest: u64) -> Result<u64, Error> {
    let at = reader.offset();
    let count = reader.u64("the header")?;
    let most = reader.remaining() / shortest;
    if count > most {
        return Err(Error::new(Kind::Truncated, format!("more {what} than the file can hold"))
            .at(at)
            .mismatch(format_args!("at most {most}"), count));
    }
    Ok(count)
}

fn alignment(metadata: &BTreeMap<String, GgufValue>) -> Result<u32, Error> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(GgufValue::U32(value)) if value.is_power_of_two() => Ok(*value),
        Some(other) => Err(Error::new(Kind::Corrupt, "general.alignment is unusable")
            .mismatch("a power of two of type u32", format_args!("{other:?}"))),
    }
}

/// A tensor as the table describes it.
struct Info {
    /// The offset of the tensor's entry in the file, for messages.
    at: u64,
    name: String,
    kind: GgufKind,
    shape: Vec<usize>,
    /// The distance of the tensor from the start of the data, in bytes.
    offset: u64,
}

impl Info {
    fn read(reader: &mut Reader) -> Result<Self, Error> {
        const WHAT: &str = "the table of tensors";
        let at = reader.offset();
        let len = reader.u64(WHAT)?;
        let name = reader.name(len, "a tensor's name")?;
        let rank = reader.u32(WHAT)?;
        if rank as usize > MAX_RANK {
            return Err(Error::new(
                Kind::Corrupt,
                format!("tensor {} has too many dimensions", shown(&name)),
            )
            .at(reader.offset() - 4)
            .mismatch(format_args!("at most {MAX_RANK}"), rank));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(to_usize(reader.u64(WHAT)?)?);
        }
        shape.reverse();
        let kind = GgufKind::from_number(reader.u32(WHAT)?);
        Ok(Self { at, name, kind, shape, offset: reader.u64(WHAT)? })
    }

    /// Bytes of the tensor; `None` if its kind is not known.
    fn len(&self) -> Result<Option<u64>, Error> {
        let wrong = |expected: String| {
            let found = format!("{:?} of kind {}", self.shape, self.kind);
            Error::new(
                Kind::Corrupt,
                format!("tensor {} has an impossible shape", shown(&self.name)),
            )
            .at(self.at)
            .mismatch(expected, found)
        };
        let elements = self.shape.iter().try_fold(1u64, |all, &dim| all.checked_mul(dim as u64));
        let elements = elements.ok_or_else(|| wrong("fewer than 2^64 elements".to_owned()))?;
        let Some((block, bytes)) = self.kind.block() else {
            return Ok(None);
        };
        // Blocks run along the innermost dimension; a tensor without dimensions is one element.
        let row = self.shape.last().map_or(1, |&dim| dim as u64);
        if !row.is_multiple_of(block) {
            return Err(wrong(format!("rows of a multiple of {block} elements")));
        }
        let len = (elements / block).checked_mul(bytes);
        len.map(Some).ok_or_else(|| wrong("fewer than 2^64 bytes".to_owned()))
    }
}

/// Gives every tensor its bytes; refuses names that occur twice and tensors that overlap or leave the file.
fn place(
    infos: &[Info],
    file: &Bytes,
    start: u64,
    alignment: u32,
) -> Result<Vec<GgufTensor>, Error> {
    let room = (file.len() as u64).saturating_sub(start);
    let mut names = HashSet::new();
    let mut ranges = Vec::new();
    let mut tensors = Vec::new();
    for info in infos {
        let wrong = |kind: Kind, what: &str| {
            Error::new(kind, format!("tensor {} {what}", shown(&info.name))).at(info.at)
        };
        if !names.insert(info.name.as_str()) {
            return Err(wrong(Kind::Corrupt, "occurs twice"));
        }
        if !info.offset.is_multiple_of(u64::from(alignment)) {
            return Err(wrong(Kind::Corrupt, "is not aligned")
                .mismatch(format_args!("a multiple of {alignment}"), info.offset));
        }
        let len = info.len()?;
        let end = info.offset.checked_add(len.unwrap_or(0)).filter(|&end| end <= room);
        let end = end.ok_or_else(|| {
            let found = format!("{}+{}", info.offset, len.unwrap_or(0));
            wrong(Kind::Truncated, "reaches beyond the file")
                .mismatch(format_args!("an end up to {room} from the start of the data"), found)
        })?;
        ranges.push((info.offset, end, info));
        let bytes = match len {
            Some(_) => Some(file.slice(to_usize(start + info.offset)?..to_usize(start + end)?)),
            None => None,
        };
        let (name, shape) = (info.name.clone(), info.shape.clone());
        tensors.push(GgufTensor {
            name,
            kind: info.kind,
            shape,
            offset: start + info.offset,
            bytes,
        });
    }
    ranges.sort_by_key(|&(offset, end, _)| (offset, end));
    for pair in ranges.windows(2) {
        if let [(_, end, before), (offset, _, info)] = pair
            && offset < end
        {
            let what = format!("tensors {} and {} overlap", shown(&before.name), shown(&info.name));
            return Err(Error::new(Kind::Corrupt, what)
                .at(info.at)
                .mismatch(format_args!("an offset from {end}"), offset));
        }
    }
    Ok(tensors)
}

#[cfg(test)]
pub(crate) mod writing;

#[cfg(test)]
mod tests;
