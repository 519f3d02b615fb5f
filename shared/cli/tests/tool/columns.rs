//! Parquet in and out, read back by the library that writes it and compared with JSON lines.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use defrost_testing::golden::TOKEN_HEADS_MODEL;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use super::support::{Done, pack, run};

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
    let says = "in.parquet row 1: \"more\" must be a string, found bytes that are not UTF-8";
    assert!(done.failure().starts_with(says), "{done:?}");
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

fn embed(dir: &Path, input: &str) -> Done {
    run(dir, &["embed", "--model", "model.snap", "--out", "v.jsonl", "--in", input])
}

/// A file with this schema whose columns hold one value each, compressed with this.
fn write_one(path: &Path, schema: &str, codec: Compression, values: &[Physical]) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for value in values {
        let mut column = group.next_column().unwrap().unwrap();
        match value {
            Physical::Bytes(bytes) => column.typed::<ByteArrayType>().write_batch(
                &[ByteArray::from(bytes.to_vec())],
                None,
                None,
            ),
            Physical::Double(number) => {
                column.typed::<DoubleType>().write_batch(&[*number], None, None)
            }
            Physical::Int(number) => {
                column.typed::<Int32Type>().write_batch(&[*number], None, None)
            }
        }
        .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

enum Physical {
    Bytes(&'static [u8]),
    Double(f64),
    Int(i32),
}

#[test]
fn every_codec_is_read() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    for (at, codec) in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{at}.parquet");
        // Long enough that it is stored compressed.
        let text = b"a river, a river, a river, a river, a river, a river, a river, a river";
        let schema = "message m { required binary text (UTF8); }";
        write_one(&dir.path().join(&name), schema, codec, &[Physical::Bytes(text)]);
        let args = ["embed", "--model", "model.snap", "--out", "v.jsonl", "--in", &name, "--json"];
        assert_eq!(run(dir.path(), &args).json()["rows"], 1, "{codec:?}");
    }
}

#[test]
fn a_codec_that_is_not_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    let schema = "message m { required binary text (UTF8); }";
    let path = dir.path().join("in.parquet");
    write_one(&path, schema, Compression::SNAPPY, &[Physical::Bytes(b"one")]);
    // The codec is a number in the footer: SNAPPY is 1 and LZO 3, in zigzag 2 and 6, in field 4 of a column's metadata,
    // right behind the list of its path.
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(7).rposition(|at| at == b"\x04text\x15\x02").unwrap();
    bytes[place + 6] = 6;
    std::fs::write(&path, bytes).unwrap();
    let done = embed(dir.path(), "in.parquet");
    let line = done.failure();
    assert!(line.contains("\"text\" is compressed with LZO"), "{line}");
    assert!(line.contains("SNAPPY, GZIP, ZSTD"), "{line}");
}

#[test]
fn an_upload_that_failed_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    for (name, bytes, says) in [
        ("empty.parquet", &b""[..], "empty.parquet is empty: expected a Parquet file"),
        ("text.parquet", b"{\"text\": \"one\"}\n", "text.parquet is no Parquet file"),
        ("short.parquet", b"PA", "short.parquet is no Parquet file"),
        ("sealed.parquet", b"PAREabcdefgh", "sealed.parquet is encrypted"),
        ("magic.parquet", b"PAR1", "magic.parquet"),
    ] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        let done = embed(dir.path(), name);
        assert!(done.failure().contains(says), "{done:?}");
        assert!(!dir.path().join("v.jsonl").exists());
    }
    // One that is whole and has no rows is an answer, and is told.
    write_corpus(&dir.path().join("none.parquet"), &[]);
    let done = embed(dir.path(), "none.parquet");
    assert!(done.err.contains("none.parquet has no rows"), "{done:?}");
    done.text();
}

#[test]
fn of_two_columns_of_one_name_none_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    let two = [Physical::Bytes(b"one"), Physical::Bytes(b"two"), Physical::Bytes(b"x")];
    for (names, which) in [
        (["text", "text", "more"], Some("text")),
        (["text", "id", "id"], Some("id")),
        (["text", "more", "more"], None),
    ] {
        let fields = names.map(|name| format!("required binary {name} (UTF8); ")).concat();
        let schema = format!("message m {{ {fields} }}");
        write_one(&dir.path().join("in.parquet"), &schema, Compression::SNAPPY, &two);
        let done = embed(dir.path(), "in.parquet");
        match which {
            Some(name) => {
                let says = format!("in.parquet has 2 columns named \"{name}\"");
                assert!(done.failure().starts_with(&says), "{done:?}");
            }
            None => drop(done.text()),
        }
    }
}

#[test]
fn values_without_a_counterpart_are_called_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    let text = || Physical::Bytes(b"one");
    for (id, value, says) in [
        ("double id", Physical::Double(f64::NAN), "found NaN"),
        ("double id", Physical::Double(f64::NEG_INFINITY), "found -inf"),
        ("binary id", Physical::Bytes(b"\xff\xfe"), "found bytes that are not UTF-8"),
        ("int32 id (DATE)", Physical::Int(19_000), "found a date"),
        ("int32 id (DECIMAL(4, 2))", Physical::Int(125), "found a decimal number"),
        // Beyond what a double holds exactly, two ids may be one.
        (
            "double id",
            Physical::Double(1e17),
            "found 1e17, a number with more digits than are kept",
        ),
    ] {
        let schema = format!("message m {{ required {id}; required binary text (UTF8); }}");
        let path = dir.path().join("in.parquet");
        write_one(&path, &schema, Compression::SNAPPY, &[value, text()]);
        let done = embed(dir.path(), "in.parquet");
        let line = done.failure();
        assert!(
            line.starts_with("in.parquet row 1: \"id\" must be a string or a number"),
            "{line}"
        );
        assert!(line.contains(says), "{says}: {line}");
    }
}

/// Files of another writer, which leaves a checksum with each page: pyarrow's `write_table` with `write_page_checksum=True`,
/// `compression="none"`, `use_dictionary=False`, `write_statistics=False`, `store_schema=False`, in both versions of pages.
const WITH_CHECKSUMS: [&[u8]; 2] =
    [include_bytes!("../data/checksums.parquet"), include_bytes!("../data/checksums_v2.parquet")];

#[test]
fn a_page_that_is_not_what_its_checksum_says_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    for whole in WITH_CHECKSUMS {
        std::fs::write(dir.path().join("in.parquet"), whole).unwrap();
        embed(dir.path(), "in.parquet").text();
        std::fs::remove_file(dir.path().join("v.jsonl")).unwrap();
        let at = whole.windows(5).position(|at| at == b"river").unwrap();
        for bit in 0..8 {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 1 << bit;
            std::fs::write(dir.path().join("in.parquet"), damaged).unwrap();
            let done = embed(dir.path(), "in.parquet");
            let line = done.failure();
            assert!(line.starts_with("cannot read in.parquet"), "{line}");
            assert!(line.contains("checksum"), "{line}");
            assert!(!dir.path().join("v.jsonl").exists());
        }
    }
}

/// Where a writer leaves none there is nothing to compare: what is still UTF-8 is read as it is.
#[test]
fn a_file_without_checksums_is_read() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    let path = dir.path().join("in.parquet");
    let schema = "message m { required binary text (UTF8); }";
    write_one(&path, schema, Compression::UNCOMPRESSED, &[Physical::Bytes(b"the river")]);
    let embed_to = |out: &str| {
        let args = ["embed", "--model", "model.snap", "--in", "in.parquet", "--out", out];
        run(dir.path(), &args).text();
        lines(&dir.path().join(out))
    };
    let before = embed_to("a.jsonl");
    let mut bytes = std::fs::read(&path).unwrap();
    // In the page, not in the statistics, which lie behind it.
    let at = bytes.windows(5).position(|at| at == b"river").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_ne!(embed_to("b.jsonl")[0]["vector"], before[0]["vector"]);
}
