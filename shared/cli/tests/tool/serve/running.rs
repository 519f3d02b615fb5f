//! The tool as it serves, with its log.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    /// The body of a good answer.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }
}

/// Sends a request and reads the answer to its end.
pub(super) fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    key: &str,
    body: &str,
) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), text: body.to_owned() }
}

/// A process that serves. Its log fits into a pipe, so that it need not be read all the time.
pub(crate) struct Serving {
    child: Child,
    log: BufReader<ChildStderr>,
    seen: String,
    key: String,
    pub(crate) address: SocketAddr,
}

impl Serving {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut serving = Self { child, log, seen: String::new(), key: String::new(), address };
        let line = serving.read_until("listening on http://");
        let (_, address) = line.split_once("listening on http://").unwrap();
        serving.address = address.trim().parse().unwrap();
        serving
    }

    pub(crate) fn with_key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// Reads the log up to a line that has this in it.
    pub(crate) fn read_until(&mut self, part: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.log.read_line(&mut line).unwrap();
            assert!(read > 0, "ended before {part:?}: {}", self.seen);
            self.seen += &line;
            if line.contains(part) {
                return line;
            }
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        exchange(self.address, "GET", path, &self.key, "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        exchange(self.address, "POST", path, &self.key, &body.to_string())
    }

    /// Ends it and gives its whole log.
    pub(crate) fn end(mut self) -> String {
        self.child.kill().unwrap();
        self.wait().1
    }

    /// The exit code and the log of one that ends by itself.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let mut log = std::mem::take(&mut self.seen);
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
