//! What is shown on stderr while a run goes on; nothing where stderr is no terminal.

use std::sync::Mutex;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over the input, with rates of what is computed.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    begun: Instant,
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
        Self { bar, begun: Instant::now(), done: Mutex::default() }
    }

    /// Adds rows that need nothing more, and answers with their tokens; the input is done up to `at` of `total`.
    pub(super) fn add(&self, rows: u64, texts: u64, tokens: u64, (at, total): (u64, Option<u64>)) {
        let Ok(mut done) = self.done.lock() else { return };
        done.rows += rows;
        done.texts += texts;
        done.tokens += tokens;
        if self.bar.is_hidden() {
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
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_message(format!(
            "{} rows  {:.0} texts/s  {:.0} tokens/s",
            done.rows,
            done.texts as f64 / seconds,
            done.tokens as f64 / seconds
        ));
        self.bar.set_position(at);
    }

    pub(super) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
