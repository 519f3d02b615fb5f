//! Parquet in and out, read back by the library that writes it and compared with JSON lines.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use defrost_testing::golden::TOKEN_HEADS_MODEL;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use super::support::{pack, run};

fn value(field: &Field) -> Value {
    match field {
        Field::Str(text) => json!(text),
        Field::Int(number) => json!(number),
        Field::UInt(number) => json!(number),
        Field::Byte(number) => json!(number),
        Field::UByte(number) => json!(number),
        // As JSON lines print it: in as few digits as say which f32 it is.
        Field::Float(number) => json!(number.to_string().parse::<f64>().unwrap()),
        Field::Double(number) => json!(number),
        Field::Bool(value) => json!(value),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        other => panic!("{other:?}"),
    }
}

fn rows(path: &Path) -> Vec<Value> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let row = |row: parquet::record::Row| {
        Value::Object(
            row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect(),
        )
    };
    reader.get_row_iter(None).unwrap().map(|one| row(one.unwrap())).collect()
}

/// Rows of JSON lines with ids as strings, which they are in Parquet.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        if row["id"].is_number() {
            row["id"] = json!(row["id"].to_string());
        }
        row
    };
    text.lines().map(line).collect()
}

/// A file with numbers as ids and texts, of which some are missing.
fn write_corpus(path: &Path, texts: &[Option<&str>]) {
    let schema =
        "message m { required int64 id; optional binary text (UTF8); required binary more; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
    for (group, texts) in texts.chunks(3).enumerate() {
        let mut rows = writer.next_row_group().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        let ids: Vec<i64> =
            (0..texts.len()).map(|at| i64::try_from(group * 3 + at).unwrap()).collect();
        column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        let there: Vec<ByteArray> =
            texts.iter().flatten().map(|&text| ByteArray::from(text)).collect();
        let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
        column.typed::<ByteArrayType>().write_batch(&there, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        let more = vec![ByteArray::from(vec![0xff, 0xfe]); texts.len()];
        column.typed::<ByteArrayType>().write_batch(&more, None, None).unwrap();
        column.close().unwrap();
        rows.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn every_kind_of_column_is_that_of_json_lines() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), TOKEN_HEADS_MODEL, "int8", "model.snap");
    let texts = ["the river", "", "the river", "a wooden bridge", "snow"];
    let input: String = texts.iter().map(|text| json!({"text": text}).to_string() + "\n").collect();
    std::fs::write(dir.path().join("in.jsonl"), input).unwrap();
    for more in [
        &["--kind", "dense,sparse,colbert"][..],
        &["--output-dtype", "int8"],
        &["--output-dtype", "ubinary"],
        &["--output-dtype", "binary"],
        &["--output-dtype", "uint8"],
    ] {
        let embed = |out: &str| {
            let base = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", out];
            run(dir.path(), &[&base[..], more].concat()).text();
            dir.path().join(out)
        };
        let (columns, expected) = (embed("v.parquet"), embed("v.jsonl"));
        let found = rows(&columns);
        assert_eq!(found.len(), texts.len());
        assert_eq!(found, lines(&expected), "{more:?}");
    }
}

#[test]
fn parquet_is_read_as_json_lines_are() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    let texts = [
        Some("one"),
        Some("two words"),
        None,
        Some("three more words"),
        Some(""),
        Some("one"),
        Some("last"),
    ];
    write_corpus(&dir.path().join("in.parquet"), &texts);
    let present =
        texts.iter().enumerate().filter_map(|(at, text)| Some(json!({"id": at, "text": (*text)?})));
    let input: Vec<String> = present.map(|row| row.to_string()).collect();
    std::fs::write(dir.path().join("in.jsonl"), input.join("\n")).unwrap();
    let embed = |input: &str, more: &[&str]| {
        let base = ["embed", "--model", "model.snap", "--out", "v.parquet", "--in", input];
        run(dir.path(), &[&base[..], more].concat())
    };
    let done = embed("in.parquet", &[]);
    assert!(
        done.failure().starts_with("in.parquet row 3: \"text\" must be a string, found null"),
        "{done:?}"
    );
    let done = embed("in.parquet", &["--skip-bad"]);
    assert!(done.err.contains("left out in.parquet row 3: "), "{done:?}");
    done.text();
    let by_columns = std::fs::read(dir.path().join("v.parquet")).unwrap();
    embed("in.jsonl", &[]).text();
    assert!(std::fs::read(dir.path().join("v.parquet")).unwrap() == by_columns);

    let done = embed("in.parquet", &["--text-field", "body"]);
    assert_eq!(done.failure(), "in.parquet has no column \"body\", it has: id, text, more");
    let done = embed("in.parquet", &["--text-field", "more"]);
    assert!(
        done.failure().starts_with("in.parquet row 1: \"more\" must be a string, found null"),
        "{done:?}"
    );
}

#[test]
fn cut_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    write_corpus(
        &dir.path().join("whole.parquet"),
        &[Some("one"), Some("two"), Some("three"), Some("four")],
    );
    let whole = std::fs::read(dir.path().join("whole.parquet")).unwrap();
    for length in (4..whole.len()).step_by(whole.len() / 12) {
        std::fs::write(dir.path().join("cut.parquet"), &whole[..length]).unwrap();
        let args = ["embed", "--model", "model.snap", "--out", "v.parquet", "--in", "cut.parquet"];
        assert!(run(dir.path(), &args).failure().contains("cut.parquet"), "{length}");
    }
}

#[test]
fn cases_come_from_parquet_and_go_there() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-classifier", "int8", "model.snap");
    let schema = "message m { required binary query (UTF8); required group documents (LIST) { repeated group list { \
                  required binary element (UTF8); } } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = File::create(dir.path().join("in.parquet")).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut rows_out = writer.next_row_group().unwrap();
    let text = |text: &&str| ByteArray::from(*text);
    let queries: Vec<ByteArray> = ["q", "r"].iter().map(text).collect();
    let mut column = rows_out.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&queries, None, None).unwrap();
    column.close().unwrap();
    let documents: Vec<ByteArray> = ["one", "two", "three"].iter().map(text).collect();
    let mut column = rows_out.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&documents, Some(&[1, 1, 1]), Some(&[0, 1, 0]))
        .unwrap();
    column.close().unwrap();
    rows_out.close().unwrap();
    writer.close().unwrap();
    let input = [
        json!({"query": "q", "documents": ["one", "two"]}),
        json!({"query": "r", "documents": ["three"]}),
    ];
    std::fs::write(dir.path().join("in.jsonl"), input.map(|row| format!("{row}\n")).concat())
        .unwrap();
    let rerank = |input: &str, out: &str| {
        run(dir.path(), &["rerank", "--model", "model.snap", "--in", input, "--out", out]).text();
        dir.path().join(out)
    };
    let (found, expected) = (rerank("in.parquet", "s.parquet"), rerank("in.jsonl", "s.jsonl"));
    assert_eq!(rows(&found), lines(&expected));
}
