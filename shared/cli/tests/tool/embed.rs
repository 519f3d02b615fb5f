//! embed: whole files through the real binary, against `Embedder` itself.

use std::path::Path;

use defrost_tasks::{
    EmbedTask, EmbedTruncation, Embedder, EmbedderOptions, Embedding, Input, ModelOptions, Outputs,
    Overflow, PromptChoice, RestoreOptions, restore,
};
use defrost_testing::golden::{self, EMBEDDING_MODELS, TOKEN_HEADS_MODEL};
use serde_json::{Value, json};

use super::support::{command, finish, pack, run, run_with_input};

/// The promise on f32 vectors.
const TOLERANCE: f64 = 1e-4;

pub(super) fn with_snapshot(model: &str, precision: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), model, precision, "model.snap");
    dir
}

pub(super) fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["embed", "--model", "model.snap", "--json"].into_iter().chain(more.iter().copied()).collect()
}

fn embedder(dir: &Path, max_length: usize) -> Embedder {
    let snapshot = restore(
        &[&defrost_engine::RUNTIME],
        &dir.join("model.snap").as_path().into(),
        &RestoreOptions::default(),
    )
    .unwrap();
    let model = ModelOptions { max_length: Some(max_length), ..ModelOptions::default() };
    Embedder::load(
        &[&defrost_engine::RUNTIME],
        &snapshot,
        &EmbedderOptions { model, any_dimensions: true },
    )
    .unwrap()
}

fn request(texts: &[&str]) -> EmbedTask {
    EmbedTask {
        inputs: texts.iter().map(|&text| Input::from(text)).collect(),
        truncation: EmbedTruncation { overflow: Overflow::CutEnd, limit: None },
        ..EmbedTask::default()
    }
}

fn direct(embedder: &Embedder, request: EmbedTask) -> Vec<Embedding> {
    embedder.embed(&[request], &|| false).unwrap().remove(0)
}

pub(super) fn rows(dir: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "they were written as f32")]
fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

/// Rows as JSON lines.
pub(super) fn corpus(texts: impl IntoIterator<Item = String>) -> String {
    let rows = texts.into_iter().enumerate();
    rows.map(|(at, text)| json!({"_id": format!("d{at}"), "text": text}).to_string() + "\n")
        .collect()
}

#[test]
fn vectors_are_those_of_the_embedder_and_of_transformers() {
    for model in EMBEDDING_MODELS {
        let dir = with_snapshot(model, "f32");
        let golden = golden::embeddings(model);
        let length = golden.max_length.to_string();
        let embedder = embedder(dir.path(), golden.max_length);
        for (name, more, choice) in [
            ("none", vec!["--input-type", "none"], PromptChoice::None),
            ("query", vec!["--input-type", "query"], PromptChoice::Query),
            ("document", vec!["--input-type", "document"], PromptChoice::Document),
            (
                "instruct",
                vec!["--instruction", &golden.task],
                PromptChoice::Instruction(golden.task.clone()),
            ),
        ] {
            let cases: Vec<_> = golden.cases.iter().filter(|case| case.prompt == name).collect();
            if cases.is_empty() {
                continue;
            }
            let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
            let input = corpus(texts.iter().map(|&text| text.to_owned()));
            let out = format!("{name}.jsonl");
            let mut args =
                args(&["--in", "-", "--out", &out, "--max-length", &length, "--normalize", "true"]);
            args.extend(more);
            let report = run_with_input(dir.path(), &args, &input).json();
            assert_eq!(report["rows"], cases.len());
            let expected = direct(
                &embedder,
                EmbedTask { prompt: choice, normalize: Some(true), ..request(&texts) },
            );
            for ((row, case), expected) in rows(dir.path(), &out).iter().zip(&cases).zip(expected) {
                let found = floats(&row["vector"]);
                assert_eq!(found, expected.dense, "{model} {}", case.name);
                assert_eq!(row["tokens"], case.ids.len());
                assert_eq!(row["truncated"], expected.truncated);
                for (found, expected) in found.iter().zip(&case.dense) {
                    let error = (f64::from(*found) - f64::from(*expected)).abs();
                    assert!(error <= TOLERANCE, "{model} {}: off by {error}", case.name);
                }
            }
        }
    }
}

#[test]
fn all_kinds_of_vectors_come_from_one_pass() {
    let dir = with_snapshot(TOKEN_HEADS_MODEL, "f32");
    let texts = ["the river", "", "the river of the river", "snow on wooden bridges"];
    let input = corpus(texts.map(str::to_owned));
    let all = args(&["--in", "-", "--out", "all.jsonl", "--kind", "dense,sparse,colbert"]);
    run_with_input(dir.path(), &all, &input).json();
    let outputs = Outputs { dense: true, sparse: true, colbert: true, tokens: false };
    let embedder = embedder(dir.path(), usize::MAX);
    let expected = direct(&embedder, EmbedTask { outputs, ..request(&texts) });
    for (row, expected) in rows(dir.path(), "all.jsonl").iter().zip(&expected) {
        let (ids, weights): (Vec<u32>, Vec<f32>) = expected.sparse.iter().copied().unzip();
        assert_eq!(floats(&row["vector"]), expected.dense);
        assert_eq!(row["sparse_indices"], json!(ids));
        assert_eq!(floats(&row["sparse_values"]), weights);
        let colbert: Vec<f32> =
            row["colbert"].as_array().unwrap().iter().flat_map(floats).collect();
        assert_eq!(colbert, expected.colbert);
        for row in row["colbert"].as_array().unwrap() {
            assert_eq!(row.as_array().unwrap().len(), expected.colbert_width);
        }
    }
    let sparse = args(&["--in", "-", "--out", "sparse.jsonl", "--kind", "sparse"]);
    run_with_input(dir.path(), &sparse, &input).json();
    let names: Vec<String> =
        rows(dir.path(), "sparse.jsonl")[0].as_object().unwrap().keys().cloned().collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["id", "key", "sparse_indices", "sparse_values", "tokens", "truncated"]);
}

type Formula = fn(f32) -> f32;

#[test]
fn number_types_are_made_from_the_same_answers() {
    let dir = with_snapshot("bert-embedding", "int8");
    let input = corpus(["one".to_owned(), "two words".to_owned()]);
    let embed = |more: &[&str]| {
        let base = args(&["--in", "-", "--out", "v.jsonl"]);
        let args: Vec<&str> = base.iter().chain(more).copied().collect();
        let report = run_with_input(dir.path(), &args, &input).json();
        (report, rows(dir.path(), "v.jsonl"))
    };
    let (report, whole) = embed(&[]);
    assert_eq!((&report["computed"], &report["reused"]), (&json!(2), &json!(0)));
    let formulas: [(&str, Formula); 2] =
        [("int8", |x: f32| (x * 127.0).round()), ("uint8", |x: f32| ((x + 1.0) * 127.5).round())];
    for (dtype, formula) in formulas {
        let (report, found) = embed(&["--output-dtype", dtype]);
        assert_eq!((&report["computed"], &report["reused"]), (&json!(0), &json!(2)), "{dtype}");
        for (found, whole) in found.iter().zip(&whole) {
            let expected: Vec<f32> = floats(&whole["vector"]).into_iter().map(formula).collect();
            assert_eq!(floats(&found["vector"]), expected, "{dtype}");
        }
    }
    let (_, found) = embed(&["--output-dtype", "ubinary"]);
    let first = found[0]["vector"][0].as_u64().unwrap();
    let bits = floats(&whole[0]["vector"]).into_iter().take(8).map(|x| u64::from(x > 0.0));
    assert_eq!(first, bits.fold(0, |bits, bit| bits << 1 | bit));
}

/// As a function says it in its warnings.
#[test]
fn numbers_that_a_type_does_not_hold_are_told() {
    let dir = with_snapshot("bert-embedding", "f32");
    let input = corpus(["one".to_owned(), "two words".to_owned()]);
    let embed = |more: &[&str]| {
        let args = [&args(&["--in", "-", "--out", "v.jsonl"])[..], more].concat();
        let done = run_with_input(dir.path(), &args, &input);
        assert_eq!(done.code, Some(0), "{done:?}");
        (done.err, rows(dir.path(), "v.jsonl"))
    };
    let (_, whole) = embed(&["--normalize", "false"]);
    let outside = |row: &Value| floats(&row["vector"]).iter().any(|number| number.abs() > 1.01);
    let expected = whole.iter().filter(|row| outside(row)).count();
    assert!(expected > 0, "{whole:?}");
    let says = format!("{expected} vectors have numbers outside of [-1, 1], which are clamped");
    for dtype in ["int8", "uint8"] {
        let (err, _) = embed(&["--normalize", "false", "--output-dtype", dtype]);
        assert!(err.contains(&says), "{dtype}: {err}");
        let (err, _) = embed(&["--normalize", "true", "--output-dtype", dtype]);
        assert!(!err.contains("outside of"), "{dtype}: {err}");
    }
    // Only signs are looked at.
    for dtype in ["binary", "ubinary", "float"] {
        let (err, _) = embed(&["--normalize", "false", "--output-dtype", dtype]);
        assert!(!err.contains("outside of"), "{dtype}: {err}");
    }
}

#[test]
fn fields_ids_and_titles_as_beir_has_them() {
    let dir = with_snapshot("bert-embedding", "int8");
    let lines = [
        json!({"_id": "a", "title": "Rivers", "text": "of snow", "metadata": {"x": 1}}),
        json!({"id": 7, "text": "Rivers of snow"}),
        json!({"text": "Rivers of snow", "title": null}),
        json!({"id": "b", "_id": "c", "title": "", "text": " Rivers of snow "}),
    ];
    let lines = lines.each_ref().map(Value::to_string);
    std::fs::write(dir.path().join("corpus.jsonl"), lines.join("\n")).unwrap();
    let report = run(dir.path(), &args(&["--in", "corpus.jsonl", "--out", "v.jsonl"])).json();
    assert_eq!(
        (&report["rows"], &report["computed"]),
        (&json!(4), &json!(1)),
        "one text, four rows"
    );
    let found = rows(dir.path(), "v.jsonl");
    let ids: Vec<&Value> = found.iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, [&json!("a"), &json!(7), &json!(3), &json!("c")]);
    assert!(
        found
            .iter()
            .all(|row| row["vector"] == found[0]["vector"] && row["key"] == found[0]["key"])
    );

    let others = json!({"name": "n", "body": "Rivers of snow", "head": "x"}).to_string();
    let more = ["--id-field", "name", "--text-field", "body", "--in", "-", "--out", "w.jsonl"];
    run_with_input(dir.path(), &args(&more), &others).json();
    let other = &rows(dir.path(), "w.jsonl")[0];
    assert_eq!((&other["id"], &other["vector"]), (&json!("n"), &found[0]["vector"]));
}

#[test]
fn bad_rows_end_the_run_or_are_left_out() {
    let dir = with_snapshot("bert-embedding", "int8");
    let long = "word ".repeat(200);
    let input = format!(
        "{}\n\n{{\"text\": 5}}\n{{\"text\": \"ok\"\n[]\n{{\"title\": \"no text\"}}\n{}\n{}\n",
        json!({"id": "first", "text": "one"}),
        json!({"id": [1], "text": "x"}),
        json!({"id": "long", "text": long}),
    );
    std::fs::write(dir.path().join("in.jsonl"), &input).unwrap();
    let base = ["--in", "in.jsonl", "--out", "out.jsonl", "--max-length", "32"];
    let done = run(dir.path(), &args(&base));
    assert_eq!(
        done.failure(),
        "in.jsonl:3: \"text\" must be a string, found a number; --skip-bad leaves such rows out"
    );
    assert!(!dir.path().join("out.jsonl").exists());

    let skipping: Vec<&str> = base.iter().chain(&["--skip-bad"]).copied().collect();
    let done = run(dir.path(), &args(&skipping));
    let listed: Vec<&str> = done.err.lines().collect();
    assert_eq!(listed.len(), 5, "{done:?}");
    for (line, says) in listed.iter().zip([
        "defrost: left out in.jsonl:3: \"text\" must be a string, found a number",
        "defrost: left out in.jsonl:4: expected a JSON object: ",
        "defrost: left out in.jsonl:5: expected a JSON object, found a list",
        "defrost: left out in.jsonl:6: there is no \"text\", expected a string",
        "defrost: left out in.jsonl:7: \"id\" must be a string or a number, found a list",
    ]) {
        assert!(line.starts_with(says), "{line}");
    }
    let report = done.json();
    let numbers = ["rows", "left_out", "truncated"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(numbers, [2, 5, 1]);

    let refusing: Vec<&str> = skipping.iter().chain(&["--truncate", "refuse"]).copied().collect();
    let done = run(dir.path(), &args(&refusing));
    assert!(
        done.err.contains("left out in.jsonl:8: this model's maximum context length is 32 tokens"),
        "{done:?}"
    );
    assert!(done.err.contains("truncate is end there and refuse here"), "{done:?}");
    let report = done.json();
    let numbers = ["rows", "left_out", "truncated"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(numbers, [1, 6, 0]);
}

#[test]
fn what_cannot_be_embedded_is_1_and_one_line() {
    let dir = with_snapshot("bert-embedding", "int8");
    pack(dir.path(), "bert-classifier", "int8", "pairs.snap");
    std::fs::write(dir.path().join("in.jsonl"), "{\"text\": \"a\"}\n").unwrap();
    std::fs::write(dir.path().join("in.gz"), b"\x1f\x8b\x08\x00rest").unwrap();
    std::fs::write(dir.path().join("no.parquet"), b"PAR1 and nothing more").unwrap();
    for (more, says) in [
        (&["--in", "missing", "--out", "v.jsonl"][..], "cannot read missing: "),
        (&["--in", "in.gz", "--out", "v.jsonl"], "in.gz is compressed: give it as `gzip -dc in.gz"),
        (&["--in", "in.jsonl", "--out", "v.csv"], "v.csv: expected a name that ends in .parquet"),
        (
            &["--in", "in.jsonl", "--out", "v.jsonl", "--kind", "sparse"],
            "bert-embedding has no sparse vectors",
        ),
        (&["--in", "in.jsonl", "--out", "v.jsonl", "--dimensions", "3"], "dimensions is 3, "),
        (
            &["--in", "in.jsonl", "--out", "v.jsonl", "--prompt-name", "x"],
            "the model has no prompt \"x\"",
        ),
        (
            &["--in", "in.jsonl", "--out", "v.jsonl", "--instruction", "x"],
            "this model takes no instruction",
        ),
        (
            &["--in", "in.jsonl", "--out", "v.jsonl", "--dtype", "f32"],
            "--dtype f32: the snapshot's precision is int8",
        ),
        (
            &["--in", "in.jsonl", "--out", "v.jsonl", "--id-field", "x"],
            "in.jsonl:1: there is no \"x\"",
        ),
    ] {
        let done = run(dir.path(), &args(more));
        assert!(done.failure().contains(says), "{more:?}: {done:?}");
    }
    #[cfg(feature = "parquet")]
    {
        let done = run(dir.path(), &args(&["--in", "no.parquet", "--out", "v.jsonl"]));
        assert!(done.failure().starts_with("no.parquet is no Parquet file"), "{done:?}");
    }
    let pairs = ["embed", "--model", "pairs.snap", "--in", "in.jsonl", "--out", "v.jsonl"];
    assert!(run(dir.path(), &pairs).failure().contains("scores pairs"));
    assert!(!dir.path().join("v.jsonl").exists());
}

#[test]
fn wrong_usage_is_2() {
    let dir = tempfile::tempdir().unwrap();
    let base = ["embed", "--model", "m", "--in", "i", "--out", "o.jsonl"];
    for more in [
        &["--shard", "3/3"][..],
        &["--shard", "0/2", "--join"],
        &["--shard", "0/2", "--remove-parts"],
        &["--kind", "dense,half"],
        &["--input-type", "query", "--prompt", "x"],
        &["--part-tokens", "0"],
        &["--output-dtype", "int4"],
    ] {
        let args: Vec<&str> = base.iter().chain(more).copied().collect();
        assert!(!run(dir.path(), &args).usage().is_empty(), "{args:?}");
    }
    for args in [
        &base[..5],
        &["embed", "--model", "m", "--out", "o.jsonl"],
        &["rerank", "--model", "m", "--in", "i"],
    ] {
        assert!(!run(dir.path(), args).usage().is_empty(), "{args:?}");
    }
}

#[test]
fn an_empty_file_gives_an_empty_file() {
    let dir = with_snapshot("bert-embedding", "int8");
    let report = run_with_input(dir.path(), &args(&["--in", "-", "--out", "v.jsonl"]), "\n").json();
    assert_eq!(report["rows"], 0);
    assert_eq!(std::fs::read(dir.path().join("v.jsonl")).unwrap(), b"");
    let text = finish(command(
        dir.path(),
        &["embed", "--model", "model.snap", "--in", "/dev/null", "--out", "w.jsonl"],
    ))
    .text();
    assert!(text.starts_with("w.jsonl: 0 rows, "), "{text}");
}
