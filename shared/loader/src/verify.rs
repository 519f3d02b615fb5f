//! Checking the bytes of a snapshot before they are used.
//!
//! There are three ways to restore, and no way to restore unchecked:
//!
//! * `eager`: every chunk is hashed before `open` returns. For files of unknown history.
//! * `on-the-fly`: `open` returns at once; threads hash in execution order while the caller starts, and a tensor is
//!   handed out only when all chunks that hold it are good. A caller that is ahead of the threads hashes what it
//!   needs itself instead of waiting for its turn.
//! * `stamped`: skips hashing when a stamp says that this very file (device, inode, size, times) was hashed before;
//!   otherwise eager, and then leaves a stamp. It trusts the file system to move a file's times when its bytes change,
//!   and so does not see a disk that rots silently; `eager` does.
//!
//! `gate` holds the machinery of the first two, `stamp` that of the third, `watch` sees edits of a file that is in use,
//! `full` is the complete check of `defrost verify`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Kind, shown};

pub(crate) mod full;
pub(crate) mod gate;
pub(crate) mod stamp;
pub(crate) mod watch;

/// When the bytes of a snapshot are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VerifyMode {
    /// The file is not hashed again if a stamp proves that it was hashed before; otherwise like `Eager`.
    #[default]
    Stamped,
    /// The file is hashed in the background, each tensor before it is handed out.
    OnTheFly,
    /// All bytes are hashed before `open` returns.
    Eager,
}

impl VerifyMode {
    const ALL: [(Self, &str); 3] =
        [(Self::Stamped, "stamped"), (Self::OnTheFly, "on-the-fly"), (Self::Eager, "eager")];
}

impl fmt::Display for VerifyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stamped => "stamped",
            Self::OnTheFly => "on-the-fly",
            Self::Eager => "eager",
        })
    }
}

impl FromStr for VerifyMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(mode, _)| *mode).ok_or_else(|| {
            Error::new(Kind::Invalid, "unknown verify mode")
                .mismatch("stamped, on-the-fly or eager", shown(text))
        })
    }
}

/// What was done to check an open snapshot, for the ready log line and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The mode that was asked for.
    pub requested: VerifyMode,
    /// The mode that was used: `Stamped` only if a stamp matched, `Eager` if none did.
    pub mode: VerifyMode,
    /// Wall time from the start of hashing to its end, or until now while it runs; zero if a stamp matched.
    pub duration: Duration,
    /// Bytes hashed so far; zero if a stamp matched.
    pub bytes: u64,
    /// Whether every byte is known to be good.
    pub complete: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_names() {
        for (mode, name) in VerifyMode::ALL {
            assert_eq!(name.parse::<VerifyMode>().unwrap(), mode);
            assert_eq!(mode.to_string(), name);
        }
        assert_eq!(VerifyMode::default(), VerifyMode::Stamped);
        assert!(
            "off"
                .parse::<VerifyMode>()
                .unwrap_err()
                .to_string()
                .contains("stamped, on-the-fly or eager")
        );
    }
}
