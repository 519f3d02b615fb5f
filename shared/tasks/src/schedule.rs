//! Which sequences of which jobs run next: micro-batches of a token budget, in one of two orders.
//!
//! **Fair**, for requests. Fair queueing (Demers, Keshav and Shenker, 1989) over tokens. Every job has a clock that each of its sequences advances
//! by its cost; the next place in a micro-batch goes to the job whose clock is behind. The common clock advances by the
//! share that each job has in what is served, and a new job's starts there: it neither overtakes for what others had before
//! it came nor waits behind what they still have. A text of at most an eighth of a micro-batch that arrives beside ten
//! thousand runs in the next micro-batch of its kind, a longer one when its clock says so, and texts that arrive without end
//! leave the ten thousand their share: where they kept the job out whose turn it was, because its text is long, that goes
//! before them in the next micro-batch. Nothing waits for a timer: what is there runs. While several jobs share the model, micro-batches are half as long, since what a small job waits
//! for is the one that runs.
//!
//! **By arrival**, for work of one owner: all of a job before any of the next, and micro-batches as full as they get. The
//! one that takes the last sequences of a job is filled from the next job. Where shorter sequences are padded to the longest
//! it is not: jobs come longest first, so that the last ones of one would be padded to the first one of another.
//!
//! Jobs that want different things of the model (*kinds*) do not share a micro-batch.

use std::cmp::Reverse;
use std::ops::Range;

use defrost_model::planning::Filling;
use defrost_model::{Cost, Measure};

/// What takes at most this part of a micro-batch is small: eight such jobs fill it.
const SMALL: usize = 8;

/// Units of a clock in a token: fine enough for shares among thousands of jobs.
const UNITS: u64 = 1 << 16;

/// Which job's sequences run next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Jobs take turns: each has its share of the model, and a small one never waits for a large one.
    Fair,
    /// Jobs run and end one after another, as they came.
    Arrival,
}

/// A part of a job in a micro-batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The number of the job.
    pub(crate) job: u64,
    /// The range of the job's sequences.
    pub(crate) sequences: Range<usize>,
}

/// Jobs with sequences that have not run.
#[derive(Debug)]
pub(crate) struct Schedule {
    order: Order,
    budget: usize,
    /// The jobs in the order in which they were pushed.
    jobs: Vec<Job>,
    /// The common clock.
    now: u64,
    /// The job whose turn it was in the last micro-batch, where newcomers left it no room.
    kept_out: Option<u64>,
}

#[derive(Debug)]
struct Job {
    id: u64,
    kind: u64,
    costs: Vec<Cost>,
    next: usize,
    clock: u64,
}

impl Schedule {
    /// Micro-batches of at most `budget` tokens, or of one sequence that has more.
    pub(crate) fn new(order: Order, budget: usize) -> Self {
        Self { order, budget, jobs: Vec::new(), now: 0, kept_out: None }
    }

    /// Adds a job by a number of the caller's, ascending with arrival, with what each of its sequences costs; one without
    /// sequences never comes up.
    pub(crate) fn push(&mut self, id: u64, kind: u64, costs: impl IntoIterator<Item = Cost>) {
        let costs: Vec<Cost> = costs.into_iter().collect();
        if !costs.is_empty() {
            self.jobs.push(Job { id, kind, costs, next: 0, clock: self.now });
        }
    }

    /// Forgets what is left of a job.
    pub(crate) fn remove(&mut self, id: u64) {
        self.jobs.retain(|job| job.id != id);
    }

    /// Whether nothing is left to run.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The next micro-batch, as full as `measure` says: one turn of each job that takes part. Empty if nothing is left.
    pub(crate) fn next_batch(&mut self, measure: Measure) -> Vec<Turn> {
        let turns = match self.order {
            Order::Fair => self.fair(measure),
            Order::Arrival => self.by_arrival(measure),
        };
        let turns = turns.into_iter();
        let turns =
            turns.map(|(at, sequences)| Turn { job: self.jobs[at].id, sequences }).collect();
        self.jobs.retain(|job| job.next < job.costs.len());
        turns
    }

    /// The next turns by arrival: the places of jobs, and which of their sequences.
    fn by_arrival(&mut self, measure: Measure) -> Vec<(usize, Range<usize>)> {
        let mut order: Vec<usize> = (0..self.jobs.len()).collect();
        // A job that has another round was pushed again, behind those that came after it.
        order.sort_unstable_by_key(|&at| self.jobs[at].id);
        let mut filling = Filling::new(measure, self.budget);
        let mut turns: Vec<(usize, Range<usize>)> = Vec::new();
        for at in order {
            if let Some(&(before, _)) = turns.last()
                && (measure != Measure::Tokens || self.jobs[before].kind != self.jobs[at].kind)
            {
                break;
            }
            let Job { costs, next, .. } = &mut self.jobs[at];
            let first = *next;
            while let Some(&Cost { alone, beside }) = costs.get(*next)
                && filling.take(if *next == first { alone } else { beside })
            {
                *next += 1;
            }
            if *next > first {
                turns.push((at, first..*next));
            }
            if *next < costs.len() {
                break;
            }
        }
        turns
    }

    /// The next turns by fair queueing: the places of jobs, and which of their sequences.
    fn fair(&mut self, measure: Measure) -> Vec<(usize, Range<usize>)> {
        let mut turns: Vec<(usize, Range<usize>)> = Vec::new();
        let room = if self.jobs.len() > 1 { self.budget.div_ceil(2) } else { self.budget };
        let mut filling = Filling::new(measure, room);
        let mut kind = None;
        let left = self.jobs.len().max(1) as u64;
        let mut full = vec![false; self.jobs.len()];
        let Some(next) = self.behind() else { return turns };
        let kept_out = self.kept_out.take();
        let kept_out = kept_out.and_then(|id| self.jobs.iter().position(|job| job.id == id));
        let mut newcomers = self.newcomers(room, self.jobs[kept_out.unwrap_or(next)].kind);
        newcomers.retain(|&at| Some(at) != kept_out);
        let mut first = kept_out.into_iter().chain(newcomers.iter().copied());
        loop {
            let waiting = self.jobs.iter().enumerate().filter(|(at, job)| {
                !full[*at] && job.next < job.costs.len() && kind.is_none_or(|kind| kind == job.kind)
            });
            // Of equals the one that came last: it has had nothing yet.
            let behind = waiting.min_by_key(|&(at, job)| (job.clock, Reverse(at)));
            let Some(at) = first.next().or_else(|| behind.map(|(at, _)| at)) else {
                break;
            };
            let job = &mut self.jobs[at];
            let turn = turns.iter_mut().find(|(of, _)| *of == at);
            let Cost { alone, beside } = job.costs[job.next];
            let cost = if turn.is_some() { beside } else { alone };
            if !filling.take(cost) {
                // Its clock stays, so that it comes first next time.
                full[at] = true;
                continue;
            }
            match turn {
                Some((_, sequences)) => sequences.end += 1,
                None => turns.push((at, job.next..job.next + 1)),
            }
            kind = Some(job.kind);
            job.next += 1;
            job.clock += cost as u64 * UNITS;
            self.now += cost as u64 * UNITS / left;
        }
        // Never twice in a row, so that newcomers wait for one micro-batch at most.
        if kept_out.is_none() && !newcomers.is_empty() && turns.iter().all(|(at, _)| *at != next) {
            self.kept_out = Some(self.jobs[next].id);
        }
        turns
    }

    /// The job whose turn it is: of those whose clock is most behind, the one that came last.
    fn behind(&self) -> Option<usize> {
        let jobs = self.jobs.iter().enumerate();
        jobs.min_by_key(|&(at, job)| (job.clock, Reverse(at))).map(|(at, _)| at)
    }

    /// Jobs of this kind that have had nothing and begin with little: they go first, in order of arrival, until they have
    /// half of the room. The clocks of many large jobs may be behind that of a new one by more than a micro-batch; what is
    /// as small as this delays them by less than they delay each other.
    fn newcomers(&self, room: usize, kind: u64) -> Vec<usize> {
        let mut left = room / 2;
        let jobs = self.jobs.iter().enumerate();
        let new = jobs.filter(|(_, job)| job.next == 0 && job.kind == kind);
        new.filter(|(_, job)| {
            let cost = job.costs[0].alone;
            let goes = cost <= room / SMALL && cost <= left;
            left -= if goes { cost } else { 0 };
            goes
        })
        .map(|(at, _)| at)
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a small job waits for is the micro-batch that runs, so that is half as long where jobs share the model.
    #[test]
    fn micro_batches_of_several_jobs_are_half_as_long() {
        for (jobs, expected) in [(1, 100), (2, 50), (3, 50)] {
            let mut schedule = Schedule::new(Order::Fair, 100);
            (0..jobs).for_each(|job| schedule.push(job, 0, same(10, 100)));
            let turns = schedule.next_batch(Measure::Tokens);
            let count: usize = turns.iter().map(|turn| turn.sequences.len()).sum();
            assert_eq!(10 * count, expected, "{jobs} jobs");
        }
    }

    fn place(job: u64) -> usize {
        usize::try_from(job).unwrap()
    }

    fn same(cost: usize, count: usize) -> Vec<Cost> {
        vec![Cost { alone: cost, beside: cost }; count]
    }

    proptest! {
        #[test]
        fn every_sequence_runs_once_in_order_and_fits(
            jobs in prop::collection::vec(
                (0u64..2, prop::collection::vec((1usize..300, 0usize..100), 0..20)), 0..8),
            budget in 1usize..500,
            order in prop::sample::select(vec![Order::Fair, Order::Arrival]),
        ) {
            let mut schedule = Schedule::new(order, budget);
            let mut done = vec![0; jobs.len()];
            let mut rest = jobs.iter().enumerate();
            let mut costs_of: Vec<Vec<Cost>> = Vec::new();
            loop {
                // Some arrive between micro-batches.
                for (id, (kind, costs)) in rest.by_ref().take(2) {
                    let costs: Vec<Cost> = costs
                        .iter()
                        .map(|&(alone, saved)| Cost { alone, beside: alone - saved.min(alone - 1) })
                        .collect();
                    schedule.push(id as u64, *kind, costs.iter().copied());
                    costs_of.push(costs);
                }
                let turns = schedule.next_batch(Measure::Tokens);
                if turns.is_empty() {
                    prop_assert!(schedule.is_empty());
                    if costs_of.len() == jobs.len() { break; }
                    continue;
                }
                let (mut total, mut count) = (0, 0);
                for Turn { job, sequences } in &turns {
                    let at = place(*job);
                    prop_assert_eq!(sequences.start, done[at]);
                    prop_assert!(!sequences.is_empty());
                    done[at] = sequences.end;
                    count += sequences.len();
                    let costs = &costs_of[at][sequences.clone()];
                    total += costs[0].alone + costs[1..].iter().map(|cost| cost.beside).sum::<usize>();
                    prop_assert_eq!(jobs[at].0, jobs[place(turns[0].job)].0, "one kind");
                }
                prop_assert!(total <= budget || count == 1);
            }
            let expected: Vec<usize> = jobs.iter().map(|(_, costs)| costs.len()).collect();
            prop_assert_eq!(done, expected);
        }

        /// However much large jobs have left, a small one that arrives runs in the next micro-batch.
        #[test]
        fn a_small_job_never_waits_for_a_large_one(
            large in prop::collection::vec(1usize..200, 1..10),
            before in 0usize..50,
            small in 1usize..50,
        ) {
            let mut schedule = Schedule::new(Order::Fair, 2048);
            for (id, &cost) in large.iter().enumerate() {
                schedule.push(id as u64, 0, same(cost, 10_000));
            }
            for _ in 0..before {
                schedule.next_batch(Measure::Tokens);
            }
            schedule.push(99, 0, same(small, 1));
            prop_assert!(schedule.next_batch(Measure::Tokens).iter().any(|turn| turn.job == 99));
        }
    }

    /// Found by the property: nine large jobs whose clocks were behind by more than a micro-batch together.
    #[test]
    fn many_large_jobs_do_not_make_a_small_one_wait() {
        let mut schedule = Schedule::new(Order::Fair, 2048);
        for (id, cost) in [177, 103, 186, 106, 120, 120, 14, 65, 185].into_iter().enumerate() {
            schedule.push(id as u64, 0, same(cost, 10_000));
        }
        for _ in 0..33 {
            schedule.next_batch(Measure::Tokens);
        }
        schedule.push(99, 0, same(28, 1));
        assert!(schedule.next_batch(Measure::Tokens).iter().any(|turn| turn.job == 99));
    }

    /// Tiny jobs that come without end go first, and a large one goes on beside them.
    #[test]
    fn newcomers_leave_the_others_room() {
        let mut schedule = Schedule::new(Order::Fair, 100);
        schedule.push(0, 0, same(10, 1000));
        let mut run = 0;
        for round in 1..=100 {
            for id in 0..4 {
                schedule.push(100 * round + id, 0, same(5, 1));
            }
            let turns = schedule.next_batch(Measure::Tokens);
            run += turns.iter().filter(|turn| turn.job == 0).count();
        }
        assert!(run >= 90, "{run} turns beside 400 tiny jobs");
    }

    /// Small jobs without end leave a large one its share.
    #[test]
    fn a_large_job_goes_on_beside_small_ones() {
        let mut schedule = Schedule::new(Order::Fair, 100);
        schedule.push(0, 0, same(10, 1000));
        let mut run = 0;
        for id in 1..=200 {
            schedule.push(2 * id, 0, same(60, 1));
            schedule.push(2 * id + 1, 0, same(60, 1));
            let turns = schedule.next_batch(Measure::Tokens);
            run += turns
                .iter()
                .filter(|turn| turn.job == 0)
                .map(|turn| turn.sequences.len())
                .sum::<usize>();
        }
        // Two jobs come a round and one leaves, so that its share of 50 tokens a round is one among ever more.
        assert!(run >= 10, "{run} sequences ran beside 400 small jobs");
    }

    /// By arrival, jobs that are there together run as one job of all their sequences would, but for beginnings, which no
    /// two jobs share; where shorter sequences are padded, each runs as it would alone.
    #[test]
    fn by_arrival_a_micro_batch_is_filled_from_the_next_job() {
        let batches = |jobs: &[(u64, Vec<Cost>)], measure| {
            let mut schedule = Schedule::new(Order::Arrival, 10);
            for (id, (kind, costs)) in jobs.iter().enumerate() {
                schedule.push(id as u64, *kind, costs.iter().copied());
            }
            let mut batches = Vec::new();
            while !schedule.is_empty() {
                let turns = schedule.next_batch(measure).into_iter();
                batches.push(turns.map(|turn| (turn.job, turn.sequences)).collect::<Vec<_>>());
            }
            batches
        };
        let sharing = Cost { alone: 6, beside: 2 };
        let jobs =
            [(0, same(4, 3)), (0, same(4, 1)), (0, vec![]), (0, vec![sharing; 3]), (1, same(1, 2))];
        assert_eq!(
            batches(&jobs, Measure::Tokens),
            [vec![(0, 0..2)], vec![(0, 2..3), (1, 0..1)], vec![(3, 0..3)], vec![(4, 0..2)]]
        );
        assert_eq!(
            batches(&jobs, Measure::Rectangle)[..3],
            [vec![(0, 0..2)], vec![(0, 2..3)], vec![(1, 0..1)]]
        );
    }

    /// Found by a property of the executor: a text of more than half of a shared micro-batch beside short ones without end.
    #[test]
    fn newcomers_do_not_keep_a_long_text_out_for_good() {
        for measure in [Measure::Tokens, Measure::Rectangle, Measure::One] {
            let mut schedule = Schedule::new(Order::Fair, 100);
            schedule.push(0, 0, same(48, 3));
            let mut run = 0;
            for id in 1..=30 {
                schedule.push(id, 0, same(5, 1));
                let turns = schedule.next_batch(measure);
                run += turns.iter().filter(|turn| turn.job == 0).count();
            }
            assert!(run >= 2, "{run} sequences ran, {measure:?}");
        }
    }

    #[test]
    fn by_arrival_a_job_goes_on_before_those_that_came_after_it() {
        let mut schedule = Schedule::new(Order::Arrival, 4);
        for id in [1, 2] {
            schedule.push(id, 0, same(4, 1));
        }
        schedule.next_batch(Measure::Tokens);
        schedule.push(1, 0, same(4, 1));
        assert_eq!(schedule.next_batch(Measure::Tokens), [Turn { job: 1, sequences: 0..1 }]);
    }

    #[test]
    fn a_removed_job_is_gone() {
        let mut schedule = Schedule::new(Order::Fair, 10);
        schedule.push(1, 0, same(4, 5));
        schedule.push(2, 0, same(4, 1));
        schedule.remove(1);
        assert_eq!(schedule.next_batch(Measure::Tokens), [Turn { job: 2, sequences: 0..1 }]);
        assert!(schedule.is_empty());
    }
}
