//! The first and last 4096 bytes of a snapshot.

use crate::error::{Error, Kind};
use crate::format::cursor::Cursor;
use crate::format::{MAX_MANIFEST, PAGE};
use crate::root::Root;

/// Bytes of a superblock.
pub(crate) const LEN: usize = 4096;

/// A byte that is no UTF-8, a name, and a line end: a file that went through a text-mode transfer no longer matches.
pub(crate) const MAGIC: [u8; 8] = *b"\x89DFRST\r\n";

const VERSION: u32 = 2;

/// Feature bits this version knows: none yet. A file that sets any other needs a newer reader.
const KNOWN_FEATURES: u32 = 0;

/// Where the checksum of everything before it lies.
const CRC_AT: usize = LEN - 4;

const REMEDY: &str = "the file is damaged or incomplete: fetch or pack the snapshot again";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) file_len: u64,
    pub(crate) manifest_len: u64,
    pub(crate) root: Root,
}

impl Superblock {
    pub(crate) fn encode(&self) -> [u8; LEN] {
        let mut head = Vec::with_capacity(LEN);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&KNOWN_FEATURES.to_le_bytes());
        head.extend_from_slice(&self.file_len.to_le_bytes());
        head.extend_from_slice(&PAGE.to_le_bytes());
        head.extend_from_slice(&self.manifest_len.to_le_bytes());
        head.extend_from_slice(self.root.as_bytes());
        let mut block = [0; LEN];
        block[..head.len()].copy_from_slice(&head);
        let crc = crc32c::crc32c(&block[..CRC_AT]);
        block[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Checks a superblock against the real length of its file.
    ///
    /// The order decides what the reader is told: a foreign file is called foreign, a newer version newer (whatever
    /// else it changed), damage damage, and only a block that is whole is believed about lengths.
    pub(crate) fn decode(block: &[u8; LEN], file_len: u64) -> Result<Self, Error> {
        let mut cursor = Cursor::new(block, 0);
        let magic = cursor.array::<8>()?;
        if magic != MAGIC {
            return Err(Error::new(Kind::Corrupt, "not a defrost snapshot")
                .at(0)
                .mismatch(MAGIC.escape_ascii(), magic.escape_ascii())
                .remedy("give the path of a .snap file made by `defrost pack`"));
        }
        let version = cursor.u32()?;
        if version != VERSION {
            return Err(Error::new(Kind::Unsupported, "unknown format version")
                .at(8)
                .mismatch(VERSION, version)
                .remedy("use the defrost version that wrote it, or pack the snapshot again"));
        }
        let crc = crc32c::crc32c(&block[..CRC_AT]);
        let stored = Cursor::new(&block[CRC_AT..], 0).u32()?;
        if crc != stored {
            return Err(Error::new(Kind::Corrupt, "the superblock's checksum differs")
                .at(CRC_AT as u64)
                .mismatch(format_args!("{stored:08x}"), format_args!("{crc:08x}"))
                .remedy(REMEDY));
        }
        let features = cursor.u32()?;
        if features & !KNOWN_FEATURES != 0 {
            return Err(Error::new(Kind::Unsupported, "unknown feature bits")
                .at(12)
                .mismatch(
                    format_args!("only bits of {KNOWN_FEATURES:#x}"),
                    format_args!("{features:#x}"),
                )
                .remedy("use a newer defrost, or pack the snapshot again"));
        }
        let said_len = cursor.u64()?;
        let manifest_offset = cursor.u64()?;
        let found = Self {
            file_len: said_len,
            manifest_len: cursor.u64()?,
            root: Root::from_bytes(cursor.array()?),
        };
        if said_len != file_len {
            let kind = if file_len < said_len { Kind::Truncated } else { Kind::Corrupt };
            return Err(Error::new(kind, "the file has another length than its superblock says")
                .at(16)
                .mismatch(format_args!("{said_len} bytes"), file_len)
                .remedy(REMEDY));
        }
        if manifest_offset != PAGE {
            return Err(Error::new(Kind::Corrupt, "the manifest lies elsewhere")
                .at(24)
                .mismatch(PAGE, manifest_offset));
        }
        let room = file_len.saturating_sub(2 * PAGE).min(MAX_MANIFEST);
        if found.manifest_len == 0 || found.manifest_len > room {
            return Err(Error::new(Kind::Corrupt, "impossible length of the manifest")
                .at(32)
                .mismatch(format_args!("1 to {room} bytes"), found.manifest_len));
        }
        if found.encode() != *block {
            return Err(Error::new(Kind::Corrupt, "the superblock's unused bytes are not zero")
                .mismatch("zeros up to byte 4092", "other bytes"));
        }
        Ok(found)
    }

    /// The copy at the end must be the same block, byte for byte.
    pub(crate) fn check_tail(
        head: &[u8; LEN],
        tail: &[u8; LEN],
        file_len: u64,
    ) -> Result<(), Error> {
        match head.iter().zip(tail).position(|(a, b)| a != b) {
            None => Ok(()),
            Some(first) => Err(Error::new(
                Kind::Corrupt,
                "the superblock's copy at the end of the file differs",
            )
            .at(file_len.saturating_sub(LEN as u64) + first as u64)
            .mismatch(format_args!("{:#04x}", head[first]), format_args!("{:#04x}", tail[first]))
            .remedy(REMEDY)),
        }
    }
}

/// Makes the checksum right again after a change, as an attacker or another writer would.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn seal(block: &mut [u8; LEN]) {
    let crc = crc32c::crc32c(&block[..CRC_AT]);
    block[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE_LEN: u64 = 5 * PAGE;

    fn block() -> [u8; LEN] {
        Superblock { file_len: FILE_LEN, manifest_len: 100, root: Root::of(b"x") }.encode()
    }

    fn sealed(at: usize, bytes: &[u8]) -> [u8; LEN] {
        let mut block = block();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut block);
        block
    }

    #[track_caller]
    fn refused(block: &[u8; LEN], file_len: u64, kind: Kind, part: &str) {
        let error = Superblock::decode(block, file_len).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn a_whole_block_is_accepted() {
        assert_eq!(Superblock::decode(&block(), FILE_LEN).unwrap().manifest_len, 100);
    }

    #[test]
    fn each_wrong_field_has_its_own_message() {
        refused(&[0; LEN], FILE_LEN, Kind::Corrupt, "not a defrost snapshot");
        refused(
            &sealed(8, &3u32.to_le_bytes()),
            FILE_LEN,
            Kind::Unsupported,
            "expected 2, found 3",
        );
        refused(&sealed(12, &4u32.to_le_bytes()), FILE_LEN, Kind::Unsupported, "0x4");
        refused(&block(), FILE_LEN - 1, Kind::Truncated, "expected 20480 bytes, found 20479");
        refused(&block(), FILE_LEN + 1, Kind::Corrupt, "found 20481");
        refused(&sealed(24, &8192u64.to_le_bytes()), FILE_LEN, Kind::Corrupt, "elsewhere");
        refused(
            &sealed(32, &0u64.to_le_bytes()),
            FILE_LEN,
            Kind::Corrupt,
            "length of the manifest",
        );
        refused(
            &sealed(32, &u64::MAX.to_le_bytes()),
            FILE_LEN,
            Kind::Corrupt,
            "length of the manifest",
        );
        refused(&sealed(72, &[1]), FILE_LEN, Kind::Corrupt, "not zero");
        refused(&sealed(4091, &[1]), FILE_LEN, Kind::Corrupt, "not zero");
    }

    #[test]
    fn a_newer_version_is_named_even_when_its_checksum_means_something_else() {
        let mut newer = block();
        newer[8] = 3;
        refused(&newer, FILE_LEN, Kind::Unsupported, "unknown format version");
    }

    #[test]
    fn a_flip_of_any_bit_is_found() {
        let good = block();
        for bit in 0..LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&bad, FILE_LEN).is_err(), "bit {bit}");
            assert!(Superblock::check_tail(&good, &bad, FILE_LEN).is_err(), "bit {bit}");
        }
    }
}
