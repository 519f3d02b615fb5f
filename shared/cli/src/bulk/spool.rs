//! The rows of a run, in a nameless temporary file (in `TMPDIR`) while their answers are computed: which answer each one gets,
//! what it is called, and what the work notes about how its answer is to be written. So the input is read once, even where it is a pipe, and may change meanwhile.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};

use anyhow::{Context, Result, bail};

use super::key::Key;

/// What a row is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Id {
    Text(String),
    /// A number as it was written.
    Number(String),
}

impl Id {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
        }
    }
}

/// Rows that are being noted down.
#[derive(Debug)]
pub(super) struct Spool {
    out: BufWriter<File>,
    rows: u64,
}

impl Spool {
    pub(super) fn new() -> Result<Self> {
        let file = tempfile::tempfile().context("cannot make a temporary file (TMPDIR)")?;
        Ok(Self { out: BufWriter::new(file), rows: 0 })
    }

    pub(super) fn push(&mut self, key: &Key, id: &Id, note: &[u8]) -> Result<()> {
        let length = u32::try_from(id.text().len())?.to_le_bytes();
        let head = [u8::from(matches!(id, Id::Number(_))), u8::try_from(note.len())?];
        for bytes in [&key.0[..], &head, &length, id.text().as_bytes(), note] {
            self.out.write_all(bytes).context("cannot write a temporary file (TMPDIR)")?;
        }
        self.rows += 1;
        Ok(())
    }

    /// All rows, in the order in which they came.
    pub(super) fn read(self) -> Result<Rows> {
        let failed = "cannot read a temporary file (TMPDIR)";
        let mut file =
            self.out.into_inner().map_err(std::io::IntoInnerError::into_error).context(failed)?;
        file.rewind().context(failed)?;
        Ok(Rows { reader: BufReader::new(file), left: self.rows })
    }
}

/// A row: the key of its answer, what it is called, and the note.
pub(super) type Noted = (Key, Id, Vec<u8>);

/// The rows.
#[derive(Debug)]
pub(super) struct Rows {
    reader: BufReader<File>,
    left: u64,
}

impl Rows {
    pub(super) fn next(&mut self) -> Result<Option<Noted>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut head = [0; 38];
        self.reader.read_exact(&mut head)?;
        let (mut key, mut length) = ([0; 32], [0; 4]);
        key.copy_from_slice(&head[..32]);
        length.copy_from_slice(&head[34..]);
        let mut text = vec![0; u32::from_le_bytes(length) as usize];
        self.reader.read_exact(&mut text)?;
        let mut note = vec![0; usize::from(head[33])];
        self.reader.read_exact(&mut note)?;
        let Ok(text) = String::from_utf8(text) else { bail!("a temporary file changed") };
        let id = if head[32] == 1 { Id::Number(text) } else { Id::Text(text) };
        Ok(Some((Key(key), id, note)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_in_order() {
        let rows: Vec<Noted> = (0u8..200)
            .map(|at| {
                let text = "ü".repeat(usize::from(at % 7));
                (
                    Key([at; 32]),
                    if at % 2 == 0 { Id::Text(text) } else { Id::Number(at.to_string()) },
                    vec![at; usize::from(at % 5)],
                )
            })
            .collect();
        let mut spool = Spool::new().unwrap();
        for (key, id, note) in &rows {
            spool.push(key, id, note).unwrap();
        }
        let mut read = spool.read().unwrap();
        for row in rows {
            assert_eq!(read.next().unwrap(), Some(row));
        }
        assert_eq!(read.next().unwrap(), None);
    }
}
