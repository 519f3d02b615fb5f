//! A function as a process: packed models, the binary, its port, its end. Included by the tests of each function, which
//! alone know where its binary is.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use defrost_model::{Precision, isa};
use defrost_pack::{Checkpoint, Outliers, PackOptions, SpecOptions, pack};
use defrost_testing::golden;
use serde_json::Value;

/// Packs a golden model into `dir`.
pub(crate) fn snapshot(dir: &Path, model: &str, precision: Precision) -> PathBuf {
    packed(dir, model, &golden::checkpoint(model), precision)
}

/// Packs a checkpoint into `dir` under this name.
pub(crate) fn packed(dir: &Path, model: &str, checkpoint: &Path, precision: Precision) -> PathBuf {
    laid_out(dir, model, checkpoint, precision, isa::NATIVE)
}

/// Packs a golden model into `dir` as GPUs read it.
#[allow(dead_code, reason = "for functions that use one")]
pub(crate) fn portable(dir: &Path, model: &str, precision: Precision) -> PathBuf {
    laid_out(dir, model, &golden::checkpoint(model), precision, isa::PORTABLE)
}

fn laid_out(
    dir: &Path,
    model: &str,
    checkpoint: &Path,
    precision: Precision,
    isa: &str,
) -> PathBuf {
    let out = dir.join(format!("{model}.snap"));
    let options = PackOptions {
        spec: SpecOptions { name: format!("tiny/{model}"), ..SpecOptions::default() },
        precision,
        isa: isa.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    let checkpoint = Checkpoint::open(checkpoint).unwrap();
    pack(&checkpoint, &options, &out, &mut |_, _| {}).unwrap();
    out
}

/// The binary with this model, on a free port, in an empty environment.
pub(crate) fn function(binary: &str, model: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().env("MODEL", model).env("PORT", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running function; its log is read to find the port.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "ended before it listened: {seen}");
            if let Some((_, address)) = line.split_once("listening on http://") {
                break address.trim().parse().unwrap();
            }
            seen += &line;
        };
        // Keeps the pipe empty, so that the function never blocks on its log.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (head, body) = self.exchange(method, path, body);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// The head of the answer to a POST, and its body as it came.
    #[allow(dead_code, reason = "not every function answers with bytes")]
    pub(crate) fn ask_bytes(&self, path: &str, body: &str) -> (String, Vec<u8>) {
        self.exchange("POST", path, body)
    }

    /// The head of the answer to a GET, and its body as it came.
    #[allow(dead_code, reason = "not every test reads what is no JSON")]
    pub(crate) fn get(&self, path: &str) -> (String, Vec<u8>) {
        self.exchange("GET", path, "")
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let body = answer.split_off(end + 4);
        (String::from_utf8(answer).unwrap(), body)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The exit code and the one line of a function that could not start or go on.
pub(crate) fn fails(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    let name = Path::new(command.get_program()).file_name().unwrap().to_str().unwrap();
    let errors: Vec<&str> =
        stderr.lines().filter(|line| line.starts_with(&format!("{name}: "))).collect();
    assert_eq!(errors.len(), 1, "one clear line: {stderr}");
    (status.code(), errors[0].to_owned())
}
