//! What can go wrong between a file and checked weights.
//!
//! One error type carries a [`Kind`] for programs and one line for people: which file, where in it, what was
//! expected, what was found, and what to do. It is one pointer wide and cheap to clone, because a failed
//! background verification is reported to every caller that asks afterwards.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What kind of failure it was; decisions (retry, fetch again, repack) read this and never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The file, tensor or checkpoint part does not exist.
    NotFound,
    /// The operating system refused access.
    Denied,
    /// The file is shorter than it says it is.
    Truncated,
    /// Bytes are not those that were written.
    Corrupt,
    /// A format version, feature, layout version or dtype that this build does not know.
    Unsupported,
    /// The weights are packed for an instruction set that this machine or build does not accept.
    WrongIsa,
    /// The object at the source is no longer the version that the download began with.
    Changed,
    /// The source asked for fewer requests until the retry budget was spent.
    Throttled,
    /// The source could not be reached, failed or broke its protocol until the retry budget was spent.
    Unavailable,
    /// The deadline passed first.
    Timeout,
    /// Any other failure of the operating system.
    Io,
    /// The caller asked for something impossible: a plan that contradicts itself, a tensor out of order.
    Invalid,
}

/// Why a snapshot or checkpoint could not be written, opened, fetched or read.
#[derive(Debug, Clone)]
#[allow(
    clippy::error_impl_error,
    reason = "the one error type of this crate, used as `defrost_loader::Error`"
)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    what: String,
    path: Option<PathBuf>,
    offset: Option<u64>,
    range: Option<Range<u64>>,
    expected: Option<String>,
    found: Option<String>,
    remedy: Option<String>,
    source: Option<Arc<io::Error>>,
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The file or object (as `s3://bucket/key`) at fault, where one is known.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// Where in the file, in bytes from its start.
    pub fn offset(&self) -> Option<u64> {
        self.inner.offset
    }

    /// The bytes that were asked of a source, as offsets into the object.
    pub fn range(&self) -> Option<Range<u64>> {
        self.inner.range.clone()
    }

    /// What a correct file or call would have held.
    pub fn expected(&self) -> Option<&str> {
        self.inner.expected.as_deref()
    }

    /// What was there instead.
    pub fn found(&self) -> Option<&str> {
        self.inner.found.as_deref()
    }

    /// An error of this kind; `what` is wrong, without a full stop. The other functions add to it.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                what: what.into(),
                path: None,
                offset: None,
                range: None,
                expected: None,
                found: None,
                remedy: None,
                source: None,
            }),
        }
    }

    /// Wraps a failure of the operating system; the kind follows from its code.
    pub fn io(what: impl Into<String>, path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => Kind::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Denied,
            io::ErrorKind::UnexpectedEof => Kind::Truncated,
            _ => Kind::Io,
        };
        let mut error = Self::new(kind, what).in_file(path);
        error.edit().source = Some(Arc::new(source));
        error
    }

    /// Names the file, unless an inner layer already did.
    #[must_use]
    pub fn in_file(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let inner = self.edit();
        if inner.path.is_none() {
            inner.path = Some(path.to_path_buf());
        }
        self
    }

    /// Says where in the file, in bytes from its start.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.edit().offset = Some(offset);
        self
    }

    pub(crate) fn bytes(mut self, range: Range<u64>) -> Self {
        self.edit().range = Some(range);
        self
    }

    /// Says what a correct file or call would have held, and what was there instead.
    #[must_use]
    pub fn mismatch(mut self, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        let inner = self.edit();
        inner.expected = Some(expected.to_string());
        inner.found = Some(found.to_string());
        self
    }

    /// Says what the reader of the message can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.edit().remedy = Some(remedy.into());
        self
    }

    /// The same rule broken by a plan is the caller's mistake, in a file it is damage.
    pub(crate) fn recast(mut self, kind: Kind) -> Self {
        self.edit().kind = kind;
        self
    }

    fn edit(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.inner)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        if let Some(path) = &inner.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&inner.what)?;
        if let Some(offset) = inner.offset {
            write!(f, " at byte {offset}")?;
        }
        if let Some(range) = &inner.range {
            write!(f, " (bytes {} to {})", range.start, range.end)?;
        }
        if let (Some(expected), Some(found)) = (&inner.expected, &inner.found) {
            write!(f, ": expected {expected}, found {found}")?;
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        if let Some(remedy) = &inner.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

/// The operating system's message is part of the one line already, so it is not repeated as a `source`.
impl std::error::Error for Error {}

/// Shows at most 80 characters of a foreign string, escaped, so that a hostile file cannot flood or colour a log.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut out = format!("{:?}", text.chars().take(LONGEST).collect::<String>());
    if text.chars().nth(LONGEST).is_some() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_names_file_place_expected_found_and_remedy() {
        let error = Error::new(Kind::Corrupt, "chunk 3 differs")
            .in_file(Path::new("/m/a.snap"))
            .at(4096)
            .mismatch("aa", "bb")
            .remedy("fetch the snapshot again");
        assert_eq!(
            error.to_string(),
            "/m/a.snap: chunk 3 differs at byte 4096: expected aa, found bb; fetch the snapshot again"
        );
        assert_eq!(error.kind(), Kind::Corrupt);
    }

    #[test]
    fn errors_cross_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Error>();
    }

    #[test]
    fn foreign_text_is_cut_and_escaped() {
        assert_eq!(shown("a\u{1b}[31m"), "\"a\\u{1b}[31m\"");
        assert!(shown(&"x".repeat(500)).len() < 100);
    }
}
