//! Where rows come from: JSON lines or Parquet, as objects with the fields that somebody asked for.
//!
//! Rows are read one at a time. A line may be 64 MiB long and no longer, so that a file without line ends does not become
//! one string in memory.

#[cfg(feature = "parquet")]
mod columns;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// The fields of a row by name.
pub(crate) type Record = Map<String, Value>;

/// A row, or what is wrong with it.
#[derive(Debug)]
pub(super) struct Row {
    /// Counted from 1, blank lines included.
    pub(super) number: u64,
    pub(super) record: Result<Record, String>,
}

/// A file of rows, or standard input.
pub(super) struct Input {
    name: String,
    rows: Rows,
}

enum Rows {
    Lines(Lines),
    #[cfg(feature = "parquet")]
    Columns(Box<columns::Columns>),
}

impl Input {
    /// Opens a file; `-` is standard input, which holds JSON lines. Of Parquet files the columns in `fields` are read, of which
    /// `needed` must be there.
    pub(super) fn open(path: &Path, fields: &[&str], needed: &[&str]) -> Result<Self> {
        if path.as_os_str() == "-" {
            let lines = Lines::new(Box::new(std::io::stdin()), None);
            return Ok(Self { name: "stdin".to_owned(), rows: Rows::Lines(lines) });
        }
        let name = path.display().to_string();
        let named = || format!("cannot read {name}");
        let mut file = File::open(path).with_context(named)?;
        let mut magic = [0; 4];
        let begun = read_up_to(&mut file, &mut magic).with_context(named)?;
        if magic[..begun].starts_with(&[0x1f, 0x8b]) {
            bail!("{name} is compressed: give it as `gzip -dc {name} | defrost … --in -`");
        }
        if magic == *b"PAR1" {
            return Self::columns(name, file, fields, needed);
        }
        let bytes = file.metadata().with_context(named)?;
        // What is no plain file cannot go back: it keeps the bytes that were looked at.
        let (reader, total): (Box<dyn Read + Send>, _) = if bytes.is_file() {
            file.rewind().with_context(named)?;
            (Box::new(file), Some(bytes.len()))
        } else {
            (Box::new(std::io::Cursor::new(magic[..begun].to_vec()).chain(file)), None)
        };
        Ok(Self { name, rows: Rows::Lines(Lines::new(reader, total)) })
    }

    #[cfg(feature = "parquet")]
    fn columns(name: String, file: File, fields: &[&str], needed: &[&str]) -> Result<Self> {
        let columns = columns::Columns::open(&name, file, fields, needed)?;
        Ok(Self { name, rows: Rows::Columns(Box::new(columns)) })
    }

    #[cfg(not(feature = "parquet"))]
    fn columns(name: String, _: File, _: &[&str], _: &[&str]) -> Result<Self> {
        bail!(
            "{name} is a Parquet file, which this build does not read: build with the feature `parquet`, or give JSON lines"
        )
    }

    /// Where it comes from, for messages: `corpus.jsonl:17`.
    pub(super) fn place(&self, number: u64) -> String {
        match &self.rows {
            Rows::Lines(_) => format!("{}:{number}", self.name),
            #[cfg(feature = "parquet")]
            Rows::Columns(_) => format!("{} row {number}", self.name),
        }
    }

    /// The next row; nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let row = match &mut self.rows {
            Rows::Lines(lines) => lines.next(),
            #[cfg(feature = "parquet")]
            Rows::Columns(columns) => columns.next(),
        };
        row.with_context(|| format!("cannot read {}", self.name))
    }

    /// How far it is read, and how far that goes where it is known: bytes of lines, rows of columns.
    pub(super) fn progress(&self) -> (u64, Option<u64>) {
        match &self.rows {
            Rows::Lines(lines) => (lines.read, lines.total),
            #[cfg(feature = "parquet")]
            Rows::Columns(columns) => columns.progress(),
        }
    }
}

fn read_up_to(file: &mut File, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read(&mut bytes[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

/// Longest line.
const MOST_LINE: u64 = 64 << 20;
/// Large enough that a disk reads in good pieces.
const BUFFER: usize = 1 << 18;

struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    number: u64,
    read: u64,
    total: Option<u64>,
}

impl Lines {
    fn new(reader: Box<dyn Read + Send>, total: Option<u64>) -> Self {
        let reader = BufReader::with_capacity(BUFFER, reader);
        Self { reader, line: Vec::new(), number: 0, read: 0, total }
    }

    fn next(&mut self) -> Result<Option<Row>> {
        loop {
            self.line.clear();
            let read = self.reader.by_ref().take(MOST_LINE).read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.read += read as u64;
            if read as u64 == MOST_LINE && self.line.last() != Some(&b'\n') {
                bail!(
                    "line {} is longer than 64 MiB, expected one JSON object a line",
                    self.number
                );
            }
            if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some(Row { number: self.number, record: parse(&self.line) }));
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Record, String> {
    match serde_json::from_slice(line) {
        Ok(Value::Object(record)) => Ok(record),
        Ok(other) => Err(format!("expected a JSON object, found {}", kind(&other))),
        Err(error) => Err(format!("expected a JSON object: {error}")),
    }
}

/// What a value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A field that must be a text.
pub(crate) fn text(record: &mut Record, field: &str) -> Result<String, String> {
    match record.get_mut(field) {
        Some(Value::String(text)) => Ok(std::mem::take(text)),
        Some(other) => Err(format!("{field:?} must be a string, found {}", kind(other))),
        None => Err(format!("there is no {field:?}, expected a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(u64, Result<Record, String>)> {
        let mut lines = Lines::new(Box::new(std::io::Cursor::new(text.as_bytes().to_vec())), None);
        std::iter::from_fn(|| lines.next().unwrap()).map(|row| (row.number, row.record)).collect()
    }

    #[test]
    fn lines_are_counted_as_editors_do() {
        let rows = all("\u{feff}{\"a\": 1}\r\n\n  \n{\"b\": [2]}\n[1]\n{\"a\"\n{}");
        let numbers: Vec<u64> = rows.iter().map(|row| row.0).collect();
        assert_eq!(numbers, [1, 4, 5, 6, 7]);
        assert_eq!(rows[0].1.as_ref().unwrap()["a"], 1);
        assert_eq!(rows[2].1, Err("expected a JSON object, found a list".to_owned()));
        assert!(rows[3].1.as_ref().unwrap_err().starts_with("expected a JSON object: EOF"));
        assert!(all("").is_empty() && all("\n \n").is_empty());
    }
}
