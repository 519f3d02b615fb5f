//! The directory of a zip archive whose entries are stored, not compressed.
//!
//! Only what `torch.save` writes: the directory at the end says where entries begin and how long they are, also in the
//! 64-bit form; local headers are only passed over. All numbers are little endian.
//!
//! ```text
//! end         "PK\5\6", u16 disk x2, u16 entries x2, u32 directory length, u32 directory offset, u16 comment length
//! directory   n x ("PK\1\2", u16 versions x2, u16 flags, u16 method, u32 time, u32 crc, u32 stored, u32 length,
//!                  u16 name, u16 extra, u16 comment, u16 disk, u16, u32, u32 header offset, name, extra, comment)
//! header      "PK\3\4", 22 bytes of the same, u16 name, u16 extra, name, extra, data
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use defrost_loader::{Error, Kind, shown};

use super::super::reader::Reader;

const END: [u8; 4] = *b"PK\x05\x06";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const HEADER: [u8; 4] = *b"PK\x03\x04";
/// Bytes of the end without its comment, which `torch.save` leaves empty.
const END_LEN: usize = 22;
/// The most entries of an archive; a state dict of a few tensors has a dozen.
const MOST_ENTRIES: u16 = 4096;
/// What fields say whose value is elsewhere, because it needs 64 bits. Such files have gigabytes.
const ELSEWHERE: u32 = u32::MAX;

/// An archive: the place of every entry.
#[derive(Debug)]
pub(super) struct Archive {
    file: Bytes,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    header: u32,
    len: u32,
}

impl Archive {
    pub(super) fn open(file: &Bytes) -> Result<Self, Error> {
        let end = file.len().checked_sub(END_LEN).filter(|&at| file[at..].starts_with(&END));
        let Some(end) = end else {
            return Err(Error::new(Kind::Unsupported, "not a zip archive as torch.save writes it")
                .remedy("load the file with torch 1.6 or newer and save its state dict again"));
        };
        let mut reader = Reader::new(file.slice(end + END.len()..));
        reader.take(4, "the end")?;
        let [_, count] = u16s(&mut reader, "the end")?;
        let [len, offset] = [reader.u32("the end")?, reader.u32("the end")?];
        if count > MOST_ENTRIES || offset == ELSEWHERE {
            return Err(Error::new(Kind::Unsupported, "the archive is too large")
                .mismatch(format_args!("at most {MOST_ENTRIES} entries below 4 GiB"), count));
        }
        let mut directory = Reader::new(file.clone());
        directory.take(u64::from(offset), "the archive")?;
        let mut directory = directory.part(u64::from(len), "the archive's directory")?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let (name, entry) = entry(&mut directory)?;
            if entries.insert(name.clone(), entry).is_some() {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!("entry {} is there twice", shown(&name)),
                ));
            }
        }
        Ok(Self { file: file.clone(), entries })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The bytes of an entry, or `None` if there is none of that name.
    pub(super) fn get(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let Some(entry) = self.entries.get(name) else {
            return Ok(None);
        };
        let mut reader = Reader::new(self.file.clone());
        reader.take(u64::from(entry.header), "the archive")?;
        signature(&mut reader, HEADER)?;
        reader.take(22, "an entry")?;
        let [name, extra] = u16s(&mut reader, "an entry")?;
        reader.take(u64::from(name) + u64::from(extra), "an entry")?;
        reader.take(u64::from(entry.len), "an entry").map(Some)
    }
}

fn entry(directory: &mut Reader) -> Result<(String, Entry), Error> {
    const WHAT: &str = "an entry of the archive's directory";
    signature(directory, ENTRY)?;
    directory.take(4, WHAT)?;
    let [flags, method] = u16s(directory, WHAT)?;
    directory.take(8, WHAT)?;
    let [stored, len] = [directory.u32(WHAT)?, directory.u32(WHAT)?];
    let [name, extra] = u16s(directory, WHAT)?;
    let [comment, _] = u16s(directory, WHAT)?;
    directory.take(6, WHAT)?;
    let header = directory.u32(WHAT)?;
    let name = directory.name(u64::from(name), "the name of an entry")?;
    directory.take(u64::from(extra) + u64::from(comment), WHAT)?;
    let encrypted = flags & 1 != 0;
    if method != 0 || encrypted || stored != len || len == ELSEWHERE || header == ELSEWHERE {
        return Err(Error::new(
            Kind::Unsupported,
            format!("entry {} is not stored as it is", shown(&name)),
        ));
    }
    Ok((name, Entry { header, len }))
}

fn u16s(reader: &mut Reader, what: &str) -> Result<[u16; 2], Error> {
    let [a, b, c, d] = reader.array(what)?;
    Ok([u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])])
}

fn signature(reader: &mut Reader, expected: [u8; 4]) -> Result<(), Error> {
    let at = reader.offset();
    if reader.array("an entry")? == expected {
        return Ok(());
    }
    Err(Error::new(Kind::Corrupt, "the archive's directory leads nowhere").at(at))
}
