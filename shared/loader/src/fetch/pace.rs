//! How many requests are on their way at once, and how much each asks for.
//!
//! One connection does not fill a link, and too many only queue at the other end (or steal the processor from the model
//! that computes meanwhile). So the number climbs from the fewest by half of itself each time throughput rose by
//! [`GAIN`] or more, steps back once when it did not, and stays; now and then it tries one step up again. A store that
//! asks for fewer requests gets half as many at once.
//!
//! What is on its way delays what a reader begins to wait for. So a request asks for what one connection brings in
//! [`PART_TIME`], from one chunk to four: on a fast link requests are large and few, on a slow one small and soon done.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Throughput is measured over at least this long: several parts, and longer than a scheduler's whims.
pub(super) const WINDOW: Duration = Duration::from_millis(200);

/// Several times the 30 ms that S3 takes to begin an answer.
const PART_TIME: f64 = 0.1;

/// Chunks of the largest request: 8 MiB, what AWS recommends.
const LARGEST_PART: usize = 4;

/// A rise below this is noise.
const GAIN: f64 = 1.08;

/// Windows without a change before another step up is tried: 5 s.
const PATIENCE: u32 = 25;

/// Durations that are remembered, and how many there must be before they say what is usual.
const REMEMBERED: usize = 64;
const FEW: usize = 12;

#[derive(Debug)]
pub(super) struct Pace {
    range: RangeInclusive<usize>,
    limit: usize,
    /// The limit before the last step up, and the throughput there.
    below: Option<(usize, f64)>,
    still: u32,
    /// Bytes per second of one connection in the last window.
    each: f64,
    durations: VecDeque<Duration>,
}

impl Pace {
    pub(super) fn new(range: RangeInclusive<usize>) -> Self {
        let fewest = (*range.start()).max(1);
        let range = fewest..=(*range.end()).max(fewest);
        Self {
            range,
            limit: fewest,
            below: None,
            still: PATIENCE,
            each: 0.0,
            durations: VecDeque::new(),
        }
    }

    /// Requests that may be on their way.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Chunks of this many bytes that the next request asks for. While nothing is known, the first ask for little, so
    /// that something is there soon, and those behind them for more, so that the link is full.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturating is what is wanted"
    )]
    pub(super) fn part(&self, chunk_size: u32, begun: usize) -> usize {
        if self.each == 0.0 {
            return (1 + begun / 2).min(LARGEST_PART);
        }
        ((self.each * PART_TIME / f64::from(chunk_size)) as usize).clamp(1, LARGEST_PART)
    }

    /// Tells the throughput of the last window, in bytes per second.
    pub(super) fn rate(&mut self, rate: f64) {
        self.each = rate / self.limit as f64;
        match self.below {
            Some((fewer, slower)) if rate < slower * GAIN => {
                self.limit = fewer;
                self.below = None;
                self.still = 0;
            }
            Some(_) => self.step_up(rate),
            None => {
                self.still += 1;
                if self.still >= PATIENCE {
                    self.step_up(rate);
                }
            }
        }
    }

    fn step_up(&mut self, rate: f64) {
        let more = (self.limit + self.limit.div_ceil(2)).min(*self.range.end());
        self.below = (more > self.limit).then_some((self.limit, rate));
        self.still = 0;
        self.limit = more;
    }

    /// The store asked for fewer requests.
    pub(super) fn throttled(&mut self) {
        self.limit = (self.limit / 2).max(1);
        self.below = None;
        self.still = 0;
    }

    /// Tells how long a part took.
    pub(super) fn took(&mut self, duration: Duration) {
        if self.durations.len() == REMEMBERED {
            self.durations.pop_front();
        }
        self.durations.push_back(duration);
    }

    /// The time within which 95 % of parts arrive, once there are enough of them.
    pub(super) fn usual(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.durations.iter().copied().collect();
        sorted.sort_unstable();
        (sorted.len() >= FEW).then(|| sorted[sorted.len() * 95 / 100])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the throughput that a link gives to so many requests.
    fn settle(pace: &mut Pace, link: impl Fn(usize) -> f64, windows: usize) {
        for _ in 0..windows {
            let rate = link(pace.limit());
            pace.rate(rate);
        }
    }

    #[test]
    fn climbs_while_it_helps_and_stays_below_the_most() {
        let mut pace = Pace::new(8..=32);
        assert_eq!(pace.limit(), 8);
        settle(&mut pace, |requests| requests as f64, 10);
        assert_eq!(pace.limit(), 32);
        settle(&mut pace, |requests| requests as f64, 100);
        assert_eq!(pace.limit(), 32);
    }

    #[test]
    fn steps_back_where_the_link_is_full() {
        let mut pace = Pace::new(4..=64);
        let link = |requests: usize| requests.min(9) as f64;
        settle(&mut pace, link, 10);
        assert_eq!(pace.limit(), 9, "4, 6, 9, then 14 brings nothing");
        let mut pace = Pace::new(8..=32);
        settle(&mut pace, |_| 1.0, 10);
        assert_eq!(pace.limit(), 8);
    }

    #[test]
    fn a_throttled_pace_halves_down_to_one() {
        let mut pace = Pace::new(8..=32);
        for expected in [4, 2, 1, 1] {
            pace.throttled();
            assert_eq!(pace.limit(), expected);
        }
        settle(&mut pace, |requests| requests as f64, 60);
        assert_eq!(pace.limit(), 32, "and recovers");
    }

    #[test]
    fn requests_grow_with_what_a_connection_brings() {
        let chunk = 2 * 1024 * 1024;
        let mut pace = Pace::new(8..=8);
        let first: Vec<usize> = (0..9).map(|begun| pace.part(chunk, begun)).collect();
        assert_eq!(first, [1, 1, 2, 2, 3, 3, 4, 4, 4]);
        for (rate, part) in [(80e6, 1), (250e6, 1), (400e6, 2), (1e9, 4), (1e11, 4)] {
            pace.rate(rate);
            assert_eq!(pace.part(chunk, 0), part, "{rate}");
        }
    }

    #[test]
    fn what_is_usual_needs_a_few_and_ignores_the_odd_one() {
        let mut pace = Pace::new(1..=1);
        for ms in 1..FEW {
            pace.took(Duration::from_millis(ms as u64));
            assert_eq!(pace.usual(), None);
        }
        for _ in 0..REMEMBERED - 2 {
            pace.took(Duration::from_millis(100));
        }
        pace.took(Duration::from_secs(30));
        assert_eq!(pace.usual(), Some(Duration::from_millis(100)));
    }
}
