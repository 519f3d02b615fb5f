//! The server over raw sockets, as clients see it.

mod faults;
mod listing;
mod server;
mod uploads;
mod verbs;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::{Fault, Options, Rule, S3Server, When, Which};

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The answer ended with its last byte.
    Whole,
    /// The answer ended too early, with a close.
    Closed,
    /// The answer ended too early, with a reset.
    Reset,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    end: End,
}

impl Reply {
    #[track_caller]
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The `Code` of an error, after checking that it comes with this status.
    #[track_caller]
    fn code(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.text());
        super::xml::contents(self.text(), "Code").first().copied().unwrap_or_default()
    }
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(server: &S3Server) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(server.address()).unwrap()) }
    }

    fn send(&mut self, method: &str, target: &str, headers: &[&str], body: &[u8]) {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        for header in headers {
            head += header;
            head += "\r\n";
        }
        if !body.is_empty() && !head.contains("Transfer-Encoding") {
            head += "Content-Length: ";
            head += &body.len().to_string();
            head += "\r\n";
        }
        head += "\r\n";
        self.stream.get_mut().write_all(head.as_bytes()).unwrap();
        self.stream.get_mut().write_all(body).unwrap();
    }

    /// The next answer; `None` if the connection is closed instead.
    fn receive(&mut self, head_only: bool) -> Option<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap() == 0 {
                assert!(lines.is_empty(), "closed within a head: {lines:?}");
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines[1..]
            .iter()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: Vec::new(), end: End::Whole };
        let declared = reply.header("content-length").map_or(0, |len| len.parse().unwrap());
        let expected = if head_only { 0 } else { declared };
        let read = (&mut self.stream).take(expected).read_to_end(&mut reply.body);
        reply.end = match read {
            Ok(read) if read as u64 == expected => End::Whole,
            Ok(_) => End::Closed,
            Err(err) if err.kind() == io::ErrorKind::ConnectionReset => End::Reset,
            Err(err) => panic!("{err}"),
        };
        Some(reply)
    }

    fn request(&mut self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Reply {
        self.send(method, target, headers, body);
        self.receive(method == "HEAD").expect("an answer")
    }

    fn get(&mut self, target: &str, headers: &[&str]) -> Reply {
        self.request("GET", target, headers, b"")
    }

    /// Reads until what was read ends with these bytes.
    fn receive_until(&mut self, end: &[u8]) {
        let mut received = Vec::new();
        while !received.ends_with(end) {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            received.extend(byte);
        }
    }

    /// Waits for the connection to end, in whatever way: one that was not accepted yet, or has
    /// sent what was not read, is reset.
    fn wait_for_end(&mut self) {
        match self.stream.read(&mut [0]) {
            Ok(read) => assert_eq!(read, 0),
            Err(err) => assert_eq!(err.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    /// Whether the server has closed the connection, without another byte.
    fn at_end(&mut self) -> bool {
        self.stream.read(&mut [0]).is_ok_and(|read| read == 0)
    }
}

fn start() -> S3Server {
    S3Server::start(Options::default()).unwrap()
}

/// Bytes of which no two neighbourhoods are alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at % 251) ^ (at / 251)).to_le_bytes()[0]).collect()
}

/// A server with `pattern(1000)` at `/b/k`.
fn with_object() -> (S3Server, Vec<u8>) {
    let (server, bytes) = (start(), pattern(1000));
    server.put("b", "k", bytes.clone());
    (server, bytes)
}

fn always(fault: Fault) -> Rule {
    Rule { on: Which::Any, when: When::Always, fault }
}
