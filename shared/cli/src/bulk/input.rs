//! Where rows come from: JSON lines or Parquet, as objects with the fields that the command asked for.
//!
//! Rows are read one at a time. A line may be 64 MiB long and no longer, so that a file without line ends does not become
//! one string in memory.

#[cfg(feature = "parquet")]
mod columns;
mod datum;
mod form;
mod unread;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeSeed;

pub(crate) use datum::{Datum, Record, json, kind, not, text};
pub(crate) use unread::Unread;

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
    /// Opens a file; `-` is standard input, which holds JSON lines. The fields in `fields` are kept, of which a Parquet file
    /// must have those in `needed`.
    pub(super) fn open(path: &Path, fields: &[&str], needed: &[&str]) -> Result<Self> {
        if path.as_os_str() == "-" {
            return Self::lines("stdin".to_owned(), Box::new(std::io::stdin()), None, fields);
        }
        let name = path.display().to_string();
        let named = || format!("cannot read {name}");
        let mut file = File::open(path).with_context(named)?;
        let mut magic = [0; 4];
        let begun = read_up_to(&mut file, &mut magic).with_context(named)?;
        if magic == *b"PAR1" {
            return Self::columns(name, file, fields, needed);
        }
        if form::has_ending(path, "parquet") {
            match &magic[..begun] {
                [] => bail!(
                    "{name} is empty: expected a Parquet file, which has some bytes even without rows; was its upload cut off?"
                ),
                b"PARE" => {
                    bail!("{name} is encrypted, which is not read: expected a plain Parquet file")
                }
                found => bail!(
                    "{name} is no Parquet file: expected \"PAR1\" at its start, found {:?}",
                    String::from_utf8_lossy(found)
                ),
            }
        }
        let bytes = file.metadata().with_context(named)?;
        // What is no plain file cannot go back: it keeps the bytes that were looked at.
        let (reader, total): (Box<dyn Read + Send>, _) = if bytes.is_file() {
            file.rewind().with_context(named)?;
            (Box::new(file), Some(bytes.len()))
        } else {
            (Box::new(std::io::Cursor::new(magic[..begun].to_vec()).chain(file)), None)
        };
        Self::lines(name, reader, total, fields)
    }

    fn lines(
        name: String,
        reader: Box<dyn Read + Send>,
        total: Option<u64>,
        fields: &[&str],
    ) -> Result<Self> {
        let mut lines = Lines::new(reader, total, fields);
        let begins = lines.reader.fill_buf().with_context(|| format!("cannot read {name}"))?;
        form::check(&name, begins)?;
        Ok(Self { name, rows: Rows::Lines(lines) })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
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

    /// The fields that the command did not ask for.
    pub(super) fn unread(&self) -> Unread {
        match &self.rows {
            Rows::Lines(lines) => lines.unread.clone(),
            #[cfg(feature = "parquet")]
            Rows::Columns(columns) => columns.unread(),
        }
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
    /// Fields that are kept.
    fields: Vec<String>,
    unread: Unread,
}

impl Lines {
    fn new(reader: Box<dyn Read + Send>, total: Option<u64>, fields: &[&str]) -> Self {
        let reader = BufReader::with_capacity(BUFFER, reader);
        let fields = fields.iter().map(|&field| field.to_owned()).collect();
        Self {
            reader,
            line: Vec::new(),
            number: 0,
            read: 0,
            total,
            fields,
            unread: Unread::default(),
        }
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
                let record = parse(&self.line, &self.fields, &mut self.unread);
                return Ok(Some(Row { number: self.number, record }));
            }
        }
    }
}

fn parse(line: &[u8], fields: &[String], unread: &mut Unread) -> Result<Record, String> {
    let line = std::str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to() + 1;
        format!("byte {at} is not UTF-8, expected a JSON object in UTF-8: iconv converts files")
    })?;
    if line.trim_start().starts_with('{') {
        let mut json = serde_json::Deserializer::from_str(line);
        let record = datum::Fields(fields, unread).deserialize(&mut json);
        return record
            .and_then(|record| json.end().map(|()| record))
            .map_err(|error| format!("expected a JSON object: {}", no_json(&error, line)));
    }
    match (serde_json::from_str::<Datum>(line), form::csv(line)) {
        (Ok(other), _) => Err(format!("expected a JSON object, found {}", kind(&other))),
        (Err(_), Some(remedy)) => {
            Err(format!("expected a JSON object, found what looks like CSV: {remedy}"))
        }
        (Err(error), None) => Err(format!("expected a JSON object: {}", no_json(&error, line))),
    }
}

/// What keeps a line from being JSON. Numbers that JSON does not have are named: much writes them all the same.
fn no_json(error: &serde_json::Error, line: &str) -> String {
    let near = error.column().saturating_sub(2)..=error.column();
    let word =
        near.filter_map(|at| line.get(at..).map(|rest| (at, rest))).find_map(|(at, rest)| {
            let is_negative = line[..at].ends_with('-');
            match (rest.starts_with("NaN"), rest.starts_with("Infinity")) {
                (true, _) => Some("NaN"),
                (_, true) if is_negative => Some("-Infinity"),
                (_, true) => Some("Infinity"),
                _ => None,
            }
        });
    match word {
        Some(word) => format!("found {word}, which is not JSON (write null, or a string)"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(u64, Result<Record, String>)> {
        let reader = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
        let mut lines = Lines::new(reader, None, &["a", "b"]);
        std::iter::from_fn(|| lines.next().unwrap()).map(|row| (row.number, row.record)).collect()
    }

    #[test]
    fn lines_are_counted_as_editors_do() {
        let rows = all("\u{feff}{\"a\": 1}\r\n\n  \n{\"b\": [2]}\n[1]\n{\"a\"\n{}");
        let numbers: Vec<u64> = rows.iter().map(|row| row.0).collect();
        assert_eq!(numbers, [1, 4, 5, 6, 7]);
        assert_eq!(rows[0].1.as_ref().unwrap()["a"], Datum::Number("1".to_owned()));
        assert_eq!(rows[2].1, Err("expected a JSON object, found a list".to_owned()));
        assert!(rows[3].1.as_ref().unwrap_err().starts_with("expected a JSON object: EOF"));
        assert!(all("").is_empty() && all("\n \n").is_empty());
    }
}
