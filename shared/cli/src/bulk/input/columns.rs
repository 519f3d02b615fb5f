//! Rows of a Parquet file: the columns that were asked for, as JSON values.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::Row;

pub(super) struct Columns {
    rows: RowIter<'static>,
    number: u64,
    total: u64,
}

impl Columns {
    pub(super) fn open(name: &str, file: File, fields: &[&str], needed: &[&str]) -> Result<Self> {
        let reader = SerializedFileReader::new(file)
            .with_context(|| format!("{name} is no Parquet file, or a damaged one"))?;
        let metadata = reader.metadata().file_metadata();
        let total = u64::try_from(metadata.num_rows()).context("a negative number of rows")?;
        let schema = metadata.schema();
        let columns: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
        if let Some(missing) = needed.iter().find(|&field| !columns.contains(field)) {
            bail!("{name} has no column {missing:?}, it has: {}", columns.join(", "));
        }
        let wanted: Vec<Arc<Type>> = schema
            .get_fields()
            .iter()
            .filter(|field| fields.contains(&field.name()))
            .cloned()
            .collect();
        let projection = Type::group_type_builder(schema.name()).with_fields(wanted).build()?;
        let rows = RowIter::from_file_into(Box::new(reader)).project(Some(projection))?;
        Ok(Self { rows, number: 0, total })
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let Some(row) = self.rows.next() else { return Ok(None) };
        self.number += 1;
        Ok(Some(Row { number: self.number, record: Ok(object(row?)) }))
    }

    pub(super) fn progress(&self) -> (u64, Option<u64>) {
        (self.number, Some(self.total))
    }
}

fn object(row: parquet::record::Row) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

/// What has no counterpart in JSON counts as null.
fn value(field: Field) -> Value {
    match field {
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(text) => text.into(),
        // Writers without logical types, such as old ones of Spark and Impala, leave texts as bytes.
        Field::Bytes(bytes) => {
            String::from_utf8(bytes.data().to_vec()).map_or(Value::Null, Value::from)
        }
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        _ => Value::Null,
    }
}
