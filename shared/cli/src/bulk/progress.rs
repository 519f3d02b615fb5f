//! What is told on stderr while a run goes on: a bar on a terminal, a line every half minute elsewhere.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::{Lines, remaining};

/// Progress over the input, with rates of what is computed.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    lines: Lines,
    done: Mutex<Done>,
}

#[derive(Debug, Default)]
struct Done {
    rows: u64,
    texts: u64,
    tokens: u64,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self { bar, lines: Lines::stderr(), done: Mutex::default() }
    }

    /// Adds rows that need nothing more, and answers with their tokens; the input is done up to `at` of `total`.
    pub(super) fn add(&self, rows: u64, texts: u64, tokens: u64, (at, total): (u64, Option<u64>)) {
        let Ok(mut done) = self.done.lock() else { return };
        done.rows += rows;
        done.texts += texts;
        done.tokens += tokens;
        let rates = || {
            let seconds = self.seconds().max(1e-9);
            format!(
                "{} rows, {:.0} texts/s, {:.0} tokens/s",
                done.rows,
                done.texts as f64 / seconds,
                done.tokens as f64 / seconds
            )
        };
        if self.bar.is_hidden() {
            self.lines.tell(|so_far| format!("{}{}", rates(), remaining(so_far, at, total)));
            return;
        }
        if let (Some(total), None) = (total, self.bar.length()) {
            self.bar.set_length(total);
            let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}  eta {eta}");
            if let Ok(style) = style {
                self.bar.set_style(style);
            }
        } else if self.bar.length().is_none()
            && let Ok(style) = ProgressStyle::with_template("{spinner} {msg}")
        {
            self.bar.set_style(style);
        }
        self.bar.set_message(rates());
        self.bar.set_position(at);
    }

    pub(super) fn seconds(&self) -> f64 {
        self.lines.elapsed().as_secs_f64()
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::testing::{Hand, Log};

    #[test]
    fn a_run_without_a_terminal_tells_every_half_minute() {
        let ((hand, clock), log) = (Hand::new(), Log::default());
        let lines = Lines::new(clock, Box::new(log.clone()));
        let progress = Progress { bar: ProgressBar::hidden(), lines, done: Mutex::default() };
        for _ in 0..29 {
            hand.advance(1);
            progress.add(100, 90, 1000, (1, Some(4)));
        }
        assert_eq!(log.take(), "");
        hand.advance(1);
        progress.add(100, 90, 1000, (1, Some(4)));
        let line = "defrost: 3000 rows, 90 texts/s, 1000 tokens/s, 25 %, 2 min left\n";
        assert_eq!(log.take(), line);
        hand.advance(29);
        progress.add(1, 1, 1, (1, Some(4)));
        assert_eq!(log.take(), "");
        // Rows from a pipe have no end that is known.
        hand.advance(1);
        progress.add(999, 899, 1000, (2, None));
        assert_eq!(log.take(), "defrost: 4000 rows, 60 texts/s, 517 tokens/s\n");
    }
}
