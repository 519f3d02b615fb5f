//! Where the system gives few threads (`ulimit -u`): a command does its work with fewer, or ends with one line.
//!
//! The limit is one of a user, and does not hold for the first of them: there the commands run as another one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use defrost_testing::golden;

use super::server::{Answer, Server};
use super::support::{Done, finish, pack};

/// A user that has no other process, so that the limit is one on the command's own threads.
const NOBODY: u32 = 61_234;

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Runs the tool where it may have so many threads, its first one included.
fn run_with(threads: usize, dir: &Path, args: &[&str]) -> Done {
    let mut command = Command::new("bash");
    let script = format!("ulimit -u {threads}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, "./defrost"]).args(args);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).current_dir(dir);
    command.stdin(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    finish(command)
}

/// A folder that every user may write, with the tool, a model and files in it.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let tool = Path::new(env!("CARGO_BIN_EXE_defrost"));
    if fs::hard_link(tool, dir.path().join("defrost")).is_err() {
        fs::copy(tool, dir.path().join("defrost")).unwrap();
    }
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    let copied = Command::new("cp")
        .args(["-r", "--no-preserve=mode"])
        .arg(golden::checkpoint("bert-embedding"))
        .arg(dir.path().join("checkpoint"))
        .status();
    assert!(copied.unwrap().success());
    fs::write(dir.path().join("in.jsonl"), "{\"text\": \"a\"}\n".repeat(3)).unwrap();
    fs::write(dir.path().join("docs.json"), r#"{"query": "q", "documents": ["d"]}"#).unwrap();
    dir
}

#[test]
fn a_command_works_with_fewer_or_says_so_in_one_line() {
    let dir = folder();
    let answer = r#"{"status": "ok", "model_name": "m"}"#;
    let server = Server::start(move |_| Answer::new(200, answer));
    let url = server.url();
    let mut worked = 0;
    for args in [
        &["pack", "checkpoint", "--out", "new.snap", "--force"][..],
        &["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", "v.jsonl", "--force"],
        &["rerank", "--model", "model.snap", "--docs-file", "docs.json"],
        &["health", "--url", &url],
        &["verify", "model.snap"],
        &["ls", "checkpoint"],
        &[
            "synth",
            "bert",
            "--dims",
            "layers=1,hidden=64,heads=2,kv_heads=2,head_dim=32,intermediate=64,vocab=300",
            "--out",
            "made",
            "--force",
        ],
    ] {
        for threads in [1, 2, 4, 20] {
            let done = run_with(threads, dir.path(), args);
            if done.code == Some(0) {
                worked += 1;
            } else {
                let line = done.failure();
                assert!(line.contains("`ulimit -u`"), "{threads}: {args:?}: {line}");
            }
            assert!(!done.err.contains("panicked"), "{threads}: {args:?}: {done:?}");
            assert!(done.code == Some(0) || threads < 20, "{args:?}: {done:?}");
            // These need no thread beside their own.
            let alone = ["pack", "rerank", "health", "verify", "synth"].contains(&args[0]);
            assert!(done.code == Some(0) || !alone, "{threads}: {args:?}: {done:?}");
        }
    }
    assert!(worked >= 5 * 4 + 2, "{worked}");
    if is_root() {
        assert!(worked < 7 * 4, "the limit held for nobody");
    }
}
