//! The `Range` header.
//!
//! S3 takes one range of bytes. What it cannot read as one (other units, several ranges, a last
//! byte before the first) it ignores and sends the whole object; what it can read but has no byte
//! of is refused with 416.

use std::ops::Range;

/// What a `Range` header asks of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// The whole object: there is no header, or none that counts.
    Whole,
    /// A range of bytes that exist.
    Part(Range<u64>),
    /// A range of bytes that do not exist.
    Unsatisfiable,
}

/// Reads the header for an object of `size` bytes.
pub(super) fn resolve(header: Option<&str>, size: u64) -> Asked {
    let Some((first, last)) = header
        .and_then(|header| header.trim().strip_prefix("bytes="))
        .and_then(|spec| spec.split_once('-'))
    else {
        return Asked::Whole;
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..size.min(last.saturating_add(1)),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(suffix)) if first.is_empty() => size - suffix.min(size)..size,
        _ => return Asked::Whole,
    };
    if range.is_empty() { Asked::Unsatisfiable } else { Asked::Part(range) }
}

fn number(text: &str) -> Option<u64> {
    // `parse` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The value of a `Content-Range` header.
pub(super) fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers() {
        for (header, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-4", Asked::Part(2..5)),
            ("bytes=2-", Asked::Part(2..10)),
            ("bytes=2-99", Asked::Part(2..10)),
            ("bytes=2-18446744073709551615", Asked::Part(2..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=10-12", Asked::Unsatisfiable),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=4-2", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=1-2,4-5", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("items=1-2", Asked::Whole),
            ("bytes=99999999999999999999-2", Asked::Whole),
        ] {
            assert_eq!(resolve(Some(header), 10), expected, "{header}");
        }
        assert_eq!(resolve(None, 10), Asked::Whole);
        assert_eq!(resolve(Some("bytes=0-"), 0), Asked::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn any_text_gives_bytes_that_exist(text in "(bytes=)?[-+0-9, ]{0,24}", size in 0..1000u64) {
            if let Asked::Part(range) = resolve(Some(&text), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn a_range_is_its_bytes(start in 0..1000u64, len in 1..1000u64, size in 1..1000u64) {
            let asked = resolve(Some(&format!("bytes={start}-{}", start + len - 1)), size);
            let oracle: Vec<u64> = (start..start + len).filter(|&at| at < size).collect();
            match asked {
                Asked::Part(range) => prop_assert_eq!(range.collect::<Vec<_>>(), oracle),
                other => {
                    prop_assert_eq!(other, Asked::Unsatisfiable);
                    prop_assert!(oracle.is_empty());
                }
            }
        }
    }
}
