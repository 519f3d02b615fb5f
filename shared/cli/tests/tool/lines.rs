//! JSON lines that are none, and values that would be something else without a word.

use std::fs;

use super::embed::with_snapshot;
use super::support::run;

#[test]
fn files_of_other_forms_are_named_with_what_to_do() {
    let dir = with_snapshot("bert-embedding", "int8");
    for (name, bytes, says) in [
        ("rows.csv", &b"id,text\n1,one\n"[..], "rows.csv is a CSV file"),
        ("rows.tsv", b"id\ttext\n1\tone\n", "rows.tsv is a CSV file"),
        // Whatever its name.
        (
            "rows.jsonl",
            b"id,text\n1,one\n",
            "rows.jsonl:1: expected a JSON object, found what looks like CSV",
        ),
        ("rows.txt", b"one\ntwo\n", "rows.txt:1: expected a JSON object"),
        ("list.json", b"[\n{\"text\": \"one\"}\n]", "list.json is one JSON list"),
        ("list.json", b" \n [{\"text\": \"one\"}]", "list.json is one JSON list"),
        ("wide.jsonl", b"\xff\xfe{\0\"\0", "wide.jsonl is UTF-16"),
        ("rows.jsonl.gz", b"\x1f\x8b\x08", "rows.jsonl.gz is compressed"),
        ("rows.jsonl.zst", b"\x28\xb5\x2f\xfd\0", "rows.jsonl.zst is compressed"),
        ("rows.xlsx", b"PK\x03\x04\0", "rows.xlsx is a ZIP archive"),
        ("rows.arrow", b"ARROW1\0\0", "rows.arrow is an Arrow file"),
        ("rows.avro", b"Obj\x01\0", "rows.avro is an Avro file"),
        ("rows.orc", b"ORC\0", "rows.orc is an ORC file"),
        ("rows.db", b"SQLite format 3\0", "rows.db is an SQLite database"),
    ] {
        fs::write(dir.path().join(name), bytes).unwrap();
        for more in [&[][..], &["--skip-bad"]] {
            let base = ["embed", "--model", "model.snap", "--out", "v.jsonl", "--in", name];
            let done = run(dir.path(), &[&base[..], more].concat());
            if more.is_empty() || !says.contains(":1: ") {
                assert!(done.failure().contains(says), "{done:?}");
                let remedy = ["JSON lines", "--in -", "JSON object"];
                assert!(remedy.iter().any(|words| done.err.contains(words)), "{done:?}");
            }
        }
    }
}

#[test]
fn a_file_without_rows_is_told() {
    let dir = with_snapshot("bert-embedding", "int8");
    for bytes in ["", "\n \n"] {
        fs::write(dir.path().join("in.jsonl"), bytes).unwrap();
        let args = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", "v.jsonl"];
        let done = run(dir.path(), &args);
        assert!(done.err.contains("in.jsonl has no rows"), "{done:?}");
        done.text();
    }
}

#[test]
fn values_that_would_be_taken_for_something_else_are_refused() {
    let dir = with_snapshot("bert-embedding", "int8");
    for (line, says) in [
        (r#"{"text": "one", "text": "two"}"#, "\"text\" is there twice"),
        (r#"{"id": 1, "text": "one", "id": 2}"#, "\"id\" is there twice"),
        (r#"{"id": NaN, "text": "one"}"#, "NaN, which is not JSON"),
        (r#"{"id": 1, "text": "one", "score": -Infinity}"#, "-Infinity, which is not JSON"),
        (
            r#"{"id": 123456789012345678901234567890, "text": "one"}"#,
            "a number with more digits than are kept",
        ),
        (r#"{"id": null, "text": "one"}"#, "\"id\" must be a string or a number, found null"),
        (r#"{"text": "one"} {"text": "two"}"#, "expected a JSON object"),
    ] {
        fs::write(dir.path().join("in.jsonl"), format!("{line}\n")).unwrap();
        let args = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", "v.jsonl"];
        let done = run(dir.path(), &args);
        let said = done.failure();
        assert!(said.starts_with("in.jsonl:1: ") && said.contains(says), "{line}: {said}");
    }
    fs::write(dir.path().join("in.jsonl"), b"{\"text\": \"caf\xe9\"}\n").unwrap();
    let args = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", "v.jsonl"];
    let done = run(dir.path(), &args);
    assert!(done.failure().contains("in.jsonl:1: byte 14 is not UTF-8"), "{done:?}");
    // A field that the command does not ask for may be there any number of times.
    let line = r#"{"text": "one", "more": 1, "more": 2, "long": 123456789012345678901234567890}"#;
    fs::write(dir.path().join("in.jsonl"), line).unwrap();
    run(dir.path(), &args).text();
}

#[test]
fn cases_are_held_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    super::support::pack(dir.path(), "bert-classifier", "int8", "model.snap");
    for (line, says) in [
        (r#"{"query": "q", "query": "r", "documents": ["a"]}"#, "\"query\" is there twice"),
        (
            r#"{"query": "q", "documents": [{"text": "a", "text": "b"}]}"#,
            "\"documents\" number 0: \"text\" is there twice",
        ),
    ] {
        fs::write(dir.path().join("in.jsonl"), line).unwrap();
        let args = ["rerank", "--model", "model.snap", "--in", "in.jsonl", "--out", "s.jsonl"];
        let done = run(dir.path(), &args);
        assert!(done.failure().contains(says), "{line}: {done:?}");
    }
}
