//! Bodies in chunks.
//!
//! HTTP's `Transfer-Encoding: chunked` and AWS's `Content-Encoding: aws-chunked` have one shape: a
//! line with the length in hex and perhaps `;extensions`, that many bytes and a line end, again and
//! again until a length of zero, then lines of trailers until an empty one. AWS puts signatures in
//! the extensions and checksums in the trailers; neither is looked at here. The two may be nested.

use std::io::{self, BufRead, Read};

/// Longest line: a chunk's signature is 85 bytes, a trailer's checksum is shorter.
const MAX_LINE_BYTES: u64 = 8 << 10;

/// Reads a body in chunks up to and including the empty line at its end.
pub(super) fn read(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = line(from)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let len = u64::from_str_radix(digits, 16).map_err(|_| bad("a chunk without a length"))?;
        if len == 0 {
            break;
        }
        if from.by_ref().take(len).read_to_end(&mut body)? != super::index(len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !self::line(from)?.is_empty() {
            return Err(bad("a chunk longer than its length"));
        }
    }
    while !line(from)?.is_empty() {}
    Ok(body)
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(bad("a line of a chunked body without an end"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| bad("a line of a chunked body that is no text"))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        for (text, expected) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            (
                "3;chunk-signature=00\r\nabc\r\nA\r\n0123456789\r\n0;chunk-signature=1\r\n\r\n",
                "abc0123456789",
            ),
            ("3\r\na\r\n\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n", "a\r\n"),
        ] {
            assert_eq!(read(&mut text.as_bytes()).unwrap(), expected.as_bytes(), "{text:?}");
        }
        for text in [
            "",
            "3\r\nabc",
            "3\r\nabcd\r\n0\r\n\r\n",
            "x\r\n\r\n",
            "0\r\n",
            "-1\r\n\r\n",
            "5\r\nabc\r\n",
        ] {
            read(&mut text.as_bytes()).unwrap_err();
        }
    }
}
