//! Bodies that come compressed with gzip, as some clients and proxies send large ones.
//!
//! A few kilobytes can stand for gigabytes, so the bounds on a body hold for what it becomes:
//! decompression goes in steps, and ends with the first one beyond the bound of a body or of all
//! that requests hold together.

use std::io::Read as _;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use crate::edge::budget::Held;
use crate::error::ApiError;

/// Bodies of so many compressed bytes or more are decompressed on another thread: a hundred
/// microseconds.
const LARGE: usize = 16 << 10;

/// How many bytes are decompressed between two looks at the bounds.
const STEP: usize = 64 << 10;

/// Whether a name in `content-encoding` means gzip.
pub(super) fn is_gzip(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip")
}

/// What was compressed, of at most `limit` bytes, and the bytes that the request holds for it.
pub(super) async fn decompressed(
    bytes: Bytes,
    held: Held,
    limit: usize,
) -> Result<(Bytes, Held), ApiError> {
    if bytes.len() < LARGE {
        return decompress(&bytes, held, limit);
    }
    let work = tokio::task::spawn_blocking(move || decompress(&bytes, held, limit));
    work.await.map_err(|error| ApiError::internal(&format!("decompressing a body: {error}")))?
}

fn decompress(bytes: &[u8], mut held: Held, limit: usize) -> Result<(Bytes, Held), ApiError> {
    let mut body = Vec::new();
    let mut decoder = MultiGzDecoder::new(bytes);
    loop {
        held.resize(bytes.len() + body.len() + STEP)?;
        let step = decoder.by_ref().take(STEP as u64).read_to_end(&mut body);
        let read = step.map_err(|error| ApiError::not_gzip(&error))?;
        if body.len() > limit {
            return Err(ApiError::body_too_large(limit, None));
        }
        if read == 0 {
            held.resize(body.len())?;
            return Ok((body.into(), held));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::edge::budget::Budget;

    async fn decompressed(bytes: Bytes, limit: usize) -> Result<Bytes, ApiError> {
        let held = Budget::of(1 << 30).hold();
        super::decompressed(bytes, held, limit).await.map(|(body, _)| body)
    }

    fn compressed(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("memory takes all");
        encoder.finish().expect("memory takes all").into()
    }

    #[tokio::test]
    async fn the_bound_is_on_what_a_body_becomes() {
        for length in [0, 1, 1000, LARGE * 100] {
            let plain = vec![b'a'; length];
            let sent = compressed(&plain);
            assert_eq!(decompressed(sent.clone(), length).await.expect("fits"), plain);
            if let Some(less) = length.checked_sub(1) {
                assert!(decompressed(sent, less).await.is_err(), "{length}");
            }
        }
    }

    #[tokio::test]
    async fn members_follow_each_other_and_damage_is_told() {
        let two = [compressed(b"{\"a\":"), compressed(b"1}")].concat();
        assert_eq!(decompressed(two.clone().into(), 100).await.expect("fits"), "{\"a\":1}");
        let held = Budget::of(100 << 10).hold();
        let large = compressed(&vec![b'a'; 1 << 20]);
        let error = super::decompressed(large, held, 1 << 20).await.expect_err("beyond the budget");
        assert!(!error.to_string().contains("gzip"), "{error}");
        for bad in [&two[..two.len() - 1], b"{}", b""] {
            let error = decompressed(Bytes::copy_from_slice(bad), 100).await.expect_err("no gzip");
            assert!(error.to_string().contains("gzip"), "{error}");
        }
    }
}
