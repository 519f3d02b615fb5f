//! A table as a Parquet file.
//!
//! Rows gather until they make a row group, which is then written column by column. Where groups end depends on the rows
//! alone, so that equal tables are equal files.
//!
//! Lists are Parquet's three-level lists with elements that are never null. Numbers of vectors are stored as they are:
//! they are noise to a compressor and to a dictionary. Everything else is compressed with Snappy.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::{ColumnWriter, get_typed_column_writer_mut};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type,
};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};

use super::{Cell, Column, Element, Kind, Numbers};

/// Numbers of a row group: as floats 16 MB, which the writer holds twice. Larger groups bring readers nothing.
const GROUP_NUMBERS: usize = 1 << 22;
/// Rows of a row group, where they are small.
const GROUP_ROWS: usize = 1 << 16;

pub(in crate::bulk) struct ParquetTable {
    writer: SerializedFileWriter<File>,
    columns: Vec<Gathered>,
    rows: usize,
    numbers: usize,
}

/// The values of one column in the group that is being made.
enum Gathered {
    Text(Vec<ByteArray>),
    Number(Vec<i32>),
    Bool(Vec<bool>),
    List { numbers: Numbers, lists: Vec<List> },
}

/// How many numbers a row has, and how many make one of its inner lists if it has such.
#[derive(Clone, Copy)]
struct List {
    count: usize,
    width: Option<usize>,
}

impl ParquetTable {
    pub(super) fn new(file: File, columns: &[Column]) -> Result<Self> {
        let texts = [("id", Kind::Text), ("key", Kind::Text)];
        let own = columns.iter().map(|column| (column.name, column.kind));
        let all: Vec<(&str, Kind)> = texts.into_iter().chain(own).collect();
        let fields: Result<Vec<Arc<Type>>> =
            all.iter().map(|&(name, kind)| Ok(Arc::new(field(name, kind)?))).collect();
        let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields?).build()?);
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("defrost ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_statistics_enabled(EnabledStatistics::Chunk);
        for &(name, kind) in &all {
            let path = match kind {
                Kind::Text if name == "key" => ColumnPath::from(name),
                Kind::Text | Kind::Number | Kind::Bool => continue,
                Kind::List(_) => path(&[name, "list", "element"]),
                Kind::Lists(_) => path(&[name, "list", "element", "list", "element"]),
            };
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
                .set_column_compression(path, Compression::UNCOMPRESSED);
        }
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build()))?;
        let columns = all.iter().map(|&(_, kind)| Gathered::new(kind)).collect();
        Ok(Self { writer, columns, rows: 0, numbers: 0 })
    }

    pub(super) fn push(&mut self, id: &str, key: &str, cells: Vec<Cell>) -> Result<()> {
        self.columns[0].push_text(id)?;
        self.columns[1].push_text(key)?;
        for (column, cell) in self.columns[2..].iter_mut().zip(cells) {
            self.numbers += column.push(cell)?;
        }
        self.rows += 1;
        if self.rows >= GROUP_ROWS || self.numbers >= GROUP_NUMBERS {
            self.write_group()?;
        }
        Ok(())
    }

    fn write_group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let mut writer = group.next_column()?.context("the schema has fewer columns")?;
            column.write(writer.untyped())?;
            writer.close()?;
        }
        group.close()?;
        (self.rows, self.numbers) = (0, 0);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<File> {
        if self.rows > 0 {
            self.write_group()?;
        }
        Ok(self.writer.into_inner()?)
    }
}

fn path(parts: &[&str]) -> ColumnPath {
    ColumnPath::new(parts.iter().map(|&part| part.to_owned()).collect())
}

fn field(name: &str, kind: Kind) -> Result<Type> {
    let leaf = |physical: Physical| {
        Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED)
    };
    Ok(match kind {
        Kind::Text => leaf(Physical::BYTE_ARRAY)
            .with_converted_type(ConvertedType::UTF8)
            .with_logical_type(Some(LogicalType::String))
            .build()?,
        Kind::Number => leaf(Physical::INT32).build()?,
        Kind::Bool => leaf(Physical::BOOLEAN).build()?,
        Kind::List(of) => list(name, element(of)?)?,
        Kind::Lists(of) => list(name, list("element", element(of)?)?)?,
    })
}

fn list(name: &str, element: Type) -> Result<Type> {
    let repeated = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element)])
        .build()?;
    Ok(Type::group_type_builder(name)
        .with_repetition(Repetition::REQUIRED)
        .with_converted_type(ConvertedType::LIST)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(repeated)])
        .build()?)
}

fn element(of: Element) -> Result<Type> {
    let (physical, whole) = match of {
        Element::F32 => (Physical::FLOAT, None),
        Element::F64 => (Physical::DOUBLE, None),
        Element::I8 => (Physical::INT32, Some((8, true, ConvertedType::INT_8))),
        Element::U8 => (Physical::INT32, Some((8, false, ConvertedType::UINT_8))),
        Element::U32 => (Physical::INT32, Some((32, false, ConvertedType::UINT_32))),
    };
    let mut builder =
        Type::primitive_type_builder("element", physical).with_repetition(Repetition::REQUIRED);
    if let Some((bit_width, is_signed, converted)) = whole {
        builder = builder
            .with_converted_type(converted)
            .with_logical_type(Some(LogicalType::integer(bit_width, is_signed)));
    }
    Ok(builder.build()?)
}

impl Gathered {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text(Vec::new()),
            Kind::Number => Self::Number(Vec::new()),
            Kind::Bool => Self::Bool(Vec::new()),
            Kind::List(of) | Kind::Lists(of) => {
                Self::List { numbers: Numbers::none(of), lists: Vec::new() }
            }
        }
    }

    fn push_text(&mut self, text: &str) -> Result<()> {
        let Self::Text(all) = self else { bail!("a text in a column of something else") };
        all.push(ByteArray::from(text));
        Ok(())
    }

    /// Returns how many numbers it has got.
    fn push(&mut self, cell: Cell) -> Result<usize> {
        let count = match (self, cell) {
            (Self::Text(all), Cell::Text(text)) => {
                all.push(ByteArray::from(text));
                0
            }
            (Self::Number(all), Cell::Number(number)) => {
                all.push(i32::try_from(number).context("a number beyond 31 bits")?);
                0
            }
            (Self::Bool(all), Cell::Bool(value)) => {
                all.push(value);
                0
            }
            (Self::List { numbers, lists }, Cell::List(more)) => {
                lists.push(List { count: more.len(), width: None });
                numbers.append(more)?
            }
            (Self::List { numbers, lists }, Cell::Lists(more, width)) => {
                lists.push(List { count: more.len(), width: Some(width.max(1)) });
                numbers.append(more)?
            }
            _ => bail!("a cell in a column of something else"),
        };
        Ok(count)
    }

    /// Writes the values, and begins anew.
    fn write(&mut self, writer: &mut ColumnWriter<'_>) -> Result<()> {
        match self {
            Self::Text(all) => put::<ByteArrayType>(writer, &std::mem::take(all)),
            Self::Number(all) => put::<Int32Type>(writer, &std::mem::take(all)),
            Self::Bool(all) => put::<BoolType>(writer, &std::mem::take(all)),
            Self::List { numbers, lists } => {
                let lists = std::mem::take(lists);
                match numbers {
                    Numbers::F32(all) => {
                        put_lists::<FloatType>(writer, &std::mem::take(all), &lists)
                    }
                    Numbers::F64(all) => {
                        put_lists::<DoubleType>(writer, &std::mem::take(all), &lists)
                    }
                    Numbers::I8(all) => put_lists::<Int32Type>(writer, &wide(all), &lists),
                    Numbers::U8(all) => put_lists::<Int32Type>(writer, &wide(all), &lists),
                    Numbers::U32(all) => {
                        let all: Vec<i32> =
                            std::mem::take(all).into_iter().map(u32::cast_signed).collect();
                        put_lists::<Int32Type>(writer, &all, &lists)
                    }
                }
            }
        }
    }
}

fn wide<T: Into<i32>>(all: &mut Vec<T>) -> Vec<i32> {
    std::mem::take(all).into_iter().map(Into::into).collect()
}

fn put<T: DataType>(writer: &mut ColumnWriter<'_>, values: &[T::T]) -> Result<()> {
    get_typed_column_writer_mut::<T>(writer).write_batch(values, None, None)?;
    Ok(())
}

/// Writes lists with their levels, row by row: a level is as large as a small number, and those of one row are enough.
fn put_lists<T: DataType>(
    writer: &mut ColumnWriter<'_>,
    mut values: &[T::T],
    lists: &[List],
) -> Result<()> {
    let writer = get_typed_column_writer_mut::<T>(writer);
    for list in lists {
        let (row, rest) = values.split_at(list.count);
        values = rest;
        let (repetition, definition) = list.levels();
        writer.write_batch(row, Some(&definition), Some(&repetition))?;
    }
    Ok(())
}

impl List {
    /// How deep each value repeats, and how much of its path is there: in Parquet's way, where lists begin and end.
    fn levels(self) -> (Vec<i16>, Vec<i16>) {
        if self.count == 0 {
            return (vec![0], vec![0]);
        }
        let depth = if self.width.is_some() { 2 } else { 1 };
        let repetition = (0..self.count).map(|at| match self.width {
            _ if at == 0 => 0,
            Some(width) if at % width == 0 => 1,
            _ => depth,
        });
        (repetition.collect(), vec![depth; self.count])
    }
}

impl Numbers {
    fn none(of: Element) -> Self {
        match of {
            Element::F32 => Self::F32(Vec::new()),
            Element::F64 => Self::F64(Vec::new()),
            Element::I8 => Self::I8(Vec::new()),
            Element::U8 => Self::U8(Vec::new()),
            Element::U32 => Self::U32(Vec::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::F32(all) => all.len(),
            Self::F64(all) => all.len(),
            Self::I8(all) => all.len(),
            Self::U8(all) => all.len(),
            Self::U32(all) => all.len(),
        }
    }

    fn append(&mut self, more: Self) -> Result<usize> {
        let count = more.len();
        match (self, more) {
            (Self::F32(all), Self::F32(more)) => all.extend(more),
            (Self::F64(all), Self::F64(more)) => all.extend(more),
            (Self::I8(all), Self::I8(more)) => all.extend(more),
            (Self::U8(all), Self::U8(more)) => all.extend(more),
            (Self::U32(all), Self::U32(more)) => all.extend(more),
            _ => bail!("numbers of another type in a column"),
        }
        Ok(count)
    }
}
