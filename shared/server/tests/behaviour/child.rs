//! The whole process: the test binary starts itself as a function with the toy scorer.
//!
//! The child is the test `process` below, chosen by name and told by `CHILD` to act; run without
//! it, it returns at once. Child and parent speak over stdin and stderr, so nothing sleeps.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};

use defrost_server::{BootError, Loaded, Offer, RERANK, run_with_args};
use defrost_tasks::Error;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use serde_json::json;

#[cfg(feature = "chat")]
use super::chat::toy::Echo;
use super::toy::{FUNCTION, Toy};

#[test]
fn process() {
    let Ok(kind) = std::env::var("CHILD") else {
        return;
    };
    if let Some(limit) = std::env::var("THREADS_LIMIT").ok().and_then(|limit| limit.parse().ok()) {
        // As `ulimit -u` does.
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(Resource::Nproc, limit).expect("a lower limit");
    }
    #[cfg(feature = "chat")]
    if kind == "chats" {
        let load = |_: &_, _: &_| Ok(Loaded::completer(Echo::new()));
        let code = run_with_args(FUNCTION, [Offer::new(&defrost_server::CHAT, load)], ["toy"]);
        assert_eq!(code, ExitCode::SUCCESS, "{code:?}");
        return;
    }
    let load = move |_: &_, _: &_| match kind.as_str() {
        "broken" => Err(BootError::new("segment 3 of m.snap is truncated")),
        "waits" => Ok(Loaded::scorer(Toy::with_hook(|| {
            eprintln!("scoring");
            let _ = std::io::stdin().read(&mut [0]);
            Ok(())
        }))),
        "tells" => Ok(Loaded::scorer(telling())),
        _ => Ok(Loaded::scorer(Toy::new())),
    };
    let code = run_with_args(FUNCTION, [Offer::new(&RERANK, load)], ["toy"]);
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

/// C22: a function that gets no request goes away by itself, as after a drain.
#[test]
fn idleness_ends_the_process() {
    let (mut child, mut stderr) = spawn("serves", &[("SHUTDOWN_TIMEOUT", "0.05")]);
    let line = line_with(&mut stderr, "SHUTDOWN_TIMEOUT)");
    assert!(line.contains("no request for 0.05 s (SHUTDOWN_TIMEOUT): exiting"), "{line}");
    assert!(child.wait().expect("ended").success());
}

/// A7: where the system gives few threads, a function says so in one line, or serves with fewer; it
/// never falls over, at the start or later.
#[test]
fn few_threads_are_enough_or_told() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("open");
    let mut served = 0;
    for limit in 1..=10 {
        let mut command = Command::new(std::env::current_exe().expect("the test binary"));
        command
            .args(["--exact", "behaviour::child::process", "--nocapture", "--test-threads=1"])
            .envs([("CHILD", "serves"), ("MODEL", "toy"), ("PORT", "0")])
            .env("THREADS_LIMIT", limit.to_string())
            .envs([("ENABLE_CACHE", "true"), ("CACHE_PERSIST_TO_DISK", "true")])
            .env("CACHE_DIR", dir.path().join(limit.to_string()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if rustix::process::getuid().is_root() {
            // The limit is one of users, and not of this one. Nobody runs as this user but the
            // child.
            command.uid(54_321);
        }
        let mut child = command.spawn().expect("the child starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut log = String::new();
        let port = loop {
            let start = log.len();
            if stderr.read_line(&mut log).expect("a line") == 0 {
                break None;
            }
            if log[start..].contains("listening on") {
                break log.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
            }
        };
        if let Some(port) = port {
            let body = json!({"query": "a", "documents": ["a"]}).to_string();
            // Each writes and reads a file on a thread that may block.
            for _ in 0..2 {
                let port: u16 = port;
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
                let head = "POST /rerank HTTP/1.1\r\nhost: x\r\nconnection: close";
                write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                    .expect("sent");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("answered");
                assert!(answer.starts_with("HTTP/1.1 200"), "{limit} threads: {answer}{log}");
            }
            child.kill().expect("killed");
            served += 1;
        }
        stderr.read_to_string(&mut log).expect("utf-8");
        let status = child.wait().expect("ended");
        assert!(!log.contains("OS can't spawn"), "{limit} threads: {log}");
        if port.is_none() {
            assert_eq!(status.code(), Some(101), "{limit} threads: {log}");
            let told: Vec<&str> = log.lines().filter(|line| line.starts_with("toy: ")).collect();
            let [line] = told[..] else { panic!("{limit} threads: one line, found {log}") };
            assert!(line.contains("ulimit -u"), "{line}");
        }
    }
    if rustix::process::getuid().is_root() {
        assert!((3..10).contains(&served), "of ten limits, {served} were enough");
    }
}

/// D19: the log alone says why a client was refused, and tells none of its texts.
#[test]
fn refusals_are_in_the_log() {
    let vars = [("LOG_FORMAT", "json"), ("API_KEYS", "k"), ("MAX_BODY_BYTES", "1000")];
    let (mut child, mut stderr) = spawn("serves", &vars);
    let line = line_with(&mut stderr, "listening on");
    let (_, port) = line.split_once("listening on http://127.0.0.1:").expect("an address");
    let digits = port.find(|end: char| !end.is_ascii_digit()).unwrap_or(port.len());
    let port: u16 = port[..digits].parse().expect("a port");
    let ask = |path: &str, key: &str, body: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: id-7\r\nx-api-key: {key}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
    };
    let large = "x".repeat(2000);
    for (path, key, body, code, error, field, reason) in [
        ("/v1/rerank", "k", r#"{"query": "a"}"#, 400, "invalid_request", "documents", "missing"),
        (
            "/v1/rerank",
            "k",
            r#"{"query": "a", "documents": ["a"], "top_n": "a private text"}"#,
            400,
            "invalid_request",
            "top_n",
            "top_n: ",
        ),
        ("/v1/rerank", "wrong", "{}", 401, "invalid_api_key", "", "not known here"),
        ("/nowhere", "k", "{}", 404, "not_found", "", "no such route"),
        ("/v1/models", "k", "{}", 405, "method_not_allowed", "", "does not take POST"),
        ("/v1/rerank", "k", &large, 413, "payload_too_large", "", "at most 1000 bytes"),
    ] {
        ask(path, key, body);
        let line = line_with(&mut stderr, "id-7");
        assert!(!line.contains("private"), "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).expect("json");
        assert_eq!(line["level"], "INFO", "{line}");
        assert_eq!((&line["code"], &line["error"]), (&json!(code), &json!(error)), "{line}");
        assert_eq!(line["field"].as_str().unwrap_or_default(), field, "{line}");
        assert!(line["reason"].as_str().is_some_and(|found| found.contains(reason)), "{line}");
        assert_eq!(line["request_id"], "id-7");
    }
    ask("/v1/rerank", "k", r#"{"query": "a", "documents": ["a"]}"#);
    let line = line_with(&mut stderr, "inference_ms");
    let line: serde_json::Value = serde_json::from_str(&line).expect("json");
    for name in ["queue_ms", "tokenize_ms", "inference_ms"] {
        let shown = line[name].to_string();
        let decimals = shown.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        assert!(decimals <= 3, "{name}: {shown}");
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
}
