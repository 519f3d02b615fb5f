//! The process: its help, its health check, bad settings.

use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_chat");

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(BINARY).env_clear().args(args).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("utf-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_lists_the_settings_of_chat_and_of_no_other_kind() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for flag in ["--context-length", "--kv-tokens", "--max-tokens", "--temperature", "--keep-alive"]
    {
        assert!(help.contains(flag), "{flag}");
    }
    for flag in ["--max-documents", "--normalization", "--max-inputs", "--gpu-memory-fraction"] {
        assert!(!help.contains(flag), "{flag}");
    }
}

#[test]
fn bad_settings_are_told_at_once() {
    let (code, _, told) = run(&["--model", "x.snap", "--top-p", "2", "--max-running", "0"]);
    assert_eq!(code, Some(2));
    assert!(told.contains("TOP_P: expected a number above 0 to 1"), "{told}");
    assert!(told.contains("MAX_RUNNING: expected a whole number from 1"), "{told}");
}
