//! Reads numbers from untrusted bytes; every step is checked and errors say where in the file it happened.

use crate::error::{Error, Kind};

#[derive(Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// File offset of `rest`, for messages.
    offset: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], offset: u64) -> Self {
        Self { rest: bytes, offset }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(Error::new(Kind::Corrupt, "a table ends early")
                .at(self.offset)
                .mismatch(format_args!("{len} more bytes"), self.rest.len()));
        };
        self.rest = rest;
        self.offset += len as u64;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    /// A 32-bit number used as an index or length; it always fits on the platforms we build for.
    pub(super) fn index(&mut self) -> Result<usize, Error> {
        self.u32().and_then(to_usize)
    }
}

/// A number from a file as an in-memory size.
pub(crate) fn to_usize(
    value: impl TryInto<usize> + Copy + std::fmt::Display,
) -> Result<usize, Error> {
    value.try_into().map_err(|_| {
        Error::new(Kind::Unsupported, "a size exceeds this machine's address space")
            .mismatch(usize::MAX, value)
    })
}
