//! Rows of a Parquet file: the columns that were asked for, as JSON values.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use parquet::basic::Compression;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

use super::datum::{Datum, Record, insert};
use super::{Row, Unread};

/// How pages are compressed that this build reads.
const CODECS: &str = "SNAPPY, GZIP, ZSTD, BROTLI, LZ4, LZ4_RAW or none";

pub(super) struct Columns {
    rows: RowIter<'static>,
    number: u64,
    total: u64,
    /// The columns that the command did not ask for.
    others: Vec<String>,
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
        for field in fields {
            let count = columns.iter().filter(|column| column == &field).count();
            if count > 1 {
                bail!(
                    "{name} has {count} columns named {field:?}: rename all but the one that is meant"
                );
            }
        }
        let groups = reader.metadata().row_groups().iter();
        for column in groups.flat_map(RowGroupMetaData::columns) {
            let of = column.column_path().parts().first().map(String::as_str).unwrap_or_default();
            if column.compression() == Compression::LZO && fields.contains(&of) {
                bail!(
                    "{name}: {of:?} is compressed with LZO, which is not read: expected {CODECS}"
                );
            }
        }
        let wanted: Vec<Arc<Type>> = schema
            .get_fields()
            .iter()
            .filter(|field| fields.contains(&field.name()))
            .cloned()
            .collect();
        let others = columns.iter().filter(|column| !fields.contains(column));
        let others = others.map(|&column| column.to_owned()).collect();
        let projection = Type::group_type_builder(schema.name()).with_fields(wanted).build()?;
        let rows = RowIter::from_file_into(Box::new(reader)).project(Some(projection))?;
        Ok(Self { rows, number: 0, total, others })
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let Some(row) = self.rows.next() else { return Ok(None) };
        self.number += 1;
        Ok(Some(Row { number: self.number, record: Ok(object(row?)) }))
    }

    pub(super) fn unread(&self) -> Unread {
        let mut unread = Unread::default();
        for name in &self.others {
            unread.add(name.clone(), self.number);
        }
        unread
    }

    pub(super) fn progress(&self) -> (u64, Option<u64>) {
        (self.number, Some(self.total))
    }
}

fn object(row: parquet::record::Row) -> Record {
    let mut record = Record::new();
    for (name, field) in row.into_columns() {
        insert(&mut record, name, value(field));
    }
    record
}

/// What has no counterpart in JSON is told in words.
fn value(field: Field) -> Datum {
    match field {
        Field::Null => Datum::Null,
        Field::Bool(value) => Datum::Bool(value),
        Field::Byte(value) => Datum::Number(value.to_string()),
        Field::Short(value) => Datum::Number(value.to_string()),
        Field::Int(value) => Datum::Number(value.to_string()),
        Field::Long(value) => Datum::Number(value.to_string()),
        Field::UByte(value) => Datum::Number(value.to_string()),
        Field::UShort(value) => Datum::Number(value.to_string()),
        Field::UInt(value) => Datum::Number(value.to_string()),
        Field::ULong(value) => Datum::Number(value.to_string()),
        Field::Float16(value) => Datum::number(value.into()),
        Field::Float(value) => Datum::number(value.into()),
        Field::Double(value) => Datum::number(value),
        Field::Str(text) => Datum::Text(text),
        // Writers without logical types, such as old ones of Spark and Impala, leave texts as bytes.
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec())
            .map_or_else(|_| Datum::Other("bytes that are not UTF-8".into()), Datum::Text),
        Field::Group(row) => Datum::Object(object(row)),
        Field::ListInternal(list) => {
            Datum::List(list.elements().iter().cloned().map(value).collect())
        }
        Field::MapInternal(_) => Datum::Other("a map".into()),
        Field::Decimal(_) => Datum::Other("a decimal number".into()),
        Field::Date(_) => Datum::Other("a date".into()),
        Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Datum::Other("a time".into()),
    }
}
