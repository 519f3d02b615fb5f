//! An answer, and how it gets onto the wire: whole, or cut off where a fault wants it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::connection::Shared;
use super::meter::{ActiveGet, Stats};
use super::shape::TokenBucket;
use super::{date, index, xml};

/// The piece that one system call gets when nothing is shaped. Copying it takes the kernel 150 µs
/// (measured over loopback, 2026-11), beside which the call and the count do not show.
const PIECE_BYTES: u64 = 1 << 20;

/// The beginning of a TLS alert, which is what a wrong port answers, and more that is no HTTP.
const GARBAGE: &[u8] = b"\x15\x03\x03\x00\x02\x02\x46 this is no HTTP \xff\xfe\x00\r\n\r\n";

/// Status, code and message of an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code(pub u16, pub &'static str, pub &'static str);

/// The errors that operations end in.
impl Code {
    pub(super) const ACCESS_DENIED: Self = Self(403, "AccessDenied", "Access Denied");
    pub(super) const BAD_REQUEST: Self = Self(400, "InvalidRequest", "Invalid Request");
    pub(super) const BUCKET_NOT_EMPTY: Self =
        Self(409, "BucketNotEmpty", "The bucket you tried to delete is not empty");
    pub(super) const INCOMPLETE_BODY: Self =
        Self(400, "IncompleteBody", "The body is not as long as the request says");
    pub(super) const INVALID_ARGUMENT: Self = Self(400, "InvalidArgument", "Invalid Argument");
    pub(super) const INVALID_PART: Self = Self(
        400,
        "InvalidPart",
        "One or more of the specified parts could not be found or has another ETag",
    );
    pub(super) const INVALID_PART_ORDER: Self =
        Self(400, "InvalidPartOrder", "The list of parts was not in ascending order");
    pub(super) const INVALID_RANGE: Self =
        Self(416, "InvalidRange", "The requested range is not satisfiable");
    pub(super) const MALFORMED_XML: Self =
        Self(400, "MalformedXML", "The XML you provided was not well-formed");
    pub(super) const METHOD_NOT_ALLOWED: Self =
        Self(405, "MethodNotAllowed", "The specified method is not allowed against this resource");
    pub(super) const NO_SUCH_BUCKET: Self =
        Self(404, "NoSuchBucket", "The specified bucket does not exist");
    pub(super) const NO_SUCH_KEY: Self = Self(404, "NoSuchKey", "The specified key does not exist");
    pub(super) const NO_SUCH_UPLOAD: Self =
        Self(404, "NoSuchUpload", "The specified multipart upload does not exist");
    pub(super) const NOT_IMPLEMENTED: Self =
        Self(501, "NotImplemented", "This server does not implement that");
    pub(super) const PART_TOO_SMALL: Self =
        Self(400, "EntityTooSmall", "A part other than the last is smaller than the least size");
    pub(super) const PRECONDITION_FAILED: Self =
        Self(412, "PreconditionFailed", "At least one of the preconditions did not hold");
    pub(super) const SLOW_DOWN: Self = Self(503, "SlowDown", "Please reduce your request rate");

    /// The error that S3 sends with a status.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            400 => Self::BAD_REQUEST,
            403 => Self::ACCESS_DENIED,
            404 => Self::NO_SUCH_KEY,
            405 => Self::METHOD_NOT_ALLOWED,
            412 => Self::PRECONDITION_FAILED,
            416 => Self::INVALID_RANGE,
            429 => Self(429, "TooManyRequests", "Please reduce your request rate"),
            501 => Self::NOT_IMPLEMENTED,
            503 => Self(503, "ServiceUnavailable", "Service is unable to handle request"),
            status => Self(status, "InternalError", "We encountered an internal error"),
        }
    }
}

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    /// The headers without those of the connection and the length, which follow from the rest.
    pub headers: Vec<(String, String)>,
    pub body: Body,
    pub cut: Option<Cut>,
}

#[derive(Debug)]
pub(super) enum Body {
    Text(String),
    Object(Part),
}

/// Bytes of an object.
#[derive(Debug)]
pub(super) struct Part {
    /// The bucket and the key: `bucket/key`.
    pub name: String,
    /// The whole object.
    pub bytes: Bytes,
    pub range: Range<u64>,
    /// Offset in the object of the byte that is sent with a wrong bit.
    pub flipped: Option<u64>,
}

/// Where a fault ends an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    /// Nothing is sent.
    BeforeHead(Ending),
    /// Bytes that are no HTTP are sent, then the connection is closed.
    Garbage,
    /// The head and this many bytes of the body are sent.
    InBody(u64, Ending),
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    KeepAlive,
    Close,
    Reset,
    Stall,
}

impl Answer {
    /// An answer with a document, or with nothing if it is empty.
    pub(super) fn text(status: u16, text: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: Body::Text(text.into()), cut: None }
    }

    pub(super) fn xml(document: &str) -> Self {
        let text = format!("{}{document}", xml::DECLARATION);
        Self::text(200, text).with("Content-Type", "application/xml")
    }

    pub(super) fn error(code: Code, target: &str) -> Self {
        let Code(status, name, message) = code;
        let resource = target.split('?').next().unwrap_or_default();
        let document = format!(
            "<Error>{}{}{}</Error>",
            xml::element("Code", name),
            xml::element("Message", message),
            xml::element("Resource", resource),
        );
        Self { status, ..Self::xml(&document) }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Removes a header, if it is there.
    pub(super) fn remove_header(&mut self, name: &str) {
        self.headers.retain(|(known, _)| known != name);
    }

    pub(super) fn set_header(&mut self, name: &str, value: impl Into<String>) {
        self.remove_header(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    /// What is counted of an answer before it is sent.
    pub(super) fn count(&self, stats: &mut Stats, head_only: bool) {
        stats.throttled += u64::from(self.status == 503);
        if let (Body::Object(part), false) = (&self.body, head_only)
            && !matches!(self.cut, Some(Cut::BeforeHead(_) | Cut::Garbage))
        {
            stats.ranges.entry(part.name.clone()).or_default().push(part.range.clone());
        }
    }

    fn head(&self, keep_alive: bool, request_id: u64) -> String {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nDate: {}\r\nServer: defrost-testing\r\nx-amz-request-id: {request_id:016X}\r\n",
            self.status,
            reason(self.status),
            date::http(SystemTime::now()),
        );
        for (name, value) in &self.headers {
            // Writing into a string cannot fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !matches!(self.status, 204 | 304) {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        if !keep_alive {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        head
    }
}

impl Body {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Object(part) => part.range.end - part.range.start,
        }
    }

    fn pieces(&self) -> Vec<Bytes> {
        let part = match self {
            Self::Text(text) => return vec![Bytes::copy_from_slice(text.as_bytes())],
            Self::Object(part) => part,
        };
        let slice = |range: Range<u64>| part.bytes.slice(index(range.start)..index(range.end));
        match part.flipped.filter(|at| part.range.contains(at)) {
            None => vec![slice(part.range.clone())],
            Some(at) => vec![
                slice(part.range.start..at),
                vec![part.bytes[index(at)] ^ 1].into(),
                slice(at + 1..part.range.end),
            ],
        }
    }
}

/// One connection's way to the wire.
#[derive(Debug)]
pub(super) struct Wire<'a> {
    pub shared: &'a Shared,
    pub stream: &'a TcpStream,
    /// The connection's own limit.
    pub limit: Option<TokenBucket>,
}

impl Wire<'_> {
    /// Sends an answer and says what becomes of the connection. `active` ends with the last write.
    pub(super) fn send(
        &self,
        answer: &Answer,
        head_only: bool,
        keep_alive: bool,
        active: Option<ActiveGet<'_>>,
    ) -> io::Result<Ending> {
        let natural = if keep_alive { Ending::KeepAlive } else { Ending::Close };
        let mut left = if head_only { 0 } else { answer.body.len() };
        let ending = match answer.cut {
            None => natural,
            Some(Cut::BeforeHead(ending)) => return Ok(self.end(ending, active)),
            Some(Cut::Garbage) => {
                let mut stream = self.stream;
                drop(active);
                stream.write_all(GARBAGE)?;
                return Ok(Ending::Close);
            }
            Some(Cut::InBody(after, ending)) => {
                left = left.min(after);
                ending
            }
        };
        let mut active = if left == 0 && ending != Ending::Stall { None } else { active };
        let request_id = self.shared.meter.requests();
        let mut stream = self.stream;
        stream.write_all(answer.head(keep_alive, request_id).as_bytes())?;
        for piece in answer.body.pieces() {
            let piece = &piece[..piece.len().min(index(left))];
            match &answer.body {
                Body::Text(_) => stream.write_all(piece)?,
                Body::Object(_) => self.send_object(piece, left, ending, &mut active)?,
            }
            left -= piece.len() as u64;
        }
        Ok(self.end(ending, active))
    }

    /// Sends a piece of the `left` bytes that are still to come.
    fn send_object(
        &self,
        mut piece: &[u8],
        mut left: u64,
        ending: Ending,
        active: &mut Option<ActiveGet<'_>>,
    ) -> io::Result<()> {
        while !piece.is_empty() {
            let paced = self.pace(piece.len() as u64);
            let granted = self.shared.meter.grant(paced).ok_or(io::ErrorKind::ConnectionAborted)?;
            if granted == left && ending != Ending::Stall {
                *active = None;
            }
            let (now, later) = piece.split_at(index(granted));
            let (written, outcome) = write(self.stream, now);
            self.shared.meter.settle(granted, written);
            outcome?;
            piece = later;
            left -= granted;
        }
        Ok(())
    }

    /// Waits for the simulated network and says how much of these bytes may go now.
    fn pace(&self, bytes: u64) -> u64 {
        let limits: Vec<&TokenBucket> = self.shared.limit.iter().chain(&self.limit).collect();
        if limits.is_empty() {
            return bytes.min(PIECE_BYTES);
        }
        let drip = bytes.min(u64::from(self.shared.options.drip_bytes.max(1)));
        let now = Instant::now();
        if let Some(then) = limits.iter().map(|limit| limit.take(drip, now)).max() {
            self.shared.stop.sleep_until(then);
        }
        drip
    }

    fn end(&self, ending: Ending, active: Option<ActiveGet<'_>>) -> Ending {
        if ending == Ending::Stall {
            self.shared.stall(self.stream);
            return Ending::Close;
        }
        drop(active);
        ending
    }
}

/// `write_all` that says how far it came.
fn write(mut stream: &TcpStream, bytes: &[u8]) -> (u64, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(0) => return (written as u64, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return (written as u64, Err(err)),
        }
    }
    (written as u64, Ok(()))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        412 => "Precondition Failed",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
