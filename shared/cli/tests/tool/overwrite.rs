//! What commands write: nothing over what they read, nothing over what is there, no folder that was not asked for.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::Command;

use defrost_testing::golden;
use serde_json::json;

use super::support::{Done, command, finish, pack, root, run};

const ROWS: &str = "{\"text\": \"one\"}\n{\"text\": \"two words\"}\n";
const CASES: &str = "{\"query\": \"q\", \"documents\": [\"one\", \"two\"]}\n";

fn checkpoint(model: &str) -> String {
    golden::checkpoint(model).to_str().unwrap().to_owned()
}

/// Everything in a folder and below it, with the bytes of files.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
                all.push((name, Vec::new()));
            } else {
                all.push((name, fs::read(&path).unwrap_or_default()));
            }
        }
    }
    all.sort();
    all
}

/// Runs the tool, which must refuse with these words and leave everything as it was, with `--force` too unless it may.
#[track_caller]
fn refused(dir: &Path, args: &[&str], says: &str, force_may: bool) {
    let before = contents(dir);
    let forced: Vec<&str> = args.iter().copied().chain(["--force"]).collect();
    for args in [args, &forced].into_iter().take(if force_may { 1 } else { 2 }) {
        let done = run(dir, args);
        assert!(done.failure().contains(says), "{args:?}: {done:?}");
        assert!(contents(dir) == before, "{args:?} changed something: {done:?}");
    }
}

#[test]
fn no_bulk_run_writes_over_its_input_by_whatever_name() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "embed.snap");
    pack(dir.path(), "bert-classifier", "int8", "rank.snap");
    for (verb, model, rows) in [("embed", "embed.snap", ROWS), ("rerank", "rank.snap", CASES)] {
        let dir = dir.path().join(verb);
        fs::create_dir(&dir).unwrap();
        fs::create_dir(dir.join("folder")).unwrap();
        fs::write(dir.join("in.jsonl"), rows).unwrap();
        symlink("in.jsonl", dir.join("link.jsonl")).unwrap();
        symlink(".", dir.join("here")).unwrap();
        fs::hard_link(dir.join("in.jsonl"), dir.join("hard.jsonl")).unwrap();
        symlink("in.jsonl", dir.join("link.parquet")).unwrap();
        let model = format!("../{model}");
        for (input, out) in [
            ("in.jsonl", "in.jsonl"),
            ("in.jsonl", "./in.jsonl"),
            ("in.jsonl", "folder/../in.jsonl"),
            ("in.jsonl", "here/in.jsonl"),
            ("in.jsonl", "link.jsonl"),
            ("link.jsonl", "in.jsonl"),
            ("in.jsonl", "hard.jsonl"),
            ("hard.jsonl", "link.jsonl"),
            ("in.jsonl", "link.parquet"),
        ] {
            let args = [verb, "--model", &model, "--in", input, "--out", out];
            refused(&dir, &args, "is what this command reads", false);
        }
        let (before, args) =
            (contents(&dir), [verb, "--model", &model, "--in", "-", "--out", "in.jsonl"]);
        let mut through_stdin = command(&dir, &args);
        through_stdin.stdin(File::open(dir.join("in.jsonl")).unwrap());
        let done = finish(through_stdin);
        assert!(done.failure().contains("is what this command reads"), "{done:?}");
        assert!(contents(&dir) == before);
    }
}

#[test]
fn no_bulk_run_reads_from_the_folder_that_it_tidies() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    let parts = dir.path().join("v.jsonl.parts");
    fs::create_dir(&parts).unwrap();
    // A name that a killed run leaves, which the next one removes.
    fs::write(parts.join("0000-of-0001.joined.tmp"), ROWS).unwrap();
    symlink("v.jsonl.parts", dir.path().join("elsewhere")).unwrap();
    for input in ["v.jsonl.parts/0000-of-0001.joined.tmp", "elsewhere/0000-of-0001.joined.tmp"] {
        let args = ["embed", "--model", "model.snap", "--in", input, "--out", "v.jsonl"];
        refused(dir.path(), &args, "lies in v.jsonl.parts", false);
    }
    fs::write(dir.path().join("w.jsonl.parts"), "mine").unwrap();
    fs::write(dir.path().join("in.jsonl"), ROWS).unwrap();
    let args = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", "w.jsonl"];
    refused(dir.path(), &args, "w.jsonl.parts is no folder", false);
}

#[test]
fn a_lock_that_is_a_link_truncates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    fs::write(dir.path().join("in.jsonl"), ROWS).unwrap();
    fs::write(dir.path().join("mine"), "precious").unwrap();
    fs::create_dir(dir.path().join("v.jsonl.parts")).unwrap();
    symlink("../mine", dir.path().join("v.jsonl.parts/0000-of-0001.lock")).unwrap();
    let args = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", "v.jsonl"];
    run(dir.path(), &args);
    assert_eq!(fs::read_to_string(dir.path().join("mine")).unwrap(), "precious");
}

#[test]
fn only_parts_of_ones_own_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    fs::write(dir.path().join("in.jsonl"), ROWS).unwrap();
    let parts = dir.path().join("v.jsonl.parts");
    fs::create_dir(&parts).unwrap();
    let foreign = ["film.mkv.part", "package.lock", "notes.tmp", "0000-of-0001.notes.tmp"];
    for name in foreign {
        fs::write(parts.join(name), "mine").unwrap();
    }
    let args = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", "v.jsonl"];
    run(dir.path(), &[&args[..], &["--remove-parts"]].concat()).text();
    let mut left: Vec<String> = contents(&parts).into_iter().map(|(name, _)| name).collect();
    left.sort();
    let mut foreign = foreign;
    foreign.sort_unstable();
    assert_eq!(left, foreign);
}

#[test]
fn a_file_that_is_there_is_replaced_only_with_force() {
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint("bert-embedding");
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    fs::write(dir.path().join("in.jsonl"), ROWS).unwrap();
    let mine = "bert-embedding-int8.snap";
    for name in [mine, "there.snap", "there.jsonl", "there.parquet", "there.svg"] {
        fs::write(dir.path().join(name), "mine").unwrap();
    }
    fs::create_dir(dir.path().join("there")).unwrap();
    fs::write(dir.path().join("there/config.json"), "mine").unwrap();
    let embed = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out"];
    let plot = ["bench", "throughput", "--model", "model.snap", "--runs", "1", "--lengths", "8"];
    let plot = [&plot[..], &["--documents", "1", "--plot", "there.svg"]].concat();
    for args in [
        &["pack", source.as_str()][..],
        &["pack", &source, "--out", "there.snap"],
        &["pull", "model.snap", "--out", "there.snap"],
        &[&embed[..], &["there.jsonl"]].concat(),
        #[cfg(feature = "parquet")]
        &[&embed[..], &["there.parquet"]].concat(),
        &[
            "synth",
            "bert",
            "--dims",
            "layers=1,hidden=64,heads=2,kv_heads=2,head_dim=32,intermediate=96,vocab=400",
            "--out",
            "there",
        ],
        &plot,
    ] {
        refused(dir.path(), args, "is there already", true);
        let done = run(dir.path(), &[args, &["--force"]].concat());
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
    }
    assert!(contents(dir.path()).iter().all(|(_, bytes)| bytes != b"mine"));
}

/// What an earlier run wrote, and may write again: the way to go on after a kill, or with a file that has grown.
#[test]
fn an_output_with_its_parts_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    let args = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", "v.jsonl"];
    for rows in ["", ROWS, "{\"text\": \"three\"}\n"] {
        fs::write(dir.path().join("in.jsonl"), rows).unwrap();
        run(dir.path(), &args).text();
        let out = fs::read_to_string(dir.path().join("v.jsonl")).unwrap();
        assert_eq!(out.lines().count(), rows.lines().count());
    }
}

#[test]
fn a_folder_that_is_missing_is_created_only_with_force() {
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint("bert-embedding");
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    fs::write(dir.path().join("in.jsonl"), ROWS).unwrap();
    let dims = "layers=1,hidden=64,heads=2,kv_heads=2,head_dim=32,intermediate=96,vocab=400";
    for (args, makes) in [
        (&["pack", source.as_str(), "--out", "a/b/x.snap"][..], "a/b/x.snap"),
        (&["pull", "model.snap", "--out", "c/d/x.snap"], "c/d/x.snap"),
        (&["push", "model.snap", "e/f/x.snap"], "e/f/x.snap"),
        (
            &["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", "g/h/x.jsonl"],
            "g/h/x.jsonl",
        ),
        (&["synth", "bert", "--dims", dims, "--out", "i/j/x"], "i/j/x/config.json"),
    ] {
        refused(dir.path(), args, "does not exist", true);
        let done = run(dir.path(), &[args, &["--force"]].concat());
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        assert!(dir.path().join(makes).is_file(), "{args:?}");
    }
}

#[test]
fn what_is_no_file_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint("bert-embedding");
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    fs::write(dir.path().join("in.jsonl"), ROWS).unwrap();
    for name in ["folder", "folder.jsonl"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    for name in ["pipe", "pipe.jsonl"] {
        let made = Command::new("mkfifo").arg(dir.path().join(name)).status().unwrap();
        assert!(made.success());
    }
    let embed = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out"];
    for (args, says) in [
        (&["pack", source.as_str(), "--out", "folder"][..], "folder is a folder"),
        (&["pack", &source, "--out", "new/"], "expected the name of a file"),
        (&["pack", &source, "--out", ".."], ".. is a folder"),
        (&["pack", &source, "--out", "pipe"], "pipe is no regular file"),
        (&["pull", "model.snap", "--out", "folder"], "folder is a folder"),
        (&["pull", "model.snap", "--out", "pipe"], "pipe is no regular file"),
        (&["synth", "bert", "--out", "in.jsonl"], "in.jsonl is no folder"),
        (&[&embed[..], &["folder.jsonl"]].concat(), "folder.jsonl is a folder"),
        (&[&embed[..], &["pipe.jsonl"]].concat(), "pipe.jsonl is no regular file"),
    ] {
        let forced = [args, &["--force"]].concat();
        for args in [args, &forced] {
            let done = run(dir.path(), args);
            assert!(done.failure().contains(says), "{args:?}: {done:?}");
        }
    }
    assert!(fs::symlink_metadata(dir.path().join("pipe")).unwrap().file_type().is_fifo());
    assert!(fs::read_dir(dir.path().join("folder")).unwrap().next().is_none());
}

#[test]
fn no_snapshot_is_written_over_what_it_is_made_of() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("model")).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let from = golden::checkpoint("bert-classifier").join(file);
        fs::copy(from, dir.path().join("model").join(file)).unwrap();
    }
    symlink("model/model.safetensors", dir.path().join("link.snap")).unwrap();
    for out in ["model/model.safetensors", "model/config.json", "link.snap"] {
        let args = ["pack", "model", "--out", out];
        refused(dir.path(), &args, "is what this command reads", false);
    }
    // Beside them is a good place.
    run(dir.path(), &["pack", "model", "--out", "model/model.snap"]).text();
    symlink("model/model.snap", dir.path().join("same.snap")).unwrap();
    for out in ["model/model.snap", "same.snap"] {
        let args = ["pull", "model/model.snap", "--out", out];
        refused(dir.path(), &args, "is what this command reads", false);
        let args = ["push", "model/model.snap", out];
        refused(dir.path(), &args, "is what this command reads", false);
    }
    run(dir.path(), &["pack", "model", "--out", "model/model.snap", "--force"]).text();
}

#[test]
fn a_push_to_a_name_replaces_another_snapshot_only_with_force() {
    let dir = tempfile::tempdir().unwrap();
    let one = pack(dir.path(), "bert-classifier", "int8", "one.snap");
    let two = pack(dir.path(), "bert-classifier", "f32", "two.snap");
    fs::create_dir(dir.path().join("volume")).unwrap();
    run(dir.path(), &["push", "one.snap", "volume/prod.snap"]).text();
    let again = run(dir.path(), &["push", "one.snap", "volume/prod.snap"]).text();
    assert!(again.contains("was there already"), "{again}");
    let args = ["push", "two.snap", "volume/prod.snap"];
    refused(dir.path(), &args, &one, true);
    run(dir.path(), &[&args[..], &["--force"]].concat()).text();
    let stored = run(dir.path(), &["inspect", "volume/prod.snap", "--json"]).json();
    assert_eq!(stored["root"], json!(two));
}

#[test]
fn a_pull_leaves_the_snapshot_that_lay_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = pack(dir.path(), "bert-classifier", "int8", "model.snap");
    let mine = format!("{root}.snap");
    fs::rename(dir.path().join("model.snap"), dir.path().join(&mine)).unwrap();
    run(dir.path(), &["pull", &mine, "--out", "copy.snap"]).text();
    assert!(dir.path().join(&mine).is_file());
}

#[test]
fn to_remove_what_is_not_there_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-classifier", "int8", "model.snap");
    for place in ["missing.snap", "no/such/folder/x.snap", "model.snap/x.snap"] {
        let done = run(dir.path(), &["rm", place]);
        assert!(done.failure().contains("there is no such snapshot"), "{place}: {done:?}");
    }
    assert!(run(dir.path(), &["rm", "model.snap"]).text().contains("removed"));
    assert_eq!(contents(dir.path()), [], "its stamp went with it");
    assert!(run(dir.path(), &["rm", "model.snap"]).failure().contains("there is no such"));
}

#[test]
fn the_stamp_of_a_snapshot_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let is_stamp = |name: &str| Path::new(name).extension() == Some("ok".as_ref());
    let stamps = |dir: &Path| {
        let all = contents(dir).into_iter();
        all.map(|(name, _)| name).filter(|name| is_stamp(name)).collect::<Vec<_>>()
    };
    let source = checkpoint("bert-classifier");
    pack(dir.path(), "bert-classifier", "int8", "model.snap");
    pack(dir.path(), "bert-classifier", "bf16", "other.snap");
    assert_eq!(stamps(dir.path()).len(), 2);
    let replaced: Done =
        run(dir.path(), &["pack", &source, "--precision", "f32", "--out", "model.snap", "--force"]);
    let new = root(&replaced.text());
    let left = stamps(dir.path());
    assert_eq!(left.len(), 2, "that of the file that was replaced is gone: {left:?}");
    assert!(left.contains(&format!("{new}.ok")), "{left:?}");
    run(dir.path(), &["rm", "model.snap"]).text();
    assert_eq!(stamps(dir.path()).len(), 1, "that of another file stays");
    // A damaged file has no root that could be read, and its stamp goes all the same.
    let other = dir.path().join("other.snap");
    let file = File::options().write(true).open(&other).unwrap();
    file.set_len(100).unwrap();
    run(dir.path(), &["rm", "other.snap"]).text();
    assert_eq!(contents(dir.path()), []);
}
