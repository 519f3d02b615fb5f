//! Whatever jobs there are, whenever they come and are given up, and whichever passes fail: every sequence of a job that
//! stays runs once a round, in order, and every job comes to its end.

use std::cell::Cell;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// A job as it was drawn.
#[derive(Debug, Clone)]
struct Draw {
    /// The lengths of the sequences of each round, in tokens.
    rounds: Vec<Vec<usize>>,
    hidden: bool,
    /// The step before which it comes.
    comes: usize,
    /// The step before which it is given up.
    leaves: usize,
    /// The number of answers' rounds after which it refuses them.
    refuses: usize,
}

fn draw() -> impl Strategy<Value = Draw> {
    let round = prop::collection::vec(1usize..30, 0..6);
    let leaves = prop_oneof![3 => Just(usize::MAX), 1 => 0usize..30];
    let refuses = prop_oneof![5 => Just(usize::MAX), 1 => 0usize..3];
    (prop::collection::vec(round, 1..4), any::<bool>(), 0usize..20, leaves, refuses).prop_map(
        |(rounds, hidden, comes, leaves, refuses)| Draw { rounds, hidden, comes, leaves, refuses },
    )
}

/// A job of the tests. Its sequences say whose they are: `[job, round, place, ...]`, so that answers can be told apart.
#[derive(Debug)]
struct Toy {
    number: usize,
    draw: Draw,
    round: usize,
    sequences: Vec<Tokens>,
    shares: Vec<Share>,
    step: Rc<Cell<usize>>,
    starts: usize,
}

impl Toy {
    fn new(number: usize, draw: Draw, step: Rc<Cell<usize>>) -> Self {
        let (sequences, shares) = (Vec::new(), Vec::new());
        let mut toy = Self { number, draw, round: 0, sequences, shares, step, starts: 0 };
        toy.begin_round();
        toy
    }

    fn begin_round(&mut self) {
        let lengths = self.draw.rounds[self.round].iter().enumerate();
        let sequence = |(place, &length): (usize, &usize)| {
            let name =
                [self.number, self.round, place, length].map(|id| u32::try_from(id).unwrap());
            Tokens { ids: name.into_iter().chain(vec![0; length]).collect(), types: Vec::new() }
        };
        self.sequences = lengths.map(sequence).collect();
        let joins = |at: usize| Share { stored: 0, prefix: 1, joins: at > 0 };
        self.shares = (0..self.sequences.len()).map(joins).collect();
    }
}

impl Rounds for Toy {
    fn sequences(&self) -> &[Tokens] {
        &self.sequences
    }

    fn shares(&self) -> &[Share] {
        &self.shares
    }

    fn wanted(&self) -> Wanted {
        Wanted { hidden: self.draw.hidden, ..Wanted::default() }
    }

    fn is_cancelled(&self) -> bool {
        self.step.get() >= self.draw.leaves
    }

    fn start(&mut self) {
        self.starts += 1;
    }

    fn advance(&mut self, answers: Vec<Answers>) -> Result<Next, Error> {
        let answered: Vec<Vec<f32>> = answers.into_iter().map(|answers| answers.pooled).collect();
        let own: Vec<Vec<f32>> = self.sequences.iter().map(name).collect();
        assert_eq!(answered, own, "the answers to its own sequences, in their order");
        if self.round >= self.draw.refuses {
            return Err(Error::Model("refused".into()));
        }
        self.round += 1;
        if self.round == self.draw.rounds.len() {
            return Ok(Next::End);
        }
        self.begin_round();
        Ok(Next::Round)
    }
}

/// What the model answers to a sequence: whose it is.
fn name(tokens: &Tokens) -> Vec<f32> {
    tokens.ids[..4].iter().map(|&id| id as f32).collect()
}

/// The job and the round and place in it that a sequence says.
fn place(tokens: &Tokens) -> (usize, usize, usize) {
    (tokens.ids[0] as usize, tokens.ids[1] as usize, tokens.ids[2] as usize)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Cancelled,
    Refused,
    Failed,
    Ended,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn every_sequence_of_a_job_that_stays_runs_once_in_order(
        draws in prop::collection::vec(draw(), 0..10),
        order in prop::sample::select(vec![Order::Fair, Order::Arrival]),
        measure in prop::sample::select(vec![Measure::Tokens, Measure::Rectangle, Measure::One]),
        budget in 1usize..80,
        broken in prop::collection::hash_set(0usize..30, 0..4),
    ) {
        let step = Rc::new(Cell::new(0));
        let mut executor: Executor<Toy> = Executor::new(order, budget);
        let mut fates = vec![Fate::Stays; draws.len()];
        // The next sequence of each job that has not run: its round and place.
        let mut next = vec![(0, 0); draws.len()];
        let mut ended_in_order = Vec::new();
        let most = draws.iter().flat_map(|draw| &draw.rounds).map(|round| round.len() + 1).sum::<usize>();
        // No step is idle: each runs a sequence, or ends a job, or one comes later.
        for at in 0..=most + 20 + draws.len() {
            step.set(at);
            let before: Vec<usize> = executor.jobs().map(|job| job.number).collect();
            let dropped = executor.drop_cancelled();
            let given_up = before.iter().filter(|&&number| draws[number].leaves <= at);
            for &number in given_up.clone() {
                fates[number] = Fate::Cancelled;
            }
            prop_assert_eq!(dropped, given_up.count());
            for (number, draw) in draws.iter().enumerate().filter(|(_, draw)| draw.comes == at) {
                executor.push(Toy::new(number, draw.clone(), Rc::clone(&step)));
            }
            let mut ran = Vec::new();
            let result = executor.step(measure, |sequences, wanted| {
                let mut filled = 0;
                for (at, Planned { tokens, share }) in sequences.iter().enumerate() {
                    let (job, round, place) = place(tokens);
                    assert_eq!((round, place), next[job], "in order, once");
                    let same_as_before = at > 0 && self::place(sequences[at - 1].tokens).0 == job;
                    assert_eq!(share.joins, same_as_before && place > 0);
                    next[job].1 += 1;
                    assert_eq!(draws[job].hidden, wanted.hidden);
                    assert_eq!(fates[job], Fate::Stays);
                    filled += tokens.ids.len() - usize::from(share.joins);
                    ran.push(job);
                }
                if measure == Measure::Tokens {
                    assert!(filled <= budget || sequences.len() == 1);
                }
                if broken.contains(&at) {
                    return Err(Error::Model("broken".into()));
                }
                let answers = |one: &Planned<'_>| Answers { pooled: name(one.tokens), ..Answers::default() };
                Ok(sequences.iter().map(answers).collect())
            });
            ran.dedup();
            match result {
                Ok(ended) => {
                    for Ended { job, result } in ended {
                        let fate = if result.is_ok() { Fate::Ended } else { Fate::Refused };
                        fates[job.number] = fate;
                        ended_in_order.push(job.number);
                        let has_run = job.draw.rounds[..=job.round.min(job.draw.rounds.len() - 1)]
                            .iter().any(|round| !round.is_empty());
                        prop_assert_eq!(job.starts, usize::from(has_run));
                    }
                }
                Err(Failed { jobs, error }) => {
                    prop_assert_eq!(error.to_string(), "broken");
                    let failed: Vec<usize> = jobs.iter().map(|job| job.number).collect();
                    prop_assert_eq!(&failed, &ran, "those of the micro-batch and no other");
                    for number in failed {
                        fates[number] = Fate::Failed;
                    }
                }
            }
            // A round whose sequences have all run is over.
            for job in executor.jobs() {
                if next[job.number].0 != job.round {
                    next[job.number] = (job.round, 0);
                }
            }
        }
        prop_assert!(executor.is_empty());
        for (number, (draw, fate)) in draws.iter().zip(&fates).enumerate() {
            match fate {
                Fate::Stays => prop_assert!(false, "job {number} never ended"),
                Fate::Refused => prop_assert!(draw.refuses < draw.rounds.len()),
                Fate::Ended => prop_assert!(draw.refuses >= draw.rounds.len()),
                Fate::Cancelled => prop_assert!(draw.leaves < usize::MAX),
                Fate::Failed => prop_assert!(!broken.is_empty()),
            }
        }
        if order == Order::Arrival {
            let arrival = |&number: &usize| (draws[number].comes, number);
            prop_assert!(ended_in_order.iter().map(arrival).is_sorted());
        }
    }

    /// Among rivals without end, whatever each of them asks, a job ends before the model has run twice its tokens, and a
    /// micro-batch, for each of them.
    #[test]
    fn a_job_among_rivals_without_end_gets_its_share(
        own in prop::collection::vec(1usize..100, 1..20),
        rivals in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(1usize..100, 1..20), 1..4), 1..8),
        before in 0usize..30,
        budget in 100usize..400,
    ) {
        let stays = |rounds: &[Vec<usize>]| Draw {
            rounds: rounds.to_vec(), hidden: false, comes: 0, leaves: usize::MAX, refuses: usize::MAX,
        };
        let step = Rc::new(Cell::new(0));
        let mut executor = Executor::new(Order::Fair, budget);
        for (number, rounds) in rivals.iter().enumerate() {
            executor.push(Toy::new(number, stays(rounds), Rc::clone(&step)));
        }
        let mut served = 0;
        let mut run = |executor: &mut Executor<Toy>| {
            let answered = executor.step(Measure::Tokens, |sequences, _| {
                let cost = |one: &Planned<'_>| one.tokens.ids.len() - usize::from(one.share.joins);
                served += sequences.iter().map(cost).sum::<usize>();
                let answers = |one: &Planned<'_>| Answers { pooled: name(one.tokens), ..Answers::default() };
                Ok(sequences.iter().map(answers).collect())
            });
            let mut is_done = false;
            for Ended { job, .. } in answered.expect("no pass fails") {
                match rivals.get(job.number) {
                    Some(rounds) => executor.push(Toy::new(job.number, stays(rounds), Rc::clone(&step))),
                    None => is_done = true,
                }
            }
            (is_done, served)
        };
        let mut then = 0;
        for _ in 0..before {
            (_, then) = run(&mut executor);
        }
        let victim = Toy::new(rivals.len(), stays(std::slice::from_ref(&own)), Rc::clone(&step));
        let cost: usize = costs(victim.sequences(), victim.shares()).map(|cost| cost.alone).sum();
        executor.push(victim);
        let most = 2 * (cost + budget) * (rivals.len() + 1);
        loop {
            let (is_done, now) = run(&mut executor);
            if is_done {
                break;
            }
            prop_assert!(now - then <= most, "{} tokens were not enough for {cost}", now - then);
        }
    }
}

#[test]
fn a_pass_that_answers_too_few_sequences_fails() {
    let draw = Draw {
        rounds: vec![vec![3, 4]],
        hidden: false,
        comes: 0,
        leaves: usize::MAX,
        refuses: usize::MAX,
    };
    let mut executor = Executor::new(Order::Fair, 100);
    executor.push(Toy::new(0, draw, Rc::default()));
    let Failed { jobs, error } =
        executor.step(Measure::Tokens, |_, _| Ok(vec![Answers::default()])).unwrap_err();
    assert_eq!(jobs.len(), 1);
    assert_eq!(error.to_string(), "the model gave 1 answers to 2 sequences of a pass");
    assert!(executor.is_empty());
}
