//! embed, interrupted and shared out: what a killed run leaves is used, what is damaged is not, and the output is the same.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};

use serde_json::{Value, json};

use super::embed::{args, corpus, rows, with_snapshot};
use super::support::{command, run, run_with_input};

/// A text of its own for every number, of some hundred tokens.
fn long_text(number: usize) -> String {
    let words: Vec<String> =
        (0..90).map(|at| format!("word{}", (number * 7919 + at * 104_729) % 100_003)).collect();
    words.join(" ")
}

fn parts(dir: &Path, out: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir.join(format!("{out}.parts"))) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension() == Some("part".as_ref())).collect();
    paths.sort();
    paths
}

/// A run that cannot end by itself, since it is still reading: it has read `input`.
fn held(dir: &Path, args: &[&str], input: &str) -> (Child, ChildStdin) {
    let mut command = command(dir, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    (child, stdin)
}

/// Waits until something is so, or the process has ended.
fn until(child: &mut Child, so: impl Fn() -> bool) {
    while !so() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_bytes() {
    let dir = with_snapshot("bert-embedding", "int8");
    // Every tenth text is the one before it.
    let texts: Vec<String> =
        (0..1000).map(|at| long_text(at - usize::from(at % 10 == 9))).collect();
    let input = corpus(texts);
    let base = ["--in", "-", "--max-length", "128", "--part-tokens", "2000"];
    let with = |out: &'static str| args(&[&base[..], &["--out", out]].concat());
    run_with_input(dir.path(), &with("whole.jsonl"), &input).json();
    let whole = std::fs::read(dir.path().join("whole.jsonl")).unwrap();

    let mut before = 0;
    for quarter in 1..=4 {
        // 190 kB more than the last time, so that a chunk at least is full and has answers that were not there.
        let lines: Vec<&str> = input.split_inclusive('\n').take(250 * quarter).collect();
        let (mut child, stdin) = held(dir.path(), &with("out.jsonl"), &lines.concat());
        until(&mut child, || parts(dir.path(), "out.jsonl").len() > before);
        child.kill().unwrap();
        child.wait().unwrap();
        drop(stdin);
        assert!(!dir.path().join("out.jsonl").exists(), "killed in quarter {quarter}");
        before = parts(dir.path(), "out.jsonl").len();
    }
    let report = run_with_input(dir.path(), &with("out.jsonl"), &input).json();
    let [reused, computed] = ["reused", "computed"].map(|name| report[name].as_u64().unwrap());
    assert_eq!((reused + computed, report["rows"].as_u64()), (900, Some(1000)));
    assert!(reused >= before as u64, "each of {before} parts has a text at least: {report}");
    assert_eq!(std::fs::read(dir.path().join("out.jsonl")).unwrap(), whole);
    let left = std::fs::read_dir(dir.path().join("out.jsonl.parts")).unwrap();
    let mut left = left.map(|entry| entry.unwrap().path());
    assert!(left.all(|path| path.extension().is_none_or(|kind| kind != "tmp")));

    // Once more at the very end, where the output is written: it is whole or not there.
    for _ in 0..3 {
        std::fs::remove_file(dir.path().join("out.jsonl")).unwrap();
        let (mut child, stdin) = held(dir.path(), &with("out.jsonl"), &input);
        drop(stdin);
        let joined = dir.path().join("out.jsonl.parts/0000-of-0001.joined.tmp");
        while !joined.exists() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if let Ok(found) = std::fs::read(dir.path().join("out.jsonl")) {
            assert!(found == whole, "a part of the output had its name");
        }
        run_with_input(dir.path(), &with("out.jsonl"), &input).json();
        assert_eq!(std::fs::read(dir.path().join("out.jsonl")).unwrap(), whole);
    }
}

#[test]
fn one_run_at_a_time() {
    let dir = with_snapshot("bert-embedding", "int8");
    let args =
        args(&["--in", "-", "--out", "out.jsonl", "--max-length", "32", "--part-tokens", "1000"]);
    // A chunk is full, and its part there, so that the run is at work.
    let (mut child, stdin) = held(dir.path(), &args, &corpus((0..250).map(long_text)));
    until(&mut child, || !parts(dir.path(), "out.jsonl").is_empty());
    let second = run_with_input(dir.path(), &args, "");
    assert!(
        second.failure().starts_with("another run is at work here: out.jsonl.parts/"),
        "{second:?}"
    );
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(rows(dir.path(), "out.jsonl").len(), 250);
}

#[test]
fn parts_that_are_damaged_or_of_other_settings_are_not_used() {
    let dir = with_snapshot("bert-embedding", "int8");
    let input = corpus((0..20).map(long_text));
    let base = args(&["--in", "-", "--out", "v.jsonl", "--part-tokens", "100"]);
    run_with_input(dir.path(), &base, &input).json();
    let whole = std::fs::read(dir.path().join("v.jsonl")).unwrap();
    let all = parts(dir.path(), "v.jsonl");
    assert!(all.len() >= 3);
    let mut bytes = std::fs::read(&all[1]).unwrap();
    let late = bytes.len() / 4 * 3;
    bytes[late] ^= 1;
    std::fs::write(&all[1], bytes).unwrap();
    let done = run_with_input(dir.path(), &base, &input);
    assert!(done.err.contains("000001.part is damaged and not used: "), "{done:?}");
    let report = done.json();
    assert!((1..20).contains(&report["computed"].as_u64().unwrap()), "{report}");
    assert_eq!(std::fs::read(dir.path().join("v.jsonl")).unwrap(), whole);

    let other: Vec<&str> = base.iter().chain(&["--normalize", "false"]).copied().collect();
    let done = run_with_input(dir.path(), &other, &input);
    assert!(done.err.contains("normalize is true there and false here"), "{done:?}");
    assert_eq!(done.json()["computed"], 20);

    let last: Vec<&str> = base.iter().chain(&["--remove-parts"]).copied().collect();
    assert_eq!(run_with_input(dir.path(), &last, &input).json()["computed"], 0);
    assert!(!dir.path().join("v.jsonl.parts").exists());
    assert_eq!(std::fs::read(dir.path().join("v.jsonl")).unwrap(), whole);
}

#[test]
fn shards_join_to_the_same_file() {
    let dir = with_snapshot("bert-embedding", "int8");
    let input = corpus((0..40).map(|at| long_text(at % 30)));
    std::fs::write(dir.path().join("in.jsonl"), &input).unwrap();
    let with = |more: &[&'static str]| args(&[&["--in", "in.jsonl"][..], more].concat());
    run(dir.path(), &with(&["--out", "whole.jsonl"])).json();
    let whole = std::fs::read(dir.path().join("whole.jsonl")).unwrap();

    // In one folder, as on a shared volume.
    let mut computed = 0;
    for shard in ["2/3", "0/3"] {
        let report = run(dir.path(), &with(&["--out", "v.jsonl", "--shard", shard])).json();
        computed += report["computed"].as_u64().unwrap();
        assert_eq!((&report["shard"], &report["out"]), (&json!(shard), &Value::Null));
    }
    let done = run(dir.path(), &with(&["--out", "v.jsonl", "--join"]));
    assert!(
        done.failure().contains("of 40 rows have no answer in v.jsonl.parts and 0 other folders"),
        "{done:?}"
    );
    // In another one, as on another machine.
    let report = run(dir.path(), &with(&["--out", "far.jsonl", "--shard", "1/3"])).json();
    computed += report["computed"].as_u64().unwrap();
    assert_eq!(computed, 30);
    let report = run(dir.path(), &with(&["--out", "v.jsonl", "--join", "far.jsonl.parts"])).json();
    assert_eq!((&report["computed"], &report["reused"]), (&json!(0), &json!(30)));
    assert_eq!(std::fs::read(dir.path().join("v.jsonl")).unwrap(), whole);
}
