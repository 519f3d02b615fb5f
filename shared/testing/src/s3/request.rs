//! A request as it came over the wire: head, target and body.

use std::io::{self, BufRead, Read, Write};

use bytes::Bytes;

use super::chunked;

/// Longest head. S3 takes 8 KiB of headers; signed requests with metadata stay below.
const MAX_HEAD_BYTES: u64 = 64 << 10;
const MAX_HEADERS: usize = 100;

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub method: String,
    /// Path and query as they were sent.
    pub target: String,
    /// First segment of the path; empty for `/`.
    pub bucket: String,
    /// The rest of the path, decoded; empty for operations on a bucket.
    pub key: String,
    pub query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub body: Bytes,
    pub keep_alive: bool,
}

impl Request {
    /// The next request of a connection, `None` if the client has closed it. `to` gets the
    /// `100 Continue` that a client may wait for before it sends the body.
    ///
    /// An error of kind `InvalidData` says that what came is no request.
    pub(super) fn read(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<Option<Self>> {
        let Some(head) = head(from)? else { return Ok(None) };
        let mut request = parse(&head)?;
        if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        request.body = request.read_body(from)?.into();
        Ok(Some(request))
    }

    /// The value of a header, whose name is given in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All headers, their names in lower case.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn read_body(&self, from: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let body = if self.header_names("transfer-encoding", "chunked") {
            chunked::read(from)?
        } else {
            let len = match self.header("content-length") {
                Some(len) => len.parse().map_err(|_| bad("a Content-Length that is no number"))?,
                None => 0,
            };
            let mut body = Vec::new();
            if from.by_ref().take(len).read_to_end(&mut body)? != super::index(len) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            body
        };
        let streamed =
            self.header("x-amz-content-sha256").is_some_and(|hash| hash.starts_with("STREAMING-"));
        if streamed || self.header_names("content-encoding", "aws-chunked") {
            return chunked::read(&mut &body[..]);
        }
        Ok(body)
    }

    fn header_names(&self, header: &str, token: &str) -> bool {
        self.header(header)
            .is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(token)))
    }
}

fn head(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut limited = from.take(MAX_HEAD_BYTES);
    loop {
        let start = head.len();
        if limited.read_until(b'\n', &mut head)? == 0 {
            return match head.len() {
                0 => Ok(None),
                _ => Err(bad("a head without an end")),
            };
        }
        match &head[start..] {
            // Clients may send an empty line between requests.
            b"\r\n" | b"\n" if start == 0 => head.clear(),
            b"\r\n" | b"\n" => return Ok(Some(head)),
            _ => {}
        }
    }
}

fn parse(head: &[u8]) -> io::Result<Request> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    if !parsed.parse(head).is_ok_and(|status| status.is_complete()) {
        return Err(bad("a head that is not HTTP/1"));
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(bad("a head without a request"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // Clients that think they talk to a proxy send the whole address.
    let path = match path.strip_prefix("http://") {
        Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
        None => path.strip_prefix('/').ok_or_else(|| bad("a target that is no path"))?,
    };
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Ok((decode(name, true)?, decode(value, true)?)))
        .collect::<io::Result<_>>()?;
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        bucket: decode(bucket, false)?,
        key: decode(key, false)?,
        query,
        headers: parsed
            .headers
            .iter()
            .map(|header| {
                let value = String::from_utf8_lossy(header.value).into_owned();
                (header.name.to_ascii_lowercase(), value)
            })
            .collect(),
        body: Bytes::new(),
        keep_alive: parsed.version == Some(1),
    };
    if request.header_names("connection", "close") {
        request.keep_alive = false;
    }
    Ok(request)
}

/// Undoes percent encoding; in a query, `+` is a space.
fn decode(text: &str, query: bool) -> io::Result<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || {
                    let digit = bytes.next().and_then(|digit| char::from(digit).to_digit(16))?;
                    u8::try_from(digit).ok()
                };
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(bad("a target with a broken escape"));
                };
                high << 4 | low
            }
            b'+' if query => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| bad("a target that is no text"))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<Option<Request>> {
        Request::read(&mut text.as_bytes(), &mut Vec::new())
    }

    #[test]
    fn targets() {
        let request = read("GET /b/a%20b/c+d%2F?prefix=x%3Dy+z&list-type=2&flag HTTP/1.1\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!((request.bucket.as_str(), request.key.as_str()), ("b", "a b/c+d/"));
        assert_eq!(request.parameter("prefix"), Some("x=y z"));
        assert_eq!(request.parameter("flag"), Some(""));
        assert_eq!(request.parameter("none"), None);
        assert!(request.keep_alive);
        let whole = read("GET http://127.0.0.1:9/b/k?x=1 HTTP/1.1\r\n\r\n").unwrap().unwrap();
        assert_eq!((whole.bucket.as_str(), whole.key.as_str()), ("b", "k"));
    }

    #[test]
    fn bodies() {
        for (headers, body) in [
            ("Content-Length: 3", "abc"),
            ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
            ("Content-Length: 13\r\nContent-Encoding: gzip, aws-chunked", "3\r\nabc\r\n0\r\n\r\n"),
            (
                "Transfer-Encoding: chunked\r\nX-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
                "5\r\n3\r\nab\r\n8\r\nc\r\n0\r\n\r\n\r\n0\r\n\r\n",
            ),
        ] {
            let text = format!("PUT /b/k HTTP/1.1\r\n{headers}\r\n\r\n{body}");
            let request = read(&text).unwrap_or_else(|err| panic!("{text:?}: {err}")).unwrap();
            assert_eq!(request.body, "abc", "{headers}");
        }
    }

    #[test]
    fn what_is_no_request() {
        assert!(read("").unwrap().is_none());
        assert!(read("\r\n").unwrap().is_none());
        for text in [
            "GET /b/k HTTP/1.1\r\n",
            "GET b HTTP/1.1\r\n\r\n",
            "GET /%4 HTTP/1.1\r\n\r\n",
            "GET /%ff HTTP/1.1\r\n\r\n",
            "\u{16}\u{3}\u{1}\r\n\r\n",
            "PUT /b/k HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ] {
            assert_eq!(read(text).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
        read("PUT /b/k HTTP/1.1\r\nContent-Length: 3\r\n\r\nab").unwrap_err();
    }

    #[test]
    fn whoever_expects_it_is_told_to_continue() {
        let mut told = Vec::new();
        let text = "PUT /b/k HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx";
        let request = Request::read(&mut text.as_bytes(), &mut told).unwrap().unwrap();
        assert_eq!(told, b"HTTP/1.1 100 Continue\r\n\r\n");
        assert!(!request.keep_alive);
    }
}
