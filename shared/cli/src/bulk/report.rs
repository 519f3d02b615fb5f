//! What a run says at its end: what it did, and which rows it left out.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::Answer;
use super::parts::Parts;
use crate::print::note;

/// Rows left out that are listed; more are counted.
const LISTED: usize = 100;

/// Rows that were left out.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    listed: Vec<String>,
    all: u64,
}

impl Refusals {
    /// Notes down one, with its place and what is wrong.
    pub(super) fn add(&mut self, place: &str, what: &str) {
        self.all += 1;
        if self.listed.len() < LISTED {
            self.listed.push(format!("{place}: {what}"));
        }
    }

    /// Prints them.
    pub(super) fn tell(&self) {
        for line in &self.listed {
            note!("left out {line}");
        }
        if self.all > self.listed.len() as u64 {
            note!("left out {} more", self.all - self.listed.len() as u64);
        }
    }
}

/// What there was and what was done.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Rows written.
    pub(super) rows: u64,
    /// Rows left out: they could not be read, or their text was refused.
    pub(super) refused: u64,
    /// Answers that were there.
    pub(super) reused: u64,
    /// Answers that were computed.
    pub(super) computed: u64,
    /// Tokens that were run for them.
    pub(super) computed_tokens: u64,
    /// Tokens of all rows.
    pub(super) tokens: u64,
    /// Texts that were cut to fit, row by row; in a shard those computed.
    pub(super) cut: u64,
    /// The time that computing took, in seconds.
    pub(super) seconds: f64,
}

impl Counts {
    /// A row gets an answer.
    pub(super) fn row(&mut self, answer: &Answer) {
        self.rows += 1;
        self.tokens += u64::from(answer.tokens);
        self.cut += u64::from(answer.cut);
    }

    /// All of it in words, or as JSON.
    pub(super) fn report(
        &self,
        out: &Path,
        shard: Option<&str>,
        remove_parts: bool,
        json: bool,
    ) -> Result<String> {
        let Self { rows, refused, reused, computed, computed_tokens, tokens, cut, seconds } = self;
        let parts = Parts::dir_of(out);
        let rate = |count: &u64| *count as f64 / seconds.max(1e-9);
        // No reader needs more digits than these, and no clock has them.
        let rounded = |number: f64, digits: i32| {
            let scale = 10f64.powi(digits);
            (number * scale).round() / scale
        };
        if json {
            return Ok(serde_json::to_string_pretty(&json!({
                "out": shard.is_none().then(|| out.display().to_string()),
                "parts": (!remove_parts).then(|| parts.display().to_string()),
                "shard": shard, "rows": rows, "left_out": refused, "reused": reused,
                "computed": computed, "computed_tokens": computed_tokens, "tokens": tokens,
                "truncated": cut, "seconds": rounded(*seconds, 3), "texts_per_s": rounded(rate(computed), 1),
                "tokens_per_s": rounded(rate(computed_tokens), 1),
            }))?);
        }
        let mut lines = Vec::new();
        if shard.is_none() {
            lines.push(format!(
                "{}: {rows} rows, {tokens} tokens, {cut} cut to fit, {refused} left out",
                out.display()
            ));
        }
        let done = format!(
            "{computed} computed in {seconds:.1} s ({:.0}/s, {:.0} tokens/s), {reused} answers were there",
            rate(computed),
            rate(computed_tokens)
        );
        lines.push(match shard {
            Some(shard) => format!(
                "shard {shard}: {done}, {cut} cut to fit, {refused} left out; they are in {}: once all shards are done, a run \
                 without --shard writes {}",
                parts.display(),
                out.display()
            ),
            None if remove_parts => done,
            None => format!("{done}; kept in {}: a later run computes what is new", parts.display()),
        });
        Ok(lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded() {
        let counts = Counts {
            computed: 1000,
            computed_tokens: 12_345,
            seconds: 3.123_456_789,
            ..Counts::default()
        };
        let report = counts.report(Path::new("out"), None, false, true).unwrap();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["seconds"], 3.123);
        assert_eq!(report["texts_per_s"], 320.2);
        assert_eq!(report["tokens_per_s"], 3952.4);
    }
}
