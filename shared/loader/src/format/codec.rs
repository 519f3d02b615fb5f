//! A manifest as bytes: a fixed header, then flat tables of fixed-size records.
//!
//! ```text
//! header   magic 8, then u32: chunk size, layout ABI, isa, then the counts of
//!          metadata pairs, segments, tensors, chunks, strings, and the bytes of all strings
//! strings  n x u32 length, then the UTF-8 bytes without separators
//! meta     n x (u32 key, u32 value)                                     sorted by key
//! segments n x (u32 name, u32 flags, u64 offset, u64 len)                 flag 1: sparse
//! tensors  n x (u32 name, u32 layout, u32 segment, u8 dtype, u8 rank, u16 zero, u64 offset, u64 len, 8 x u64 shape)
//! chunks   n x (u64 xxh3, 32 bytes blake3)
//! ```
//!
//! Strings are numbered in the order in which the tables first use them. The header's counts determine the length of
//! the manifest, which is compared before anything is allocated; strings that are used twice are shared in memory, so
//! a decoded manifest is never much larger than its bytes. After decoding, the manifest is encoded again and compared:
//! whatever this code would not have written (unused strings, nonzero filler, another order) is refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::dtype::Dtype;
use crate::error::{Error, Kind, shown};
use crate::format::cursor::{Cursor, to_usize};
use crate::format::manifest::{Manifest, Segment, TensorEntry};
use crate::format::{HUGE_PAGE, LARGE_FILE, MAX_MANIFEST, MAX_RANK, PAGE, align_up};
use crate::hash::ChunkHash;

const MAGIC: [u8; 8] = *b"DFRSTMAN";
const HEADER: u64 = 8 + 9 * 4;
const STRING: u64 = 4;
const META: u64 = 8;
const SEGMENT: u64 = 24;
/// Segment flag: read here and there, not front to back.
const SPARSE: u32 = 1;
const TENSOR: u64 = 32 + 8 * MAX_RANK as u64;
const CHUNK: u64 = 40;

/// How many records each table has.
#[derive(Debug, Clone, Copy)]
struct Counts {
    meta: usize,
    segments: usize,
    tensors: usize,
    chunks: usize,
    strings: usize,
    string_bytes: usize,
}

impl Counts {
    /// Bytes of the whole manifest; the counts are below 2^32, so the sum cannot overflow.
    fn manifest_len(self) -> u64 {
        HEADER
            + STRING * self.strings as u64
            + self.string_bytes as u64
            + META * self.meta as u64
            + SEGMENT * self.segments as u64
            + TENSOR * self.tensors as u64
            + CHUNK * self.chunks as u64
    }
}

/// Numbers strings in the order of their first use.
#[derive(Default)]
struct Strings<'a> {
    numbers: HashMap<&'a str, usize>,
    ordered: Vec<&'a str>,
}

impl<'a> Strings<'a> {
    fn of(manifest: &'a Manifest) -> Self {
        let mut strings = Self::default();
        strings.add(&manifest.isa);
        for (key, value) in &manifest.meta {
            strings.add(key);
            strings.add(value);
        }
        manifest.segments.iter().for_each(|segment| strings.add(&segment.name));
        for tensor in &manifest.tensors {
            strings.add(&tensor.name);
            strings.add(&tensor.layout);
        }
        strings
    }

    fn add(&mut self, text: &'a str) {
        let next = self.ordered.len();
        if *self.numbers.entry(text).or_insert(next) == next {
            self.ordered.push(text);
        }
    }

    fn number(&self, text: &str) -> usize {
        self.numbers.get(text).copied().unwrap_or(usize::MAX)
    }
}

fn counts(manifest: &Manifest, strings: &Strings<'_>) -> Result<Counts, Error> {
    let counts = Counts {
        meta: manifest.meta.len(),
        segments: manifest.segments.len(),
        tensors: manifest.tensors.len(),
        chunks: manifest.chunks.len(),
        strings: strings.ordered.len(),
        string_bytes: strings.ordered.iter().map(|text| text.len()).sum(),
    };
    if counts.manifest_len() > MAX_MANIFEST {
        return Err(Error::new(Kind::Invalid, "the manifest would be too long")
            .mismatch(format_args!("at most {MAX_MANIFEST} bytes"), counts.manifest_len())
            .remedy("use fewer tensors, shorter names or several snapshots"));
    }
    Ok(counts)
}

impl Manifest {
    /// The length `encode` will have; it does not depend on offsets or hashes.
    pub(crate) fn encoded_len(&self) -> Result<u64, Error> {
        Ok(counts(self, &Strings::of(self))?.manifest_len())
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        let strings = Strings::of(self);
        let counts = counts(self, &strings)?;
        let mut out = Vec::with_capacity(to_usize(counts.manifest_len())?);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.chunk_size.to_le_bytes());
        out.extend_from_slice(&self.layout_abi.to_le_bytes());
        for number in [
            strings.number(&self.isa),
            counts.meta,
            counts.segments,
            counts.tensors,
            counts.chunks,
            counts.strings,
            counts.string_bytes,
        ] {
            put_u32(&mut out, number)?;
        }
        for text in &strings.ordered {
            put_u32(&mut out, text.len())?;
        }
        for text in &strings.ordered {
            out.extend_from_slice(text.as_bytes());
        }
        for (key, value) in &self.meta {
            put_u32(&mut out, strings.number(key))?;
            put_u32(&mut out, strings.number(value))?;
        }
        for segment in &self.segments {
            put_u32(&mut out, strings.number(&segment.name))?;
            out.extend_from_slice(&(if segment.sparse { SPARSE } else { 0 }).to_le_bytes());
            out.extend_from_slice(&segment.offset.to_le_bytes());
            out.extend_from_slice(&segment.len.to_le_bytes());
        }
        for tensor in &self.tensors {
            put_tensor(&mut out, tensor, &strings)?;
        }
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.xxh3.to_le_bytes());
            out.extend_from_slice(&chunk.blake3);
        }
        Ok(out)
    }

    /// Reads a manifest of a file of `file_len` bytes and checks every rule; the bytes may be anything.
    pub(crate) fn decode(bytes: &[u8], file_len: u64) -> Result<Self, Error> {
        let mut cursor = Cursor::new(bytes, PAGE);
        let magic = cursor.array::<8>()?;
        if magic != MAGIC {
            return Err(Error::new(Kind::Corrupt, "not a manifest")
                .at(PAGE)
                .mismatch(MAGIC.escape_ascii(), magic.escape_ascii()));
        }
        let chunk_size = cursor.u32()?;
        let layout_abi = cursor.u32()?;
        let isa = cursor.index()?;
        let counts = Counts {
            meta: cursor.index()?,
            segments: cursor.index()?,
            tensors: cursor.index()?,
            chunks: cursor.index()?,
            strings: cursor.index()?,
            string_bytes: cursor.index()?,
        };
        if counts.manifest_len() != bytes.len() as u64 {
            return Err(Error::new(Kind::Corrupt, "the manifest's tables do not fill it")
                .at(cursor.offset())
                .mismatch(format_args!("{} bytes", counts.manifest_len()), bytes.len()));
        }
        let strings = take_strings(&mut cursor, counts)?;
        let text = |number: usize| {
            strings.get(number).cloned().ok_or_else(|| {
                Error::new(Kind::Corrupt, "a string number is out of range")
                    .at(PAGE)
                    .mismatch(format_args!("below {}", strings.len()), number)
            })
        };
        let mut meta = BTreeMap::new();
        for _ in 0..counts.meta {
            meta.insert(text(cursor.index()?)?, text(cursor.index()?)?);
        }
        let mut segments = Vec::with_capacity(counts.segments);
        for _ in 0..counts.segments {
            segments.push(Segment {
                name: text(cursor.index()?)?,
                sparse: cursor.u32()? & SPARSE != 0,
                offset: cursor.u64()?,
                len: cursor.u64()?,
            });
        }
        let mut tensors = Vec::with_capacity(counts.tensors);
        for _ in 0..counts.tensors {
            tensors.push(take_tensor(&mut cursor, &text)?);
        }
        let mut chunks = Vec::with_capacity(counts.chunks);
        for _ in 0..counts.chunks {
            chunks.push(ChunkHash { xxh3: cursor.u64()?, blake3: cursor.array()? });
        }
        let data_offset = data_offset(bytes.len() as u64, file_len)?;
        let data_len = file_len
            .checked_sub(PAGE)
            .and_then(|end| end.checked_sub(data_offset))
            .ok_or_else(|| {
                Error::new(Kind::Corrupt, "no room for data between manifest and end")
                    .mismatch(format_args!("at least {} bytes", data_offset + PAGE), file_len)
            })?;
        let manifest = Self {
            isa: text(isa)?,
            layout_abi,
            meta,
            segments,
            tensors,
            chunk_size,
            chunks,
            data_offset,
            data_len,
        };
        manifest.check()?;
        if manifest.encode()? != bytes {
            return Err(Error::new(Kind::Corrupt, "the manifest is not in canonical form")
                .at(PAGE)
                .remedy("only manifests that `defrost pack` could have written are accepted"));
        }
        Ok(manifest)
    }
}

/// Where the data starts in a file of this length, behind a manifest of this length.
pub(crate) fn data_offset(manifest_len: u64, file_len: u64) -> Result<u64, Error> {
    let alignment = if file_len >= LARGE_FILE { HUGE_PAGE } else { PAGE };
    PAGE.checked_add(manifest_len).and_then(|end| align_up(end, alignment)).ok_or_else(|| {
        Error::new(Kind::Corrupt, "the manifest is too long")
            .mismatch("below 2^64 bytes", manifest_len)
    })
}

fn put_u32(out: &mut Vec<u8>, number: usize) -> Result<(), Error> {
    let number = u32::try_from(number).map_err(|_| {
        Error::new(Kind::Invalid, "a count in the manifest is too large")
            .mismatch("below 2^32", number)
    })?;
    out.extend_from_slice(&number.to_le_bytes());
    Ok(())
}

fn put_tensor(out: &mut Vec<u8>, tensor: &TensorEntry, strings: &Strings<'_>) -> Result<(), Error> {
    put_u32(out, strings.number(&tensor.name))?;
    put_u32(out, strings.number(&tensor.layout))?;
    put_u32(out, tensor.segment)?;
    let rank = u8::try_from(tensor.shape.len()).unwrap_or(u8::MAX);
    out.extend_from_slice(&[tensor.dtype.code(), rank, 0, 0]);
    out.extend_from_slice(&tensor.offset.to_le_bytes());
    out.extend_from_slice(&tensor.len.to_le_bytes());
    for axis in 0..MAX_RANK {
        let dim = tensor.shape.get(axis).copied().unwrap_or(0) as u64;
        out.extend_from_slice(&dim.to_le_bytes());
    }
    Ok(())
}

fn take_strings(cursor: &mut Cursor<'_>, counts: Counts) -> Result<Vec<Arc<str>>, Error> {
    let mut lengths = Vec::with_capacity(counts.strings);
    for _ in 0..counts.strings {
        lengths.push(cursor.index()?);
    }
    let total = lengths.iter().fold(0u64, |sum, &len| sum + len as u64);
    if total != counts.string_bytes as u64 {
        return Err(Error::new(Kind::Corrupt, "the strings' lengths do not add up")
            .at(cursor.offset())
            .mismatch(counts.string_bytes, total));
    }
    lengths
        .into_iter()
        .map(|len| {
            let at = cursor.offset();
            let bytes = cursor.take(len)?;
            std::str::from_utf8(bytes).map(Arc::from).map_err(|_| {
                Error::new(Kind::Corrupt, "a string is not UTF-8")
                    .at(at)
                    .mismatch("UTF-8", shown(&String::from_utf8_lossy(&bytes[..len.min(256)])))
            })
        })
        .collect()
}

fn take_tensor(
    cursor: &mut Cursor<'_>,
    text: &impl Fn(usize) -> Result<Arc<str>, Error>,
) -> Result<TensorEntry, Error> {
    let name = text(cursor.index()?)?;
    let layout = text(cursor.index()?)?;
    let segment = cursor.index()?;
    let code = cursor.u8()?;
    let dtype = Dtype::from_code(code).ok_or_else(|| {
        Error::new(Kind::Unsupported, format!("tensor {} has an unknown type", shown(&name)))
            .at(cursor.offset() - 1)
            .mismatch("1 to 7", code)
            .remedy("use the defrost version that wrote it, or pack the snapshot again")
    })?;
    let rank = usize::from(cursor.u8()?);
    if rank > MAX_RANK {
        return Err(Error::new(
            Kind::Corrupt,
            format!("tensor {} has too many dimensions", shown(&name)),
        )
        .at(cursor.offset() - 1)
        .mismatch(format_args!("at most {MAX_RANK}"), rank));
    }
    cursor.u16()?;
    let offset = cursor.u64()?;
    let len = cursor.u64()?;
    let mut shape = Vec::with_capacity(rank);
    for axis in 0..MAX_RANK {
        let dim = cursor.u64()?;
        if axis < rank {
            shape.push(to_usize(dim)?);
        }
    }
    Ok(TensorEntry { name, dtype, layout, shape, segment, offset, len })
}
