//! Exit codes and messages of the binary.

use std::net::TcpListener;
use std::process::{Command, Output};

fn run(args: &[&str], vars: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rerank-cpu-int8"))
        .args(args)
        .env_clear()
        .envs(vars.iter().copied())
        .output()
        .expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_is_printed() {
    let output = run(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains("rerank-cpu-int8") && help.contains("--max-batch-tokens"), "{help}");
}

#[test]
fn bad_usage_is_2_and_one_line() {
    for (args, vars) in [
        (&["--nonsense"][..], &[][..]),
        (&[], &[]),
        (&[], &[("MODEL", "m"), ("PORT", "x"), ("DEFROST_X", "1")]),
    ] {
        let output = run(args, vars);
        assert_eq!(output.status.code(), Some(2), "{args:?} {vars:?}");
        let text = stderr(&output);
        assert!(text.starts_with("rerank-cpu-int8: ") && text.lines().count() == 1, "{text}");
    }
}

#[test]
fn a_missing_snapshot_is_1_and_one_line() {
    let folder = std::env::temp_dir().join("no-such-snapshot-of-defrost");
    let path = folder.to_str().expect("utf-8");
    let output = run(&[], &[("MODEL", path), ("PORT", "0"), ("LOG_LEVEL", "error")]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.starts_with("rerank-cpu-int8: ") && text.lines().count() == 1, "{text}");
}

#[test]
fn healthcheck_of_nothing_is_1() {
    // Bound and dropped: a port on which nothing listens.
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a port")
        .port();
    let output = run(&["healthcheck", "--port", &port.to_string()], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no answer from 127.0.0.1"));
}
