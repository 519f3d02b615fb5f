//! How far a command is, on stderr: a bar on a terminal; elsewhere, where a log is kept, a line every 30 seconds.
//!
//! A line is written when progress is told and the last one is old enough, so that there is no thread for it; a command of
//! seconds writes none.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Often enough to see that something goes on, and 3,000 lines a day.
const EVERY: Duration = Duration::from_secs(30);

/// Tells the time.
pub(crate) type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Lines for a log.
pub(crate) struct Lines {
    clock: Clock,
    begun: Instant,
    out: Mutex<(Instant, Box<dyn Write + Send>)>,
}

impl Lines {
    /// Lines on stderr.
    pub(crate) fn stderr() -> Self {
        Self::new(Arc::new(Instant::now), Box::new(io::stderr()))
    }

    pub(crate) fn new(clock: Clock, out: Box<dyn Write + Send>) -> Self {
        let begun = clock();
        Self { clock, begun, out: Mutex::new((begun, out)) }
    }

    /// Since it was made.
    pub(crate) fn elapsed(&self) -> Duration {
        (self.clock)().saturating_duration_since(self.begun)
    }

    /// Writes a line, if one is due; `text` gets the time since the beginning.
    pub(crate) fn tell(&self, text: impl FnOnce(Duration) -> String) {
        let now = (self.clock)();
        let mut guard = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, out) = &mut *guard;
        if now.saturating_duration_since(*last) < EVERY {
            return;
        }
        *last = now;
        let text = text(now.saturating_duration_since(self.begun));
        // A log that no process takes any more is no reason to stop.
        let _ = writeln!(out, "defrost: {text}");
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("begun", &self.begun).finish_non_exhaustive()
    }
}

/// Progress over bytes, with rate and remaining time.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    what: &'static str,
    drawn: ProgressBar,
    lines: Arc<Lines>,
}

/// Progress over the bytes of `what`.
pub(crate) fn bytes(what: &'static str) -> Bar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template(
        "{msg:>9} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}",
    );
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(what);
    Bar { what, drawn: bar, lines: Arc::new(Lines::stderr()) }
}

/// Moves the bar to `done` of `total`.
pub(crate) fn advance(bar: &Bar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}

impl Bar {
    /// How many bytes there will be.
    pub(crate) fn set_length(&self, total: u64) {
        self.drawn.set_length(total);
    }

    /// How many there are.
    pub(crate) fn set_position(&self, done: u64) {
        self.drawn.set_position(done);
        if self.drawn.is_hidden() {
            let total = self.drawn.length().unwrap_or(0);
            self.lines.tell(|so_far| {
                let rate = done as f64 / so_far.as_secs_f64().max(1e-9);
                let left = remaining(so_far, done, Some(total));
                format!(
                    "{}: {} of {}, {:.0} MB/s{left}",
                    self.what,
                    human(done),
                    human(total),
                    rate / 1e6
                )
            });
        }
    }

    /// Ends the bar and takes it off the terminal.
    pub(crate) fn finish_and_clear(&self) {
        self.drawn.finish_and_clear();
    }
}

/// `, 40 %, 3 min left` for work that went on for so long, where its end is known.
pub(crate) fn remaining(so_far: Duration, done: u64, total: Option<u64>) -> String {
    let Some(total) = total.filter(|&total| total > 0 && done > 0) else { return String::new() };
    let share = (done as f64 / total as f64).min(1.0);
    let left = so_far.as_secs_f64() * (1.0 - share) / share;
    format!(", {:.0} %, {} left", share * 100.0, span(left))
}

/// Seconds as people say them.
fn span(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        90.0..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

/// A byte count as people read it, in powers of 1000.
pub(crate) fn human(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A clock that goes where it is told, and a log that can be read.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// The time, in seconds from the beginning.
    #[derive(Debug, Clone)]
    pub(crate) struct Hand(Arc<Mutex<Instant>>);

    impl Hand {
        pub(crate) fn new() -> (Self, Clock) {
            let hand = Self(Arc::new(Mutex::new(Instant::now())));
            let time = Arc::clone(&hand.0);
            (hand, Arc::new(move || *time.lock().unwrap_or_else(PoisonError::into_inner)))
        }

        pub(crate) fn advance(&self, seconds: u64) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) += Duration::from_secs(seconds);
        }
    }

    /// What was written.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        pub(crate) fn take(&self) -> String {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
            String::from_utf8(bytes).unwrap_or_default()
        }
    }

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Hand, Log};
    use super::*;

    #[test]
    fn a_line_about_bytes_every_half_minute() {
        let ((hand, clock), log) = (Hand::new(), Log::default());
        let lines = Arc::new(Lines::new(clock, Box::new(log.clone())));
        let bar = Bar { what: "pack", drawn: ProgressBar::hidden(), lines };
        bar.set_length(4_000_000_000);
        for _ in 0..29 {
            hand.advance(1);
            bar.set_position(500_000_000);
        }
        assert_eq!(log.take(), "", "too early for a first line");
        hand.advance(1);
        bar.set_position(1_000_000_000);
        assert_eq!(log.take(), "defrost: pack: 1.00 GB of 4.00 GB, 33 MB/s, 25 %, 2 min left\n");
        hand.advance(29);
        bar.set_position(1_100_000_000);
        assert_eq!(log.take(), "");
        hand.advance(3600);
        bar.set_position(2_000_000_000);
        assert!(log.take().ends_with(", 50 %, 61 min left\n"));
    }

    #[test]
    fn what_has_no_known_end_has_no_remaining_time() {
        let minute = Duration::from_mins(1);
        assert_eq!(remaining(minute, 10, None), "");
        assert_eq!(remaining(minute, 0, Some(10)), "");
        assert_eq!(remaining(minute, 0, Some(0)), "");
        assert_eq!(remaining(minute, 10, Some(10)), ", 100 %, 0 s left");
        assert_eq!(remaining(Duration::from_hours(9), 1, Some(3)), ", 33 %, 18.0 h left");
    }
}
