//! `gc`: what it cannot remove is told at the end, and does not keep it from the rest.

use std::fs;
use std::path::Path;

use super::support::{Done, command, finish, pack, run};

fn gc(dir: &Path, more: &[&str]) -> Done {
    finish(command(dir, &[&["gc", "--cache-dir", "cache"][..], more].concat()))
}

/// The name that the cache gives to a model of the hub.
const MODEL: &str = "cache/org-m@main.int8.x86-64-1.snap";

/// Folders by the names of snapshots, which no process may remove as files.
fn folders() -> [String; 2] {
    ["a", "f"].map(|digit| format!("cache/{}.snap", digit.repeat(64)))
}

/// A cache with a snapshot, and two that are folders.
fn cache() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cache")).unwrap();
    for name in folders() {
        fs::create_dir_all(dir.path().join(name).join("below")).unwrap();
    }
    pack(dir.path(), "bert-classifier", "int8", MODEL);
    dir
}

#[test]
fn what_cannot_be_removed_is_told_at_the_end() {
    let dir = cache();
    let done = gc(dir.path(), &[]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(!dir.path().join(MODEL).exists(), "{done:?}");
    assert!(done.out.contains(MODEL), "what was removed is told: {done:?}");
    for name in folders() {
        assert!(done.err.contains(&name), "{done:?}");
        assert!(!done.out.contains(&name), "{done:?}");
    }
    assert!(done.err.lines().last().unwrap().contains("2 "), "{done:?}");
    let left: Vec<_> = fs::read_dir(dir.path().join("cache")).unwrap().collect();
    assert_eq!(left.len(), 2, "the stamp went too: {left:?}");

    let dir = cache();
    let done = gc(dir.path(), &["--json"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["removed"], serde_json::json!([MODEL]));
    assert_eq!(report["failed"].as_array().unwrap().len(), 2, "{report}");
}

#[test]
fn stamps_go_with_their_snapshots_and_stay_with_those_that_stay() {
    const TWO: &str = "cache/o-two@v1.f32.x86-64-1.snap";
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cache")).unwrap();
    pack(dir.path(), "bert-classifier", "int8", "cache/o-one@v1.int8.x86-64-1.snap");
    let root = pack(dir.path(), "bert-classifier", "f32", TWO);
    fs::remove_file(dir.path().join("cache/o-one@v1.int8.x86-64-1.snap")).unwrap();
    let size = fs::metadata(dir.path().join(TWO)).unwrap().len() + 4096 * 2;
    // The stamp of the one that was removed by hand is all that is too much.
    let names = |dir: &Path| {
        let names = fs::read_dir(dir.join("cache")).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let mut expected = vec![format!("{root}.ok"), TWO["cache/".len()..].to_owned()];
    expected.sort();
    let used = fs::metadata(dir.path().join(TWO)).unwrap();
    let used = std::os::unix::fs::MetadataExt::blocks(&used) * 512;
    assert!(used <= size);
    let done = gc(dir.path(), &["--max-bytes", &used.to_string(), "--json"]).json();
    assert_eq!(names(dir.path()), expected, "{done}");
    gc(dir.path(), &[]).text();
    assert_eq!(names(dir.path()), [] as [String; 0]);
}

/// A folder with files that look like the cache's, and a snapshot of its owner.
#[test]
fn files_of_others_are_neither_counted_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    fs::create_dir(&cache).unwrap();
    pack(dir.path(), "bert-classifier", "int8", "cache/mine-int8.snap");
    pack(dir.path(), "bert-classifier", "f32", MODEL);
    let theirs =
        ["photo.snap", "film.partial", "notes.ok", "x.state", "org-m@v2.int8.x86-64-1.snap"];
    for name in theirs {
        fs::write(cache.join(name), "somebody's own").unwrap();
    }
    let listed = run(dir.path(), &["ls", "--cache-dir", "cache", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed[0]["path"], MODEL);
    let report = gc(dir.path(), &["--json"]).json();
    assert_eq!(report["removed"], serde_json::json!([MODEL]));
    assert_eq!(report["left_bytes"], 0);
    for name in theirs.iter().chain(&["mine-int8.snap"]) {
        assert!(cache.join(name).exists(), "{name}");
    }
    let stamps = fs::read_dir(&cache).unwrap().flatten().map(|entry| entry.path());
    let stamps = stamps.filter(|path| path.extension() == Some("ok".as_ref())).count();
    assert_eq!(stamps, 2, "the owner's stamp stays with the snapshot");
    let again = gc(dir.path(), &[]);
    let says = "defrost: the cache is empty: cache holds nothing of its own\n";
    assert_eq!((again.err.as_str(), again.code), (says, Some(0)));
}

#[test]
fn what_is_not_there_is_an_error_and_what_is_empty_is_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for (args, says) in [
        (&["ls", "missing"][..], "missing: there is no such folder"),
        (&["ls", "--cache-dir", "missing"], "missing: there is no such folder (--cache-dir"),
        (&["gc", "--cache-dir", "missing"], "missing: there is no such folder (--cache-dir"),
        (&["ls", "--cache-dir", "file"], "file: expected a folder, found a file"),
        (&["gc", "--cache-dir", "file"], "file: expected a folder, found a file"),
        (&["ls", "file/below"], "file/below: cannot be looked into: "),
    ] {
        let done = run(dir.path(), args);
        assert!(done.failure().starts_with(says), "{args:?}: {done:?}");
    }
    for (args, says) in [
        (&["ls", "empty"][..], "there are no snapshots at empty"),
        (&["ls", "file"], "there are no snapshots at file"),
        (&["ls", "--cache-dir", "empty"], "the cache is empty: empty holds"),
        (&["gc", "--cache-dir", "empty"], "the cache is empty: empty holds"),
        // The usual one is made when it is first needed.
        (&["ls"], "the cache is empty: "),
        (&["gc"], "the cache is empty: "),
    ] {
        let mut command = command(dir.path(), args);
        command.env("HOME", dir.path());
        let done = finish(command);
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        assert!(done.err.starts_with(&format!("defrost: {says}")), "{args:?}: {done:?}");
    }
}

#[test]
fn only_snapshots_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let root = pack(dir.path(), "bert-classifier", "int8", "good.snap");
    let torn = format!("{root}.snap");
    for (name, bytes) in [
        ("photo.snap", "not a snapshot"),
        ("empty.snap", ""),
        ("short.snap", "\u{89}DF"),
        (&torn, "zeros"),
    ] {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let good = fs::read(dir.path().join("good.snap")).unwrap();
    fs::write(dir.path().join("cut.snap"), &good[..5000]).unwrap();
    for name in ["photo.snap", "empty.snap", "short.snap"] {
        let done = run(dir.path(), &["rm", name]);
        let says = format!("{name}: not a snapshot: expected the first bytes of one");
        assert!(done.failure().starts_with(&says), "{done:?}");
        assert!(dir.path().join(name).exists(), "{name}");
    }
    for name in ["good.snap", "cut.snap", &torn] {
        assert!(run(dir.path(), &["rm", name]).text().contains("removed"), "{name}");
        assert!(!dir.path().join(name).exists(), "{name}");
    }
}

/// To open a pipe is to wait for its writer, which never comes.
#[test]
fn nothing_waits_for_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cache")).unwrap();
    fs::write(dir.path().join("docs"), "one\n").unwrap();
    let cached = format!("cache/{}.snap", "a".repeat(64));
    for name in ["p.snap", &cached] {
        let made = std::process::Command::new("mkfifo").arg(dir.path().join(name)).status();
        assert!(made.unwrap().success());
    }
    for args in [
        &["rm", "p.snap"][..],
        &["inspect", "p.snap"],
        &["verify", "p.snap"],
        &["push", "p.snap", "cache"],
        &["pull", "p.snap", "--out", "q.snap"],
        &["rerank", "--model", "p.snap", "--docs-file", "docs", "--query", "q"],
    ] {
        let done = run(dir.path(), args);
        assert!(!done.failure().is_empty(), "{args:?}: {done:?}");
    }
    let listed = run(dir.path(), &["ls", "--cache-dir", "cache", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let done = gc(dir.path(), &["--max-bytes", "0"]);
    assert!(dir.path().join(&cached).exists() && dir.path().join("p.snap").exists(), "{done:?}");
}
