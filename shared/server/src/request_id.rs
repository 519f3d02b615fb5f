//! The id that ties an answer to its log line.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
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

    /// A random id. The clock goes in beside the hasher's random keys: processes restored from
    /// one memory snapshot share the keys.
    fn new() -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let half = |salt: u8| RandomState::new().hash_one((now, count, salt));
        Self(format!("{:016x}{:016x}", half(0), half(1)))
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
}
