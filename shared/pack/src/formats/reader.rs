//! Walks through untrusted bytes; every step is checked, and errors say where in the file it happened.
//!
//! A reader sees a part of a file and hands out views of it, so that nothing is copied. Readers of inner parts keep
//! counting from the start of the file.

use bytes::Bytes;
use defrost_loader::{Error, Kind, MAX_NAME, shown};

#[derive(Debug, Clone)]
pub(super) struct Reader {
    rest: Bytes,
    /// File offset of `rest`, in bytes.
    offset: u64,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    /// File offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes not yet read.
    pub(super) fn remaining(&self) -> u64 {
        self.rest.len() as u64
    }

    /// The next `len` bytes; `what` they are is for the message if there are fewer.
    pub(super) fn take(&mut self, len: u64, what: &str) -> Result<Bytes, Error> {
        if len > self.remaining() {
            return Err(Error::new(Kind::Truncated, format!("{what} ends early"))
                .at(self.offset)
                .mismatch(format_args!("{len} more bytes"), self.remaining()));
        }
        self.offset += len;
        Ok(self.rest.split_to(to_usize(len)?))
    }

    /// The next `len` bytes as a reader of their own.
    pub(super) fn part(&mut self, len: u64, what: &str) -> Result<Self, Error> {
        let offset = self.offset;
        Ok(Self { rest: self.take(len, what)?, offset })
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let bytes = self.take(N as u64, what)?;
        let mut out = [0; N];
        out.copy_from_slice(&bytes);
        Ok(out)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Error> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Error> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The next `len` bytes as text.
    pub(super) fn text(&mut self, len: u64, what: &str) -> Result<String, Error> {
        self.with_text(len, what, str::to_owned)
    }

    /// Passes over the next `len` bytes, which must be text.
    pub(super) fn check_text(&mut self, len: u64, what: &str) -> Result<(), Error> {
        self.with_text(len, what, |_| ())
    }

    fn with_text<T>(&mut self, len: u64, what: &str, keep: impl Fn(&str) -> T) -> Result<T, Error> {
        let at = self.offset;
        let bytes = self.take(len, what)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(keep(text)),
            Err(error) => {
                let start = error.valid_up_to();
                let found = bytes.get(start).copied().unwrap_or_default();
                Err(Error::new(Kind::Corrupt, format!("{what} is not UTF-8"))
                    .at(at + start as u64)
                    .mismatch("UTF-8", format_args!("{found:#04x}")))
            }
        }
    }

    /// The next `len` bytes as a name: short, not empty, fit to be shown.
    pub(super) fn name(&mut self, len: u64, what: &str) -> Result<String, Error> {
        let at = self.offset;
        let unusable = |found: String| {
            Error::new(Kind::Corrupt, format!("{what} is unusable"))
                .at(at)
                .mismatch(format_args!("1 to {MAX_NAME} bytes without control characters"), found)
        };
        if len == 0 || len > MAX_NAME as u64 {
            return Err(unusable(format!("{len} bytes")));
        }
        let name = self.text(len, what)?;
        if name.chars().any(char::is_control) {
            return Err(unusable(shown(&name)));
        }
        Ok(name)
    }
}

/// A number from a file as an in-memory size.
pub(super) fn to_usize(value: u64) -> Result<usize, Error> {
    usize::try_from(value).map_err(|_| {
        Error::new(Kind::Unsupported, "a size exceeds this machine's address space")
            .mismatch(usize::MAX, value)
    })
}
