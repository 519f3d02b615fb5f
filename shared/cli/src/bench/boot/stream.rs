//! A streamed answer as it comes in: events of server-sent events in a body of chunks, or of one until the end.

use std::io::Read;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// A part of the text that is not empty.
    Content,
    /// How many tokens the prompt has, and how many of those were not computed.
    Usage { prompt: u64, cached: u64 },
}

/// The body so far, without what parts its chunks.
#[derive(Debug, Default)]
struct Body {
    /// What has come in and is not yet understood.
    raw: Vec<u8>,
    /// Bytes that the current chunk lacks.
    left: usize,
    text: Vec<u8>,
}

impl Body {
    /// Takes the chunks apart as far as they are there.
    fn unchunk(&mut self) -> Result<()> {
        loop {
            if self.left > 0 {
                let len = self.left.min(self.raw.len());
                self.text.extend(self.raw.drain(..len));
                self.left -= len;
                if self.left > 0 {
                    return Ok(());
                }
            }
            // The end of the chunk before, if there is one, and the length of the next.
            let start = if self.raw.starts_with(b"\r\n") { 2 } else { 0 };
            let Some(len) = self.raw[start..].windows(2).position(|two| two == b"\r\n") else {
                return Ok(());
            };
            let line = String::from_utf8_lossy(&self.raw[start..start + len]).into_owned();
            self.left = usize::from_str_radix(line.trim(), 16)
                .with_context(|| format!("{line:?} is no length of a chunk"))?;
            self.raw.drain(..start + len + 2);
            if self.left == 0 {
                return Ok(());
            }
        }
    }

    /// The next whole line.
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.text.iter().position(|&byte| byte == b'\n')?;
        Some(self.text.drain(..=end).collect())
    }
}

/// Reads an answer to its end and tells `each` what it says at once.
pub(super) fn read(from: &mut impl Read, mut each: impl FnMut(Said)) -> Result<()> {
    let mut head: Option<bool> = None;
    let mut body = Body::default();
    let mut buffer = [0; 4096];
    loop {
        let count = from.read(&mut buffer)?;
        body.raw.extend(&buffer[..count]);
        if head.is_none()
            && let Some(end) = body.raw.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let text = String::from_utf8_lossy(&body.raw[..end]).to_ascii_lowercase();
            if !text.starts_with("http/1.1 200 ") {
                let all = String::from_utf8_lossy(&body.raw).into_owned();
                bail!("the first answer is {}", all.trim());
            }
            head = Some(text.contains("transfer-encoding: chunked"));
            body.raw.drain(..end + 4);
        }
        match head {
            Some(true) => body.unchunk()?,
            Some(false) => body.text.append(&mut body.raw),
            None => {}
        }
        while let Some(line) = body.line() {
            event(&line, &mut each)?;
        }
        if count == 0 {
            return if head.is_some() { Ok(()) } else { bail!("no HTTP answer") };
        }
    }
}

fn event(line: &[u8], each: &mut impl FnMut(Said)) -> Result<()> {
    let line = String::from_utf8_lossy(line);
    let Some(data) = line.strip_prefix("data:").map(str::trim) else { return Ok(()) };
    if data == "[DONE]" {
        return Ok(());
    }
    let value: Value =
        serde_json::from_str(data).with_context(|| format!("{data:?} is no event"))?;
    if let Some(error) = value.get("error") {
        bail!("the answer ends with {error}");
    }
    if value["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()) {
        each(Said::Content);
    }
    if let Some(prompt) = value["usage"]["prompt_tokens"].as_u64() {
        let cached = value["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
        each(Said::Usage { prompt, cached: cached.unwrap_or(0) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n: wait\n\n\
                          data: {\"choices\":[{\"delta\":{\"content\":\"\u{e9}\"}}]}\n\n\
                          data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"prompt_tokens_details\":{\"cached_tokens\":6}}}\n\n\
                          data: [DONE]\n\n";

    /// Gives its bytes a few at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(to.len());
            to[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn said(answer: &str, at_once: usize) -> Result<Vec<Said>> {
        let mut all = Vec::new();
        read(&mut Slow(answer.as_bytes(), at_once), |said| all.push(said))?;
        Ok(all)
    }

    fn chunked(len: usize) -> String {
        let chars: Vec<char> = EVENTS.chars().collect();
        let one = |chunk: &[char]| {
            let chunk: String = chunk.iter().collect();
            format!("{:x}\r\n{chunk}\r\n", chunk.len())
        };
        let chunks: String = chars.chunks(len).map(one).collect();
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        text + "0\r\n\r\n"
    }

    #[test]
    fn events_are_found_however_they_are_cut() {
        let expected = [Said::Content, Said::Usage { prompt: 100, cached: 6 }];
        let plain = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{EVENTS}");
        for at_once in [1, 2, 7, 4096] {
            assert_eq!(said(&plain, at_once).unwrap(), expected, "{at_once}");
            for len in [1, 3, 40, 9999] {
                assert_eq!(said(&chunked(len), at_once).unwrap(), expected, "{at_once} {len}");
            }
        }
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        for (answer, part) in [
            ("HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":1}", "400 Bad Request"),
            ("HTTP/1.1 200 OK\r\n\r\ndata: {\"error\":{\"message\":\"no\"}}\n\n", "ends with"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "no length"),
            ("HTTP/1.1 200 OK\r\n\r\ndata: {\n", "no event"),
            ("", "no HTTP answer"),
        ] {
            let error = said(answer, 4096).unwrap_err().to_string();
            assert!(error.contains(part), "{answer}: {error}");
        }
    }
}
