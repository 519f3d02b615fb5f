//! The binary `s3-server`, from its flags to its counts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// The server's process, which does not outlive its test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_s3-server"))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut url = String::new();
        let out = child.stdout.as_mut().expect("a pipe");
        BufReader::new(out).read_line(&mut url).expect("a line");
        let address = url.trim().strip_prefix("http://").expect("an address").to_owned();
        Self { child, address }
    }

    fn request(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        write!(stream, "{head} HTTP/1.0\r\nRange: bytes=1-3\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A child that has ended already cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn serves_fails_and_counts() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("b")).expect("a bucket");
    std::fs::write(dir.path().join("b/key"), "hello").expect("an object");
    let port_file = dir.path().join("port");
    let server = Server::start(&[
        "--dir",
        &dir.path().display().to_string(),
        "--port-file",
        &port_file.display().to_string(),
        "--rate",
        "100000000",
        "--fault",
        "slow-down@nth=2",
        "--fault",
        "whole-200@nth=3",
    ]);
    let port = std::fs::read_to_string(port_file).expect("a port");
    assert!(server.address.ends_with(&format!(":{port}")));
    assert!(server.request("GET /b/key").ends_with("\r\n\r\nell"));
    assert!(server.request("GET /b/key").starts_with("HTTP/1.1 503 "));
    assert!(server.request("GET /b/key").ends_with("\r\n\r\nhello"));
    assert!(server.request("GET /_stats").contains("\"body_bytes_sent\":8,"));
    assert!(server.request("POST /_reset").starts_with("HTTP/1.1 204 "));
    assert!(server.request("GET /_stats").contains("\"requests\":0,"));
}

#[test]
fn refuses_rules_that_it_does_not_know() {
    let output = Command::new(env!("CARGO_BIN_EXE_s3-server"))
        .args(["--fault", "burn@always"])
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("`burn` is not a known fault"), "{message}");
}
