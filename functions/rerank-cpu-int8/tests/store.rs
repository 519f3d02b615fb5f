//! The binary with its snapshot in a bucket on loopback.

#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "../../../shared/testing/support/running.rs"]
mod running;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use defrost_model::Precision;
use defrost_testing::s3::{Fault, Options, Rule, S3Server, When, Which};
use serde_json::Value;

use running::{Running, fails, function, snapshot};

fn command(model: impl AsRef<OsStr>) -> Command {
    function(env!("CARGO_BIN_EXE_rerank-cpu-int8"), model)
}

const BODY: &str = r#"{"query": "who?", "documents": ["Harper Lee", "Herman Melville"]}"#;

/// A packed model in a bucket, by the name `model.snap`.
struct Shop {
    server: S3Server,
    dir: tempfile::TempDir,
    len: u64,
}

impl Shop {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = snapshot(dir.path(), "qwen2-mxbai", Precision::Int8);
        let bytes = std::fs::read(model).unwrap();
        let server = S3Server::start(Options::default()).unwrap();
        let len = bytes.len() as u64;
        server.put("models", "model.snap", bytes);
        Self { server, dir, len }
    }

    fn command(&self) -> Command {
        let mut command = command("s3://models/model.snap");
        command
            .env("AWS_ENDPOINT_URL", self.server.url())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("CACHE_DIR", self.dir.path().join("cache"));
        command
    }

    fn scores(&self) -> Value {
        ask(&Running::start(self.command()))
    }
}

fn ask(function: &Running) -> Value {
    let (status, answer) = function.ask("POST", "/v1/rerank", BODY);
    assert_eq!(status, 200, "{answer}");
    answer["results"].clone()
}

fn local(dir: &Path) -> Value {
    ask(&Running::start(command(dir.join("qwen2-mxbai.snap"))))
}

#[test]
fn a_bucket_scores_as_a_file_does_and_the_next_start_needs_the_cache_only() {
    let shop = Shop::new();
    let expected = local(shop.dir.path());
    // A request that comes while the snapshot is on its way waits and is answered.
    assert_eq!(shop.scores(), expected);
    shop.server.reset_stats();
    assert_eq!(shop.scores(), expected);
    // Whatever the first process had not fetched when it was ended, and the superblock.
    assert!(shop.server.stats().body_bytes_sent < shop.len);
}

#[test]
fn a_store_that_fails_now_and_then_is_not_noticed() {
    let shop = Shop::new();
    let expected = local(shop.dir.path());
    for fault in [Fault::SlowDown, Fault::Reset(700), Fault::FlipBit { at: shop.len / 2 }] {
        shop.server.add_rule(Rule { on: Which::Gets, when: When::FirstAttempts(1), fault });
        assert_eq!(shop.scores(), expected, "{fault:?}");
        shop.server.clear_rules();
        std::fs::remove_dir_all(shop.dir.path().join("cache")).unwrap();
    }
}

#[test]
fn a_snapshot_that_cannot_be_fetched_is_said_in_one_line() {
    let shop = Shop::new();
    shop.server.add_rule(Rule { on: Which::Gets, when: When::Always, fault: Fault::Denied });
    let (code, line) = fails(&mut shop.command());
    assert_eq!(code, Some(1));
    assert!(
        line.contains("s3://models/model.snap") && line.contains("AWS_ACCESS_KEY_ID"),
        "{line}"
    );
    shop.server.clear_rules();
    shop.server.remove("models", "model.snap");
    let (code, line) = fails(&mut shop.command());
    assert_eq!(code, Some(1));
    assert!(line.contains("404"), "{line}");
}

/// The data turns out to be bad while a request waits: it gets an error that names no bucket, and
/// the process ends, so that the platform starts another.
#[test]
fn a_download_that_fails_under_a_request_ends_the_process() {
    let shop = Shop::new();
    let at = shop.len - 5000;
    shop.server.add_rule(Rule {
        on: Which::Gets,
        when: When::Always,
        fault: Fault::FlipBit { at },
    });
    let mut function = Running::start(shop.command());
    let (status, answer) = function.ask("POST", "/v1/rerank", BODY);
    assert!(status >= 500, "{status} {answer}");
    assert!(!answer.to_string().contains("models"), "{answer}");
    assert_eq!(function.child.wait().unwrap().code(), Some(1));
}
