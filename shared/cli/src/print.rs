//! Answers on stdout. `println!` panics where it cannot write: at a full disk, and at a reader that
//! has seen enough, as in `defrost inspect ... | head -1`.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

/// Nobody reads stdout any more: nothing is left to do, and nothing went wrong.
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
    match writeln!(io::stdout(), "{text}") {
        Err(err) if err.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        result => result.context("cannot write to stdout"),
    }
}

/// `println!` that returns what went wrong.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::print::line(format_args!($($text)*))
    };
}
pub(crate) use say;
