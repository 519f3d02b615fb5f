//! What can go wrong with an answer.

use super::answer::{Answer, Body, Code, Cut, Ending};
use super::connection::Shared;
use super::request::Request;
use super::{lock, range, route};

/// One way to fail.
///
/// Faults in place of an answer leave the operation undone; faults of the connection come after it:
/// a PUT whose answer is lost has taken place. Faults of an object's bytes are done to GETs and
/// HEADs that would succeed and have no effect on other answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status and S3's error for it.
    Status(u16),
    /// Answers 503 `SlowDown`.
    SlowDown,
    /// Answers 403 `AccessDenied`.
    Denied,
    /// Answers 404 `NoSuchKey`.
    Missing,
    /// Answers 307 with the same address, for ever if it is always done.
    Redirect307,

    /// Sends nothing, until the client closes the connection or the server stops.
    Stall,
    /// Sends the head and this many bytes of the body, then as [`Fault::Stall`].
    StallAfter(u64),
    /// Closes the connection without an answer.
    Hangup,
    /// Sends the head and this many bytes of the body, then closes the connection.
    ShortBody(u64),
    /// Sends the head and this many bytes of the body, then resets the connection. Of these bytes
    /// the client may get fewer, if it has not read them by then.
    Reset(u64),
    /// Sends bytes that are no HTTP and closes the connection.
    Garbage,

    /// Sends this many bytes fewer than were asked for and says so in `Content-Length`, but not in
    /// `Content-Range`.
    ShortLength(u64),
    /// Sends 200 and the whole object for a range.
    Whole200,
    /// Sends another range of the same length, and its `Content-Range`.
    WrongRange,
    /// Sends the right bytes with a `Content-Range` that is off by one.
    WrongContentRangeHeader,
    /// Sends 206 without a `Content-Range`.
    NoContentRange,
    /// Sends the byte at this offset of the object, if it was asked for, with its lowest bit wrong.
    FlipBit {
        /// Offset in the object.
        at: u64,
    },
    /// Every byte of the object, and its `ETag`, is another from this request on.
    NewVersion,
    /// The object changes as by [`Fault::NewVersion`], and from this request on `If-Match` is not looked at.
    SilentNewVersion,
}

impl Fault {
    /// The answer with this fault, and whether there was anything to do it to.
    pub(super) fn answer(self, shared: &Shared, request: &Request) -> (Answer, bool) {
        let instead = |code| (Answer::error(code, &request.target), true);
        match self {
            Self::Status(status) => instead(Code::of_status(status)),
            Self::SlowDown => instead(Code::SLOW_DOWN),
            Self::Denied => instead(Code::ACCESS_DENIED),
            Self::Missing => instead(Code::NO_SUCH_KEY),
            Self::Redirect307 => {
                let host = request.header("host").unwrap_or_default();
                let code = Code(307, "TemporaryRedirect", "Please re-send this request elsewhere");
                let answer = Answer::error(code, &request.target);
                (answer.with("Location", format!("http://{host}{}", request.target)), true)
            }
            Self::NewVersion | Self::SilentNewVersion => {
                let silent = self == Self::SilentNewVersion;
                let changed = lock(&shared.store).change(&request.bucket, &request.key, silent);
                (route::answer(shared, request), changed)
            }
            _ => {
                let mut answer = route::answer(shared, request);
                let done = match self.cut() {
                    Some(cut) => {
                        answer.cut = Some(cut);
                        true
                    }
                    None => self.spoil(&mut answer).is_some(),
                };
                (answer, done)
            }
        }
    }

    fn cut(self) -> Option<Cut> {
        Some(match self {
            Self::Stall => Cut::BeforeHead(Ending::Stall),
            Self::StallAfter(bytes) => Cut::InBody(bytes, Ending::Stall),
            Self::Hangup => Cut::BeforeHead(Ending::Close),
            Self::ShortBody(bytes) => Cut::InBody(bytes, Ending::Close),
            Self::Reset(bytes) => Cut::InBody(bytes, Ending::Reset),
            Self::Garbage => Cut::Garbage,
            _ => return None,
        })
    }

    /// Does what faults of an object's bytes do; `None` if it cannot be done to this answer.
    fn spoil(self, answer: &mut Answer) -> Option<()> {
        let Body::Object(part) = &mut answer.body else { return None };
        let size = part.bytes.len() as u64;
        let asked = part.range.clone();
        let len = asked.end - asked.start;
        let is_part = answer.status == 206;
        match self {
            Self::ShortLength(missing) if missing > 0 && len > 0 => {
                part.range.end -= missing.min(len);
            }
            Self::Whole200 if is_part => {
                part.range = 0..size;
                answer.status = 200;
                answer.remove_header("Content-Range");
            }
            Self::WrongRange if is_part && len < size => {
                // The neighbour in front, the one behind, or what overlaps least.
                let start = match asked.start.checked_sub(len) {
                    Some(start) => start,
                    None => (size - len).min(asked.end),
                };
                let start = if start == asked.start { 0 } else { start };
                part.range = start..start + len;
                let header = range::content_range(&part.range, size);
                answer.set_header("Content-Range", header);
            }
            Self::WrongContentRangeHeader if is_part => {
                let header = range::content_range(&(asked.start + 1..asked.end + 1), size + 1);
                answer.set_header("Content-Range", header);
            }
            Self::NoContentRange if is_part => answer.remove_header("Content-Range"),
            Self::FlipBit { at } if asked.contains(&at) => part.flipped = Some(at),
            _ => return None,
        }
        Some(())
    }
}
