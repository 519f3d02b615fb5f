//! Runs the tool with nothing but what a test gives it: no environment, so no proxy and no token.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use defrost_testing::golden;
use serde_json::Value;

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The answer of a run that worked.
    #[track_caller]
    pub(crate) fn text(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The answer of a run that worked, as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// The one line that says why a run failed.
    #[track_caller]
    pub(crate) fn failure(&self) -> &str {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:?}");
        let line = self.err.strip_prefix("defrost: ").and_then(|text| text.strip_suffix('\n'));
        let line = line.unwrap_or_else(|| panic!("{self:?}"));
        assert!(!line.contains('\n'), "{self:?}");
        line
    }

    /// What was said about wrong usage.
    #[track_caller]
    pub(crate) fn usage(&self) -> &str {
        assert_eq!((self.code, self.out.as_str()), (Some(2), ""), "{self:?}");
        &self.err
    }
}

/// The tool, to be run in `dir`.
pub(crate) fn command<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_defrost"));
    command.args(args).env_clear().current_dir(dir).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn finish(mut command: Command) -> Done {
    Done::of(command.output().unwrap())
}

/// Runs the tool in `dir`.
pub(crate) fn run<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> Done {
    finish(command(dir, args))
}

/// Runs the tool in `dir` with `input` on stdin.
pub(crate) fn run_with_input(dir: &Path, args: &[&str], input: &str) -> Done {
    let mut command = command(dir, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Done::of(child.wait_with_output().unwrap())
}

/// Packs a golden model in `dir` as `out` and returns its root.
pub(crate) fn pack(dir: &Path, model: &str, precision: &str, out: &str) -> String {
    let source = golden::checkpoint(model);
    let args = ["pack", source.to_str().unwrap(), "--precision", precision, "--out", out];
    root(&run(dir, &args).text())
}

/// The root in the report of `defrost pack`.
pub(crate) fn root(report: &str) -> String {
    let line = report.lines().find_map(|line| line.strip_prefix("  root  "));
    line.unwrap_or_else(|| panic!("{report}")).to_owned()
}
