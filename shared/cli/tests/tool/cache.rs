//! `gc`: what it cannot remove is told at the end, and does not keep it from the rest.

use std::fs;
use std::path::Path;

use super::support::{Done, command, finish, pack};

fn gc(dir: &Path, more: &[&str]) -> Done {
    finish(command(dir, &[&["gc", "--cache-dir", "cache"][..], more].concat()))
}

/// A cache with a snapshot, and two that are folders, which no process may remove as files.
fn cache() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cache")).unwrap();
    for name in ["a.snap", "z.snap"] {
        fs::create_dir_all(dir.path().join("cache").join(name).join("below")).unwrap();
    }
    pack(dir.path(), "bert-classifier", "int8", "cache/m.snap");
    dir
}

#[test]
fn what_cannot_be_removed_is_told_at_the_end() {
    let dir = cache();
    let done = gc(dir.path(), &[]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(!dir.path().join("cache/m.snap").exists(), "{done:?}");
    assert!(done.out.contains("cache/m.snap"), "what was removed is told: {done:?}");
    for name in ["cache/a.snap", "cache/z.snap"] {
        assert!(done.err.contains(name), "{done:?}");
        assert!(!done.out.contains(name), "{done:?}");
    }
    assert!(done.err.lines().last().unwrap().contains("2 "), "{done:?}");
    let left: Vec<_> = fs::read_dir(dir.path().join("cache")).unwrap().collect();
    assert_eq!(left.len(), 2, "the stamp went too: {left:?}");

    let dir = cache();
    let done = gc(dir.path(), &["--json"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["removed"], serde_json::json!(["cache/m.snap"]));
    assert_eq!(report["failed"].as_array().unwrap().len(), 2, "{report}");
}

#[test]
fn stamps_go_with_their_snapshots_and_stay_with_those_that_stay() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cache")).unwrap();
    pack(dir.path(), "bert-classifier", "int8", "cache/one.snap");
    let root = pack(dir.path(), "bert-classifier", "f32", "cache/two.snap");
    fs::remove_file(dir.path().join("cache/one.snap")).unwrap();
    let size = fs::metadata(dir.path().join("cache/two.snap")).unwrap().len() + 4096 * 2;
    // The stamp of the one that was removed by hand is all that is too much.
    let names = |dir: &Path| {
        let names = fs::read_dir(dir.join("cache")).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let mut expected = vec![format!("{root}.ok"), "two.snap".to_owned()];
    expected.sort();
    let used = fs::metadata(dir.path().join("cache/two.snap")).unwrap();
    let used = std::os::unix::fs::MetadataExt::blocks(&used) * 512;
    assert!(used <= size);
    let done = gc(dir.path(), &["--max-bytes", &used.to_string(), "--json"]).json();
    assert_eq!(names(dir.path()), expected, "{done}");
    gc(dir.path(), &[]).text();
    assert_eq!(names(dir.path()), [] as [String; 0]);
}
