//! A disk that is full: one line, exit 1, and nothing that was not there.
//!
//! The limit on the size of a file (`ulimit -f`) stands in for it: writes fail in the middle, as they do on a full file
//! system, without a file system of the test's own. Its signal is ignored, so that the process sees the failed write.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use defrost_testing::golden;

use super::support::{Done, finish, pack};

/// Runs the tool where no file may grow beyond so many KiB.
fn run_within(kib: usize, dir: &Path, args: &[&str]) -> Done {
    let mut command = Command::new("bash");
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_defrost")]).args(args);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).current_dir(dir);
    command.stdin(Stdio::null());
    finish(command)
}

fn names(dir: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(
                self::names(&entry.path()).into_iter().map(|below| format!("{name}/{below}")),
            );
        }
        names.insert(name);
    }
    names
}

#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden::checkpoint("bert-embedding");
    let source = source.to_str().unwrap();
    pack(dir.path(), "bert-embedding", "int8", "model.snap");
    pack(dir.path(), "bert-embedding", "int8", "portable.snap");
    let text = |at: usize| format!("{{\"text\": \"word{at} and {at} more\"}}\n");
    fs::write(dir.path().join("in.jsonl"), (0..12_000).map(text).collect::<String>()).unwrap();
    fs::create_dir(dir.path().join("volume")).unwrap();
    let before = names(dir.path());
    let embed = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out"];
    for (args, kib, may_stay) in [
        (&["pack", source, "--out", "new.snap"][..], 16, &[][..]),
        (&["pull", "model.snap", "--out", "new.snap"], 16, &[]),
        (&["push", "model.snap", "volume"], 16, &[]),
        (&["synth", "bert", "--out", "new"], 16, &[]),
        // The index is a sparse file of 1.5 MB. The limit lies above that and small parts, and below the output;
        (&[&embed[..], &["v.jsonl", "--part-tokens", "20000"]].concat(), 1600, &["v.jsonl.parts"]),
        #[cfg(feature = "parquet")]
        (
            &[&embed[..], &["v.parquet", "--part-tokens", "20000"]].concat(),
            1600,
            &["v.parquet.parts"],
        ),
        // or below the one part that all answers would fill.
        (&[&embed[..], &["w.jsonl"]].concat(), 1600, &["w.jsonl.parts"]),
    ] {
        let done = run_within(kib, dir.path(), args);
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{args:?}: {done:?}");
        assert!(done.err.contains("File too large"), "{args:?}: {done:?}");
        let mut after = names(dir.path());
        // What was computed stays, whole parts, under the names that a later run looks for.
        let kept = |name: &String| {
            let ends = |end: &str| Path::new(name).extension() == Some(end.as_ref());
            may_stay.iter().any(|folder| {
                name == folder || name.starts_with(folder) && (ends("part") || ends("lock"))
            })
        };
        after.retain(|name| !kept(name));
        assert_eq!(after, before, "{args:?}");
        for folder in may_stay {
            fs::remove_dir_all(dir.path().join(folder)).unwrap();
        }
    }
}
