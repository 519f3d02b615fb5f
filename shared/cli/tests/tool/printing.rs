//! What is printed and cannot be: an answer that is lost is 1 and one line, of every command; a reader that left, and a
//! stderr that cannot be written, are nothing to speak of.

use std::fs::File;
use std::io::pipe;
use std::path::Path;

use super::server::{Answer, Server};
use super::support::{Done, command, finish, pack, run};

/// Every command that prints an answer, and its help.
fn commands(url: &str) -> Vec<Vec<&str>> {
    let lines = [
        "--help",
        "--version",
        "-h",
        "help",
        "help pack",
        "pack --help",
        "push --help",
        "pull --help",
        "ls --help",
        "rm --help",
        "gc --help",
        "inspect --help",
        "verify --help",
        "embed --help",
        "rerank --help",
        "synth --help",
        "health --help",
        "bench --help",
        "bench boot --help",
        "inspect model.snap",
        "inspect model.snap --json",
        "verify model.snap",
        "ls .",
        "ls . --json",
        "ls --cache-dir .",
        "gc --cache-dir . --max-bytes 1000000000",
        "gc --cache-dir . --max-bytes 1000000000 --json",
        "rerank --model model.snap --docs-file docs.json",
        "rerank --model model.snap --docs-file docs.json --json",
        "embed --model model.snap --in in.jsonl --out v.jsonl --force",
        "embed --model model.snap --in in.jsonl --out v.jsonl --force --json",
        "push model.snap shelf",
        "pull model.snap --out other/copy.snap --force",
        "synth bert --dims layers=1,hidden=64,heads=2,kv_heads=2,head_dim=32,intermediate=64,vocab=300 --out made --force",
    ];
    let mut all: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    all.push(vec!["health", "--url", url]);
    all
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    // A name that the cache gives.
    pack(dir.path(), "bert-embedding", "int8", "o-m@main.int8.x86-64-1.snap");
    std::fs::create_dir(dir.path().join("shelf")).unwrap();
    let files = [
        ("in.jsonl", "{\"text\": \"a\"}\n"),
        ("docs.json", r#"{"query": "q", "documents": ["d"]}"#),
    ];
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn with_stdout(dir: &Path, args: &[&str], stdout: impl Into<std::process::Stdio>) -> Done {
    let mut command = command(dir, args);
    command.stdout(stdout);
    finish(command)
}

fn health() -> Server {
    Server::start(|_| Answer::new(200, r#"{"status": "ok", "model_name": "m"}"#))
}

#[test]
fn an_answer_that_cannot_be_written_is_1_and_one_line() {
    let (dir, server) = (folder(), health());
    for args in commands(&server.url()) {
        let done = with_stdout(dir.path(), &args, full());
        assert_eq!(done.code, Some(1), "{args:?}: {done:?}");
        let last = done.err.lines().last().unwrap_or_default();
        assert!(last.starts_with("defrost: cannot write to stdout: "), "{args:?}: {done:?}");
    }
}

/// As in `defrost inspect ... | head -1`.
#[test]
fn a_reader_that_left_ends_the_tool_without_a_word() {
    let (dir, server) = (folder(), health());
    for args in commands(&server.url()) {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let done = with_stdout(dir.path(), &args, writer);
        let err = done.err.lines().filter(|line| !line.starts_with("defrost: writing "));
        assert_eq!((done.code, err.count()), (Some(0), 0), "{args:?}: {done:?}");
    }
}

#[test]
fn what_cannot_be_told_on_stderr_changes_nothing() {
    let dir = folder();
    let told = "defrost: in.jsonl: fields that are not read";
    std::fs::write(dir.path().join("in.jsonl"), "{\"text\": \"a\", \"more\": 1}\n").unwrap();
    let embed = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", "v.jsonl"];
    assert!(run(dir.path(), &embed).err.starts_with(told));
    for (args, code) in [
        (&embed[..], 0),
        (&["verify", "missing"], 1),
        (&["thaw"], 2),
        (&["embed"], 2),
        (&["rerank", "--url", "http://a", "--model", "m", "--docs-file", "d"], 2),
        (
            &[
                "synth",
                "bert",
                "--dims",
                "layers=1,hidden=64,heads=2,kv_heads=2,head_dim=32,intermediate=64,vocab=300",
                "--out",
                "made",
            ],
            0,
        ),
    ] {
        let mut command = command(dir.path(), args);
        command.stderr(full());
        assert_eq!(finish(command).code, Some(code), "{args:?}");
    }
}
