//! The whole process: the test binary starts itself as a function with the toy scorer.
//!
//! The child is the test `process` below, chosen by name and told by `CHILD` to act; run without
//! it, it returns at once. Child and parent speak over stdin and stderr, so nothing sleeps.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};

use defrost_inference::Error;
use defrost_server::{Backend, BootError, run_with_args};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::toy::{FUNCTION, Toy};

#[test]
fn process() {
    let Ok(kind) = std::env::var("CHILD") else {
        return;
    };
    let code = run_with_args(FUNCTION, ["toy"], move |_, _| match kind.as_str() {
        "broken" => Err(BootError::new("segment 3 of m.snap is truncated")),
        "waits" => Ok(Box::new(Toy::with_hook(|| {
            eprintln!("scoring");
            let _ = std::io::stdin().read(&mut [0]);
            Ok(())
        })) as Box<dyn Backend>),
        "tells" => Ok(Box::new(telling())),
        _ => Ok(Box::new(Toy::new())),
    });
    // The harness reports success as 0 and a panic as 101.
    assert_eq!(code, ExitCode::SUCCESS, "{code:?}");
}

/// A scorer that posts the name of whatever is asked of it to the server at `TELL`, and waits for
/// the answer: so what it is asked has its place among what that server is asked by others. The
/// hook named by `FAIL` then fails.
fn telling() -> Toy {
    let tell = |name: &str| {
        let address = std::env::var("TELL").expect("an address");
        let mut stream = TcpStream::connect(address).expect("connected");
        write!(
            stream,
            "POST /told/{name} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        .expect("sent");
        stream.read_to_end(&mut Vec::new()).expect("answered");
    };
    let toy = Toy::with_hook(move || {
        tell("score");
        Ok(())
    });
    toy.with_snapshot_hook(move |name| {
        tell(name);
        match std::env::var("FAIL") {
            Ok(failing) if failing == name => Err(Error::Model("is broken".into())),
            _ => Ok(()),
        }
    })
}

/// A child of the given kind; `vars` are its settings.
pub(crate) fn spawn(kind: &str, vars: &[(&str, &str)]) -> (Child, BufReader<ChildStderr>) {
    let mut child = Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--exact", "behaviour::child::process", "--nocapture"])
        .env("CHILD", kind)
        .env("MODEL", "toy")
        .env("PORT", "0")
        .envs(vars.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    (child, stderr)
}

fn line_with(stderr: &mut BufReader<ChildStderr>, part: &str) -> String {
    let mut log = String::new();
    loop {
        let start = log.len();
        assert_ne!(stderr.read_line(&mut log).expect("a line"), 0, "no {part:?} in {log}");
        if log[start..].contains(part) {
            return log[start..].trim_end().to_owned();
        }
    }
}

fn port(stderr: &mut BufReader<ChildStderr>) -> u16 {
    let line = line_with(stderr, "listening on");
    line.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[test]
fn sigterm_drains() {
    let folder = tempfile::tempdir().expect("a folder");
    let port_file = folder.path().join("port");
    let path = port_file.to_str().expect("utf-8");
    let (mut child, mut stderr) = spawn("waits", &[("PORT_FILE", path)]);
    let port = port(&mut stderr);
    let ready = line_with(&mut stderr, "ready ");
    assert!(ready.contains("exec ") && ready.contains("config "), "{ready}");
    assert_eq!(
        std::fs::read_to_string(&port_file).expect("the port file").trim(),
        port.to_string()
    );
    let body = json!({"query": "a", "documents": ["a"]}).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    write!(
        stream,
        "POST /rerank HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    line_with(&mut stderr, "scoring");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("signalled");
    line_with(&mut stderr, "draining");
    child.stdin.take().expect("piped").write_all(b"x").expect("released");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered, then closed");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(child.wait().expect("ended").success());
    assert!(!port_file.exists());
}

#[test]
fn a_broken_snapshot_ends_the_process() {
    let (mut child, mut stderr) = spawn("broken", &[]);
    assert_eq!(line_with(&mut stderr, "toy: "), "toy: segment 3 of m.snap is truncated");
    assert_eq!(child.wait().expect("ended").code(), Some(101));
}

#[test]
fn two_cannot_listen_on_one_port() {
    let (mut first, mut stderr) = spawn("serves", &[]);
    let port = port(&mut stderr).to_string();
    let (mut second, mut stderr) = spawn("serves", &[("PORT", &port)]);
    let line = line_with(&mut stderr, "toy: ");
    assert!(
        line.starts_with(&format!("toy: listening on 127.0.0.1:{port} (HOST, PORT)")),
        "{line}"
    );
    assert_eq!(second.wait().expect("ended").code(), Some(101));
    first.kill().expect("killed");
    first.wait().expect("ended");
}

/// C22: a function that nobody asks goes away by itself, as after a drain.
#[test]
fn idleness_ends_the_process() {
    let (mut child, mut stderr) = spawn("serves", &[("SHUTDOWN_TIMEOUT", "0.05")]);
    let line = line_with(&mut stderr, "SHUTDOWN_TIMEOUT)");
    assert!(line.contains("no request for 0.05 s (SHUTDOWN_TIMEOUT): exiting"), "{line}");
    assert!(child.wait().expect("ended").success());
}
