//! One answer, read from the events of a stream as OpenAI's protocol has them.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::function::line;

/// What a stream's event says; what is not needed here is not read.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Fault>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
    /// What newer servers call it.
    reasoning: Option<String>,
}

/// Tokens, as the server counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

/// An error, whose message some servers put into an object and others do not.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Fault {
    Message { message: String },
    Text(String),
    Other(serde_json::Value),
}

impl Fault {
    fn words(self) -> String {
        match self {
            Self::Message { message } | Self::Text(message) => message,
            Self::Other(value) => value.to_string(),
        }
    }
}

/// The words of an error's body, or the body on one line.
pub(crate) fn fault(body: &str) -> String {
    #[derive(Deserialize)]
    struct Body {
        error: Fault,
    }
    match serde_json::from_str(body) {
        Ok(Body { error }) => line(&error.words()),
        Err(_) => line(body),
    }
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Thought(String),
    Text(String),
}

/// See the module page.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Bytes of an event that is not whole yet.
    rest: Vec<u8>,
    pub(crate) text: String,
    pub(crate) thoughts: String,
    pub(crate) usage: Option<Usage>,
    finish: Option<String>,
    /// Whether the stream said that it is over.
    is_whole: bool,
    pub(crate) is_stopped: bool,
    pieces: u64,
    begun: Instant,
    first: Option<Instant>,
    last: Instant,
}

impl Answer {
    pub(crate) fn begin(now: Instant) -> Self {
        Self {
            rest: Vec::new(),
            text: String::new(),
            thoughts: String::new(),
            usage: None,
            finish: None,
            is_whole: false,
            is_stopped: false,
            pieces: 0,
            begun: now,
            first: None,
            last: now,
        }
    }

    /// Reads more bytes of the stream, which came at this moment.
    pub(crate) fn feed(&mut self, bytes: &[u8], now: Instant) -> Result<Vec<Piece>> {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(Vec::new());
        };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        let mut pieces = Vec::new();
        for line in whole.split(|&byte| byte == b'\n') {
            if let Some(data) = line.trim_ascii().strip_prefix(b"data:") {
                self.event(data.trim_ascii(), now, &mut pieces)?;
            }
        }
        Ok(pieces)
    }

    fn event(&mut self, data: &[u8], now: Instant, pieces: &mut Vec<Piece>) -> Result<()> {
        if data == b"[DONE]" {
            self.is_whole = true;
            return Ok(());
        }
        let Ok(Event { choices, usage, error }) = serde_json::from_slice(data) else {
            bail!(
                "expected events of /v1/chat/completions, found {:?}",
                line(&String::from_utf8_lossy(data))
            );
        };
        if let Some(error) = error {
            bail!("the answer broke off: {}", line(&error.words()));
        }
        self.usage = usage.or(self.usage);
        for Choice { delta, finish_reason } in choices {
            self.finish = finish_reason.or_else(|| self.finish.take());
            let thought = delta.reasoning_content.or(delta.reasoning);
            let before = pieces.len();
            if let Some(thought) = thought.filter(|thought| !thought.is_empty()) {
                self.thoughts.push_str(&thought);
                pieces.push(Piece::Thought(thought));
            }
            if let Some(text) = delta.content.filter(|text| !text.is_empty()) {
                self.text.push_str(&text);
                pieces.push(Piece::Text(text));
            }
            if pieces.len() > before {
                self.first.get_or_insert(now);
                self.last = now;
                self.pieces += 1;
            }
        }
        Ok(())
    }

    /// The connection has ended: whether the answer has, too. Not every server says `[DONE]`.
    pub(crate) fn end(&self) -> Result<()> {
        if self.is_whole || self.finish.is_some() {
            return Ok(());
        }
        bail!("the connection was closed before the answer was complete; ask again")
    }

    /// Tokens of the answer; where the server does not count them, the pieces that came.
    pub(crate) fn tokens(&self) -> u64 {
        self.usage.map_or(self.pieces, |usage| usage.completion_tokens)
    }

    /// Tokens a second, from the first on.
    pub(crate) fn rate(&self) -> Option<f64> {
        let took = self.last.saturating_duration_since(self.first?).as_secs_f64();
        let later = self.tokens().checked_sub(1).filter(|&later| later > 0)?;
        (took > 0.0).then(|| later as f64 / took)
    }

    /// `50 tokens, 671 tokens/s, first after 68.6 ms`, and how it ended where that was not by itself.
    pub(crate) fn figures(&self) -> String {
        let tokens = self.tokens();
        let about = if self.usage.is_none() && tokens > 0 { "about " } else { "" };
        let mut said = format!("{about}{tokens} {}", if tokens == 1 { "token" } else { "tokens" });
        if let Some(rate) = self.rate() {
            // Writing to a String does not fail.
            let _ = write!(said, ", {rate:.1} tokens/s");
        }
        if let Some(first) = self.first {
            let first = time(first.saturating_duration_since(self.begun));
            let _ = write!(said, ", first after {first}");
        }
        if self.is_stopped {
            said += ", stopped";
        } else if self.finish.as_deref() == Some("length") {
            said += ", cut off: as many tokens as it may have (--max-tokens, the context)";
        }
        said
    }
}

fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = concat!(
        ": waiting\n\n",
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n",
        "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"So…\"}}]}\n\n",
        "event: x\ndata:{\"choices\":[{\"delta\":{\"content\":\"Grüße\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\" 🌍\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":11}}\n\n",
        "data: [DONE]\n\n",
    );

    proptest! {
        /// However the bytes are cut, the answer is the same.
        #[test]
        fn pieces_of_a_stream_are_the_whole(cuts in prop::collection::vec(0..STREAM.len(), 0..9)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let begun = Instant::now();
            let mut answer = Answer::begin(begun);
            let (mut at, mut pieces) = (0, Vec::new());
            for (round, cut) in cuts.into_iter().chain([STREAM.len()]).enumerate() {
                let now = begun + Duration::from_millis(100 * (round as u64 + 1));
                pieces.extend(answer.feed(&STREAM.as_bytes()[at..cut], now).unwrap());
                at = cut;
            }
            answer.end().unwrap();
            prop_assert_eq!(&answer.text, "Grüße 🌍");
            prop_assert_eq!(&answer.thoughts, "So…");
            prop_assert_eq!(answer.tokens(), 11);
            let expected = [
                Piece::Thought("So…".into()), Piece::Text("Grüße".into()), Piece::Text(" 🌍".into()),
            ];
            prop_assert_eq!(pieces, expected);
        }
    }

    #[test]
    fn figures_are_those_that_whoever_reads_sees() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut answer = Answer::begin(begun);
        let word = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n";
        assert_eq!(answer.figures(), "0 tokens");
        answer.feed(word, at(250)).unwrap();
        assert_eq!(answer.figures(), "about 1 token, first after 250.0 ms");
        answer.feed(word, at(750)).unwrap();
        assert_eq!(answer.figures(), "about 2 tokens, 2.0 tokens/s, first after 250.0 ms");
        let end = b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":6}}\n";
        answer.feed(end, at(9000)).unwrap();
        let said = answer.figures();
        assert!(
            said.starts_with("6 tokens, 10.0 tokens/s, first after 250.0 ms, cut off"),
            "{said}"
        );
    }

    #[test]
    fn what_goes_wrong_is_told_in_words() {
        for (stream, says) in [
            (
                "data: {\"error\":{\"message\":\"too late\",\"code\":\"x\"}}\n",
                "the answer broke off: too late",
            ),
            ("data: {\"error\":\"busy\"}\n", "the answer broke off: busy"),
            ("data: <html>\n", "expected events of /v1/chat/completions, found \"<html>\""),
        ] {
            let error = Answer::begin(Instant::now()).feed(stream.as_bytes(), Instant::now());
            assert_eq!(error.unwrap_err().to_string(), says);
        }
        let mut cut = Answer::begin(Instant::now());
        cut.feed(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n", Instant::now())
            .unwrap();
        assert!(cut.end().unwrap_err().to_string().contains("before the answer was complete"));
        assert_eq!(fault("{\"error\":{\"message\":\"no\"}}"), "no");
        assert_eq!(fault("{\"error\":\"no\"}"), "no");
        assert_eq!(fault("<b>\nno</b>"), "<b> no</b>");
    }
}
