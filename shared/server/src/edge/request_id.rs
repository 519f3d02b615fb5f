//! The id that ties an answer to its log line.
//!
//! A new id is sixteen bytes asked of the operating system for this id alone. A generator in the
//! process, however seeded, would be copied with its memory: two processes restored from one memory
//! snapshot would go on with the same ids. The kernel is told of a restore and reseeds.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;

/// Longest id taken over from a client; longer ones are replaced, so that logs stay readable.
const MAX_BYTES: usize = 128;

/// The id of the request at hand, in its extensions.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    /// The client's id where it is short and printable, else a new one.
    pub(crate) fn of(header: Option<&HeaderValue>) -> Self {
        header
            .and_then(|value| value.to_str().ok())
            .filter(|id| {
                (1..=MAX_BYTES).contains(&id.len())
                    && id.bytes().all(|byte| byte.is_ascii_graphic())
            })
            .map_or_else(Self::new, |id| Self(id.to_owned()))
    }

    fn new() -> Self {
        let mut bytes = [0; 16];
        if let Err(error) = getrandom::fill(&mut bytes) {
            // The wall clock is not of this process either; two ids of one nanosecond would agree.
            tracing::warn!("no randomness from the operating system: {error}");
            bytes = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_nanos()
                .to_be_bytes();
        }
        Self::from_bytes(bytes)
    }

    fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_or_made() {
        let of = |id: &'static str| RequestId::of(Some(&HeaderValue::from_static(id))).0;
        assert_eq!(of("abc-1"), "abc-1");
        assert_eq!(of("has space").len(), 32);
        assert_ne!(RequestId::of(None).0, RequestId::of(None).0);
    }

    /// No counter, no key: what two copies of a process have in common is not in their ids.
    #[test]
    fn an_id_is_fresh_bytes_and_nothing_else() {
        assert_eq!(RequestId::from_bytes([7; 16]).0, "07".repeat(16));
        assert_eq!(RequestId::from_bytes([7; 16]).0, RequestId::from_bytes([7; 16]).0);
        assert_eq!(RequestId::from_bytes([0; 16]).0.len(), 32);
    }
}
