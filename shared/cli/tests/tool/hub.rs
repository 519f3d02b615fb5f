//! `pack hf://org/name` against a stand-in for the Hugging Face hub.

use std::path::{Path, PathBuf};
use std::process::Command;

use defrost_testing::golden;
use serde_json::{Value, json};

use super::server::{Answer, Request, Server, nowhere};
use super::support::{command, finish, run};

/// What `main` is; revisions are hexadecimal digests.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// A model of which files in a folder, and files beside the weights, are read.
const MODEL: &str = "xlmr-m3";

/// Files of a checkpoint, by path.
fn files() -> Vec<(String, Vec<u8>)> {
    let dir = golden::checkpoint(MODEL);
    let mut files = vec![("README.md".to_owned(), b"# never fetched".to_vec())];
    for folder in ["", "1_Pooling/"] {
        for entry in std::fs::read_dir(dir.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let name = entry.file_name().into_string().unwrap();
                files.push((format!("{folder}{name}"), std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    files
}

fn etag(path: &str) -> String {
    format!("etag-of-{}", path.replace('/', "-"))
}

/// As the hub lists a revision.
fn tree(files: &[(String, Vec<u8>)]) -> Value {
    let file = |(path, bytes): &(String, Vec<u8>)| {
        let size = bytes.len();
        json!({"type": "file", "oid": etag(path), "size": size, "path": path})
    };
    let folder = json!({"type": "directory", "oid": "1", "size": 0, "path": "1_Pooling"});
    files.iter().map(file).chain([folder]).collect()
}

/// As the hub answers for the one repository org/name.
fn answer(files: &[(String, Vec<u8>)], request: &Request) -> Answer {
    let path = request.path.split('?').next().unwrap();
    if let Some(rest) = path.strip_prefix("/api/models/org/name/") {
        if rest == "revision/main" || rest == format!("revision/{COMMIT}") {
            return Answer::new(200, json!({"id": "org/name", "sha": COMMIT}).to_string());
        }
        if rest == format!("tree/{COMMIT}") {
            return Answer::new(200, tree(files).to_string());
        }
    }
    let file = path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/"));
    if let Some((path, bytes)) = files.iter().find(|(path, _)| Some(path.as_str()) == file) {
        let mut answer = Answer::new(200, bytes.clone());
        answer.headers = vec![
            ("etag", format!("\"{}\"", etag(path))),
            ("x-repo-commit", COMMIT.to_owned()),
            ("content-type", "application/octet-stream".to_owned()),
        ];
        return answer;
    }
    Answer::new(404, r#"{"error":"Not found"}"#)
}

fn hub() -> Server {
    let files = files();
    Server::start(move |request| answer(&files, request))
}

/// `defrost pack SOURCE --out OUT --force`, with a cache of its own in `dir`.
fn pack(dir: &Path, hub: &str, source: &str, out: &str) -> Command {
    let mut command = command(dir, &["pack", source, "--out", out, "--force"]);
    command.env("HF_ENDPOINT", hub).env("HF_HOME", dir.join("hf")).env("HOME", dir);
    command
}

/// Packs the same files from disk.
fn local(dir: &Path) -> PathBuf {
    let source = golden::checkpoint(MODEL);
    let args =
        ["pack", source.to_str().unwrap(), "--name", "org/name", "--out", "local.snap", "--force"];
    run(dir, &args).text();
    dir.join("local.snap")
}

#[track_caller]
fn assert_same(a: &Path, b: &Path) {
    let same = std::fs::read(a).unwrap() == std::fs::read(b).unwrap();
    assert!(same, "{} and {} differ", a.display(), b.display());
}

/// The files that were fetched, sorted.
fn fetched(seen: &[Request]) -> Vec<&str> {
    let prefix = format!("/org/name/resolve/{COMMIT}/");
    let gets = seen.iter().filter(|request| request.method == "GET");
    let mut paths: Vec<&str> =
        gets.filter_map(|request| request.path.strip_prefix(&prefix)).collect();
    paths.sort_unstable();
    paths
}

#[test]
fn a_model_of_the_hub_packs_as_from_disk_and_is_fetched_once() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub();
    let local = local(dir.path());
    let report = finish(pack(dir.path(), &hub.url(), "hf://org/name@main", "first.snap")).text();
    assert_eq!(report.lines().next(), Some("first.snap"));
    assert_same(&dir.path().join("first.snap"), &local);
    let seen = hub.seen();
    assert_eq!(
        fetched(&seen),
        [
            "1_Pooling/config.json",
            "colbert_linear.pt",
            "config.json",
            "config_sentence_transformers.json",
            "model.safetensors",
            "modules.json",
            "sentence_bert_config.json",
            "sparse_linear.pt",
            "tokenizer.json",
        ],
        "each file that pack reads, once, and no other"
    );
    assert!(seen.iter().all(|request| request.header("authorization").is_none()));

    // main is the default; a commit names the same files.
    for source in ["hf://org/name", &format!("hf://org/name@{COMMIT}")] {
        finish(pack(dir.path(), &hub.url(), source, "again.snap")).text();
        assert_same(&dir.path().join("again.snap"), &local);
        let seen = hub.seen();
        assert_eq!(fetched(&seen), [""; 0], "fetched although cached");
        assert!(!seen.is_empty(), "what main is may have changed");
    }
}

#[test]
fn the_default_file_is_named_after_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub();
    let mut command = command(dir.path(), &["pack", "hf://org/name", "--precision", "bf16"]);
    command.env("HF_ENDPOINT", hub.url()).env("HF_HOME", dir.path().join("hf"));
    assert!(finish(command).text().starts_with("name-bf16.snap\n"));
}

#[test]
fn the_token_goes_with_every_request() {
    let dir = tempfile::tempdir().unwrap();
    let files = files();
    // A gated repository.
    let hub = Server::start(move |request| match request.header("authorization") {
        Some("Bearer hf_secret") => answer(&files, request),
        _ => Answer::new(401, r#"{"error":"Access to model org/name is restricted."}"#),
    });
    let done = finish(pack(dir.path(), &hub.url(), "hf://org/name", "out.snap"));
    let line = done.failure();
    assert!(line.contains("HF_TOKEN gives access") && line.contains("restricted"), "{line}");
    assert!(!dir.path().join("out.snap").exists());
    hub.seen();

    let mut with_token = pack(dir.path(), &hub.url(), "hf://org/name", "out.snap");
    with_token.env("HF_TOKEN", "hf_secret");
    let done = finish(with_token);
    assert!(!format!("{done:?}").contains("hf_secret"), "{done:?}");
    done.text();
    assert_same(&dir.path().join("out.snap"), &local(dir.path()));
    assert!(!fetched(&hub.seen()).is_empty());

    let mut wrong = pack(dir.path(), &hub.url(), "hf://org/name", "wrong.snap");
    wrong.env("HF_TOKEN", "hf_wrong");
    let done = finish(wrong);
    assert!(!done.failure().contains("hf_wrong"), "{done:?}");
}

#[test]
fn what_the_hub_does_not_have_is_1_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub();
    for (source, says) in [
        ("hf://org/name@v9", "cannot get org/name at v9 from the hub"),
        ("hf://org/other", "cannot get org/other at main from the hub"),
    ] {
        let done = finish(pack(dir.path(), &hub.url(), source, "out.snap"));
        let line = done.failure();
        assert!(line.starts_with(says) && line.contains("HF_ENDPOINT"), "{line}");
        assert!(line.to_lowercase().contains("not found"), "{line}");
        assert_eq!(fetched(&hub.seen()), [""; 0]);
    }
    assert!(!dir.path().join("out.snap").exists());
}

#[test]
fn an_unreachable_hub_is_1_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let done = finish(pack(dir.path(), &nowhere(), "hf://org/name", "out.snap"));
    let line = done.failure();
    assert!(line.starts_with("cannot get org/name at main from the hub (HF_ENDPOINT "), "{line}");
    assert!(line.to_lowercase().contains("connect"), "{line}");

    let done = finish(pack(dir.path(), "not a url", "hf://org/name", "out.snap"));
    assert!(done.failure().starts_with("cannot set up the hub client: "), "{done:?}");
}

/// A hub that fails halfway must not leave its error page in the cache as a model.
#[test]
fn a_failed_fetch_is_1_and_does_not_spoil_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"] {
        let files = files();
        let broken = Server::start(move |request| {
            if request.method == "GET" && request.path.ends_with(file) {
                return Answer::new(403, r#"{"error":"expired link"}"#);
            }
            answer(&files, request)
        });
        let done = finish(pack(dir.path(), &broken.url(), "hf://org/name", "out.snap"));
        assert!(done.failure().contains(file), "{done:?}");
        assert!(!dir.path().join("out.snap").exists());

        finish(pack(dir.path(), &hub().url(), "hf://org/name", "whole.snap")).text();
        assert_same(&dir.path().join("whole.snap"), &local(dir.path()));
        std::fs::remove_dir_all(dir.path().join("hf")).unwrap();
    }
}
