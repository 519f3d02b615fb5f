//! Answers on stdout, notes on stderr. `println!` and `eprintln!` panic where they cannot write: at a full disk, and at a
//! reader that has seen enough, as in `defrost inspect ... | head -1`. An answer that cannot be written is the end of the
//! command; a note that cannot be written is not.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

/// No process reads stdout any more: nothing is left to do, and nothing went wrong.
#[derive(Debug)]
pub(crate) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout is closed")
    }
}

impl std::error::Error for Closed {}

/// Writes a line; use [`say!`].
pub(crate) fn line(text: fmt::Arguments<'_>) -> Result<()> {
    written(writeln!(io::stdout(), "{text}"))
}

/// Writes a piece of an answer that is shown while it comes.
pub(crate) fn piece(text: &str) -> Result<()> {
    written(io::stdout().write_all(text.as_bytes()))
}

/// What became of writing to stdout.
pub(crate) fn written(result: io::Result<()>) -> Result<()> {
    match result.and_then(|()| io::stdout().flush()) {
        Err(err) if err.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        result => result.context("cannot write to stdout"),
    }
}

/// Writes a line to stderr; use [`note!`].
pub(crate) fn note_line(text: fmt::Arguments<'_>) {
    // A user who closed stderr does not want to know, and where it is full there is no way left to tell.
    let _ = writeln!(io::stderr(), "defrost: {text}");
}

/// `println!` that returns what went wrong.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::print::line(format_args!($($text)*))
    };
}
pub(crate) use say;

/// `eprintln!` that never ends the command.
macro_rules! note {
    ($($text:tt)*) => {
        $crate::print::note_line(format_args!($($text)*))
    };
}
pub(crate) use note;
