//! Protobuf's wire format: a message is a run of fields, each a number, a type and a value.
//!
//! ```text
//! tag     varint: field number << 3 | wire type
//! value   0 varint | 1 eight bytes | 2 varint length, then as many bytes | 5 four bytes
//! ```
//!
//! Types 3 and 4 (groups) are the only ones whose end cannot be computed without reading what is inside. They were
//! given up before ONNX existed, so they are refused.

use bytes::Bytes;
use defrost_loader::{Error, Kind};

use super::super::reader::Reader;

/// Bytes of the longest varint: 64 bits, 7 a byte.
const LONGEST_VARINT: usize = 10;

/// The fields of a message, one by one.
#[derive(Debug)]
pub(super) struct Fields {
    reader: Reader,
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u64,
    /// The offset of the field's tag in the file, in bytes.
    pub(super) offset: u64,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Varint(u64),
    Fixed64,
    Bytes(Reader),
    Fixed32,
}

impl Fields {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader }
    }

    /// Where the next field starts in the file, in bytes; after the last one, where the message ends.
    pub(super) fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// The next field; `None` at the end of the message.
    pub(super) fn next(&mut self) -> Result<Option<Field>, Error> {
        const WHAT: &str = "a field";
        let reader = &mut self.reader;
        if reader.remaining() == 0 {
            return Ok(None);
        }
        let offset = reader.offset();
        let tag = varint(reader)?;
        let (number, kind) = (tag >> 3, tag & 7);
        if number == 0 {
            return Err(Error::new(Kind::Corrupt, "not protobuf")
                .at(offset)
                .mismatch("a field number from 1", 0));
        }
        let value = match kind {
            0 => Value::Varint(varint(reader)?),
            1 => {
                reader.take(8, WHAT)?;
                Value::Fixed64
            }
            2 => {
                let len = varint(reader)?;
                Value::Bytes(reader.part(len, WHAT)?)
            }
            5 => {
                reader.take(4, WHAT)?;
                Value::Fixed32
            }
            _ => {
                return Err(Error::new(Kind::Corrupt, "not protobuf")
                    .at(offset)
                    .mismatch("a field of type 0, 1, 2 or 5", format_args!("type {kind}")));
            }
        };
        Ok(Some(Field { number, offset, value }))
    }
}

impl Field {
    /// A number.
    pub(super) fn number_value(self, what: &str) -> Result<u64, Error> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(self.wrong_type(what, "a number")),
        }
    }

    /// An inner message.
    pub(super) fn message(self, what: &str) -> Result<Fields, Error> {
        self.reader(what).map(Fields::new)
    }

    /// Any text, perhaps an empty one.
    pub(super) fn text(self, what: &str) -> Result<String, Error> {
        let mut reader = self.reader(what)?;
        reader.text(reader.remaining(), what)
    }

    /// A text that is short and fit to be shown.
    pub(super) fn name(self, what: &str) -> Result<String, Error> {
        let mut reader = self.reader(what)?;
        reader.name(reader.remaining(), what)
    }

    /// Bytes, a view of the file.
    pub(super) fn bytes(self, what: &str) -> Result<Bytes, Error> {
        let mut reader = self.reader(what)?;
        reader.take(reader.remaining(), what)
    }

    /// Calls `each` for every number of a repeated field, which may be packed into one value or not.
    pub(super) fn numbers(
        self,
        what: &str,
        mut each: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if let Value::Varint(value) = self.value {
            return each(value);
        }
        let mut reader = self.reader(what)?;
        while reader.remaining() > 0 {
            each(varint(&mut reader)?)?;
        }
        Ok(())
    }

    /// How many numbers of `size` bytes a repeated field holds, packed or not.
    pub(super) fn count_fixed(self, size: u64, what: &str) -> Result<u64, Error> {
        let offset = self.offset;
        match (&self.value, size) {
            (Value::Fixed32, 4) | (Value::Fixed64, 8) => return Ok(1),
            _ => {}
        }
        let len = self.reader(what)?.remaining();
        if !len.is_multiple_of(size) {
            return Err(Error::new(Kind::Corrupt, format!("{what} ends within an element"))
                .at(offset)
                .mismatch(format_args!("a multiple of {size} bytes"), len));
        }
        Ok(len / size)
    }

    fn reader(self, what: &str) -> Result<Reader, Error> {
        match self.value {
            Value::Bytes(reader) => Ok(reader),
            _ => Err(self.wrong_type(what, "bytes")),
        }
    }

    fn wrong_type(&self, what: &str, expected: &str) -> Error {
        let found = match self.value {
            Value::Varint(_) => "a number",
            Value::Fixed64 => "eight bytes",
            Value::Bytes(_) => "bytes",
            Value::Fixed32 => "four bytes",
        };
        Error::new(Kind::Corrupt, format!("{what} is of another type"))
            .at(self.offset)
            .mismatch(expected, found)
    }
}

fn varint(reader: &mut Reader) -> Result<u64, Error> {
    let at = reader.offset();
    let mut value = 0u64;
    for index in 0..LONGEST_VARINT {
        let [byte] = reader.array("a number")?;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for the last of 64 bits only.
        if index == LONGEST_VARINT - 1 && bits > 1 {
            break;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::new(Kind::Corrupt, "a number is too long")
        .at(at)
        .mismatch("at most 64 bits", "more"))
}
