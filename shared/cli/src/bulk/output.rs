//! Tables of answers: JSON lines or Parquet, by the ending of the file's name.
//!
//! A row has the id, the key, and the columns that the work defines. Both forms have the same columns under the same names;
//! in Parquet ids are always strings.

#[cfg(feature = "parquet")]
mod columns;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Result, bail};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::key::Key;
use super::spool::Id;

/// A column and what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Bool,
    List(Element),
    /// Lists of lists of one length.
    Lists(Element),
}

/// What lists hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    F64,
    I8,
    U8,
    U32,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(&'static str),
    Number(u32),
    Bool(bool),
    List(Numbers),
    /// Rows of so many numbers.
    Lists(Numbers, usize),
}

/// The numbers of a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Numbers {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    U32(Vec<u32>),
}

/// What the name of an output says about its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    JsonLines,
    Parquet,
}

impl Form {
    pub(super) fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|end| end.to_str()) {
            Some("jsonl" | "ndjson") => Ok(Self::JsonLines),
            Some("parquet") if cfg!(feature = "parquet") => Ok(Self::Parquet),
            Some("parquet") => bail!(
                "{}: this build writes no Parquet files: build with the feature `parquet`, or name it .jsonl",
                path.display()
            ),
            _ => bail!(
                "{}: expected a name that ends in .parquet, .jsonl or .ndjson",
                path.display()
            ),
        }
    }
}

/// A table that is being written.
pub(super) enum Table {
    JsonLines {
        out: BufWriter<File>,
        columns: Vec<Column>,
    },
    #[cfg(feature = "parquet")]
    Parquet(Box<columns::ParquetTable>),
}

impl Table {
    pub(super) fn new(file: File, form: Form, columns: Vec<Column>) -> Result<Self> {
        match form {
            Form::JsonLines => Ok(Self::JsonLines { out: BufWriter::new(file), columns }),
            #[cfg(feature = "parquet")]
            Form::Parquet => {
                Ok(Self::Parquet(Box::new(columns::ParquetTable::new(file, &columns)?)))
            }
            #[cfg(not(feature = "parquet"))]
            Form::Parquet => bail!("this build writes no Parquet files"),
        }
    }

    /// Adds a row, whose cells are those of the columns.
    pub(super) fn push(&mut self, id: &Id, key: &Key, cells: Vec<Cell>) -> Result<()> {
        match self {
            Self::JsonLines { out, columns } => {
                let line = Line { id, key, columns, cells: &cells };
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")?;
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(table) => table.push(id.text(), &key.to_string(), cells)?,
        }
        Ok(())
    }

    /// Writes what is left; afterwards the file is on the disk.
    pub(super) fn finish(self) -> Result<()> {
        let file = match self {
            Self::JsonLines { out, .. } => {
                out.into_inner().map_err(std::io::IntoInnerError::into_error)?
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(table) => table.finish()?,
        };
        Ok(file.sync_all()?)
    }
}

struct Line<'a> {
    id: &'a Id,
    key: &'a Key,
    columns: &'a [Column],
    cells: &'a [Cell],
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(Some(2 + self.cells.len()))?;
        match self.id {
            Id::Text(text) => line.serialize_entry("id", text)?,
            Id::Number(number) => {
                let number: Result<serde_json::Number, _> = number.parse();
                line.serialize_entry("id", &number.map_err(serde::ser::Error::custom)?)?;
            }
        }
        line.serialize_entry("key", &self.key.to_string())?;
        for (column, cell) in self.columns.iter().zip(self.cells) {
            line.serialize_entry(column.name, cell)?;
        }
        line.end()
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Number(number) => number.serialize(serializer),
            Self::Bool(value) => value.serialize(serializer),
            Self::List(numbers) => match numbers {
                Numbers::F32(all) => all.serialize(serializer),
                Numbers::F64(all) => all.serialize(serializer),
                Numbers::I8(all) => all.serialize(serializer),
                Numbers::U8(all) => all.serialize(serializer),
                Numbers::U32(all) => all.serialize(serializer),
            },
            Self::Lists(numbers, width) => match numbers {
                Numbers::F32(all) => rows(all, *width, serializer),
                Numbers::F64(all) => rows(all, *width, serializer),
                Numbers::I8(all) => rows(all, *width, serializer),
                Numbers::U8(all) => rows(all, *width, serializer),
                Numbers::U32(all) => rows(all, *width, serializer),
            },
        }
    }
}

fn rows<T: Serialize, S: Serializer>(
    all: &[T],
    width: usize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(None)?;
    for row in all.chunks(width.max(1)) {
        list.serialize_element(row)?;
    }
    list.end()
}
