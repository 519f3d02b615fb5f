//! Random requests that come, are given up, fail and run out of memory, against each of them alone.

mod alone;
mod toy;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use defrost_model::{Constraint, TokenMask};
use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::generate::job::{Finish, Produced, ProducedToken};
use crate::generate::logprobs::logprobs;
use crate::{GenerationTask, Sampling};
use alone::alone;
use toy::Toy;

const VOCAB: usize = 24;
const END: u32 = 22;

/// Letters, parts of characters, words and two special tokens.
fn pieces() -> Pieces {
    let words = [
        "a", "b", "c", "ab", "ba", "Ã", "©", "Ã©", "ä", "¸", "\u{143}", "Ġ", "Ġa", "bc", "", "x",
        "y", "z", "abc", "Ġb", "Ċ", "d",
    ];
    let vocab: Map<String, serde_json::Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let file = json!({
        "added_tokens": [
            {"id": END, "content": "<|im_end|>", "special": true},
            {"id": 23, "content": "<s>", "special": true},
        ],
        "decoder": {"type": "ByteLevel"},
        "model": {"vocab": vocab},
    });
    Pieces::open(Pieces::compile(file.to_string().as_bytes()).unwrap().into()).unwrap()
}

fn common(toy: &Toy) -> Common {
    let context = toy.context.min(toy.room().total);
    let limits = GenerationLimits { vocab: toy.vocab, context };
    Common { pieces: pieces(), ends: vec![END], limits }
}

/// A constraint with all that one can have: free places, places for some tokens, forced tokens, places to end at, an end.
#[derive(Debug, Clone)]
struct Rhythm {
    accepted: usize,
    forced: VecDeque<u32>,
    most: usize,
}

impl Rhythm {
    fn new(most: usize) -> Self {
        Self { accepted: 0, forced: VecDeque::from([3, 1]), most }
    }
}

impl Constraint for Rhythm {
    fn mask(&mut self) -> Result<Option<TokenMask>, defrost_model::Error> {
        let mut mask = TokenMask::none(VOCAB);
        if let Some(&id) = self.forced.front() {
            mask.allow(id);
        } else if self.accepted % 7 < 3 {
            return Ok(None);
        } else {
            (0..22)
                .filter(|id| *id as usize % 3 == self.accepted % 3)
                .for_each(|id| mask.allow(id));
        }
        Ok(Some(mask))
    }

    fn accept(&mut self, id: u32) -> Result<(), defrost_model::Error> {
        let may = self.mask()?.is_none_or(|mask| mask.allows(id));
        assert!(may && !self.is_done(), "{id} after {self:?}");
        self.accepted += 1;
        self.forced.pop_front();
        if self.forced.is_empty() && id.is_multiple_of(5) {
            self.forced.extend([13, 4, 11]);
        }
        Ok(())
    }

    fn forced(&mut self) -> Vec<u32> {
        self.forced.iter().copied().collect()
    }

    fn may_end(&mut self) -> bool {
        self.forced.is_empty() && self.accepted.is_multiple_of(4)
    }

    fn is_done(&mut self) -> bool {
        self.forced.is_empty() && self.accepted >= self.most
    }
}

/// What is told of a completion.
#[derive(Debug, Clone, PartialEq, Default)]
struct Said {
    echo: Option<Produced>,
    text: String,
    tokens: Vec<ProducedToken>,
    finish: Option<Finish>,
    /// Tokens of the completion, those that nobody sees among them; 0 where only the sum is known.
    computed: usize,
}

#[derive(Debug)]
struct Job {
    task: GenerationTask,
    constraints: Vec<Rhythm>,
    is_cancelled: Rc<Cell<bool>>,
    is_started: bool,
    scored: Option<Vec<ProducedToken>>,
    said: BTreeMap<usize, Said>,
}

impl Job {
    fn new(Request { task, rhythm, .. }: &Request) -> Self {
        Self {
            task: task.clone(),
            constraints: rhythm.iter().flat_map(|&most| vec![Rhythm::new(most); task.n]).collect(),
            is_cancelled: Rc::default(),
            is_started: false,
            scored: None,
            said: BTreeMap::new(),
        }
    }
}

impl GenerationJob for Job {
    fn task(&self) -> &GenerationTask {
        &self.task
    }

    fn constraint(&mut self, choice: usize) -> Option<&mut dyn Constraint> {
        self.constraints.get_mut(choice).map(|it| it as &mut dyn Constraint)
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.get()
    }

    fn started(&mut self, cached: usize) {
        assert!(!self.is_started && cached < self.task.prompt.len());
        self.is_started = true;
    }

    fn prompt_scored(&mut self, tokens: Vec<ProducedToken>) {
        assert!(self.said.is_empty() && self.scored.is_none());
        self.scored = Some(tokens);
    }

    fn produced(&mut self, choice: usize, produced: Produced) {
        let said = self.said.entry(choice).or_default();
        assert_eq!(said.finish, None);
        if produced.is_echo {
            assert!(said.echo.is_none() && said.text.is_empty() && said.tokens.is_empty());
            said.echo = Some(produced);
        } else {
            assert!(!produced.text.is_empty() || !produced.tokens.is_empty());
            said.text += &produced.text;
            said.tokens.extend(produced.tokens);
        }
    }

    fn finished(&mut self, choice: usize, finish: &Finish) {
        let said = self.said.entry(choice).or_default();
        assert_eq!(said.finish.replace(finish.clone()), None);
    }
}

/// A request of the adversary.
#[derive(Debug, Clone)]
struct Request {
    task: GenerationTask,
    rhythm: Option<usize>,
    /// The step before which it comes.
    comes: usize,
    /// How many steps later it is given up.
    leaves: Option<usize>,
}

fn a_sampling() -> impl Strategy<Value = Sampling> {
    let penalties = (Just(1.0f32), Just(0.0f32)).boxed();
    let penalties = prop_oneof![3 => penalties, 1 => (1.0f32..1.5, -1.0f32..1.0).boxed()];
    let temperature = prop_oneof![Just(0.0f32), 0.3f32..1.5];
    (temperature, 0usize..6, prop_oneof![Just(1.0f32), 0.5f32..1.0], penalties, any::<u64>())
        .prop_map(|(temperature, top_k, top_p, (repetition_penalty, frequency_penalty), seed)| {
            Sampling {
                temperature,
                top_k,
                top_p,
                repetition_penalty,
                frequency_penalty,
                seed,
                ..Sampling::GREEDY
            }
        })
}

fn a_task() -> impl Strategy<Value = GenerationTask> {
    // Prompts that begin alike.
    let prompt = (0u32..3, 0usize..40, prop::collection::vec(0u32..24, 1..6)).prop_map(
        |(kind, shared, own)| {
            (0..).map(|at: u32| (at * kind + at / 5) % 22).take(shared).chain(own).collect()
        },
    );
    let ends = (
        prop::option::weighted(0.8, 0usize..40),
        prop_oneof![3 => Just(0usize), 1 => 0usize..4],
        prop::collection::vec("[abcé ]{1,3}|<s>|<\\|im_end\\|>", 0..3),
        prop::collection::vec(0u32..24, 0..2),
    );
    let told = (
        prop::option::weighted(0.3, 0usize..4),
        prop::option::weighted(0.2, 0usize..3),
        prop::bool::weighted(0.2),
    );
    let flags = (any::<bool>(), prop::bool::weighted(0.3), any::<bool>(), 1usize..4);
    (prompt, ends, told, flags, a_sampling()).prop_map(
        |(prompt, ends, told, (include_stop, ignore_eos, skip_special, n), sampling)| {
            let (max_tokens, min_tokens, stop, stop_ids) = ends;
            let (logprobs, prompt_logprobs, echo) = told;
            GenerationTask {
                max_tokens,
                min_tokens,
                sampling,
                stop,
                stop_ids,
                include_stop,
                ignore_eos,
                skip_special,
                n,
                logprobs,
                prompt_logprobs,
                echo,
                ..GenerationTask::new(prompt)
            }
        },
    )
}

fn a_request() -> impl Strategy<Value = Request> {
    let rhythm = prop::option::weighted(0.3, 1usize..20);
    let leaves = prop::option::weighted(0.2, 0usize..30);
    (a_task(), rhythm, 0usize..40, leaves).prop_map(|(task, rhythm, comes, leaves)| Request {
        task,
        rhythm,
        comes,
        leaves,
    })
}

fn some_options() -> impl Strategy<Value = SchedulerOptions> {
    (1usize..6, 1usize..40, 1usize..20, 0usize..9).prop_map(
        |(slots, step_tokens, beside, guesses)| SchedulerOptions {
            slots,
            step_tokens,
            beside,
            guesses,
        },
    )
}

/// Long after everything must have ended: each step brings the oldest branch at least one token on.
const MOST_STEPS: usize = 20_000;

/// Runs the requests, each when it comes; those that ended, in the order in which they came.
fn run(
    toy: &Toy,
    options: SchedulerOptions,
    requests: &[Request],
) -> Vec<Option<(Job, Result<Usage, Error>)>> {
    let mut scheduler = Scheduler::new(common(toy), options);
    let mut handles: Vec<Option<Rc<Cell<bool>>>> = vec![None; requests.len()];
    let mut ended: Vec<Option<(Job, Result<Usage, Error>)>> =
        requests.iter().map(|_| None).collect();
    for step in 0..MOST_STEPS {
        for (request, handle) in requests.iter().zip(&mut handles) {
            if request.comes == step {
                let job = Job::new(request);
                *handle = Some(job.is_cancelled.clone());
                scheduler.push(job);
            }
            let leaves = request.leaves.is_some_and(|after| request.comes + after == step);
            if let Some(handle) = handle.as_ref().filter(|_| leaves) {
                handle.set(true);
            }
        }
        scheduler.drop_cancelled(toy);
        assert!(scheduler.jobs().all(|job| !job.is_cancelled()));
        let load = scheduler.load();
        assert!(load.running == toy.open_sequences() && load.running <= options.slots.max(1));
        for Generated { job, result } in scheduler.step(toy).unwrap() {
            let is_it = |handle: &Option<Rc<Cell<bool>>>| {
                handle.as_ref().is_some_and(|handle| Rc::ptr_eq(handle, &job.is_cancelled))
            };
            let at = handles.iter().position(is_it).unwrap();
            assert!(ended[at].replace((job, result)).is_none());
        }
        if scheduler.is_empty() && requests.iter().all(|request| request.comes <= step) {
            assert_eq!(toy.open_sequences(), 0);
            assert_eq!(toy.room().held, 0);
            return ended;
        }
    }
    panic!("not all requests end: {:?}", scheduler.load());
}

/// What the model says of a prompt.
fn scored(toy: &Toy, prompt: &[u32], most: usize) -> Vec<ProducedToken> {
    let of = |(at, &id): (usize, &u32)| ProducedToken {
        id,
        logprobs: (at > 0).then(|| logprobs(&toy.logits(&prompt[..at]), id, most, &pieces())),
    };
    prompt.iter().enumerate().map(of).collect()
}

fn check(toy: &Toy, request: &Request, job: &Job, result: &Result<Usage, Error>) {
    let Request { task, rhythm, .. } = request;
    let limit = match common(toy).limits.check(task) {
        Ok(limit) => limit,
        Err(expected) => {
            assert_eq!(result.as_ref().unwrap_err().to_string(), expected.to_string());
            return assert!(job.said.is_empty() && !job.is_started);
        }
    };
    let usage = result.as_ref().unwrap();
    let mut completion = 0;
    for choice in 0..task.n {
        let mut expected = alone(toy, task, limit, choice, rhythm.map(Rhythm::new));
        completion += std::mem::take(&mut expected.computed);
        if task.echo {
            let tokens = match task.logprobs {
                Some(most) => scored(toy, &task.prompt, most),
                None => {
                    task.prompt.iter().map(|&id| ProducedToken { id, logprobs: None }).collect()
                }
            };
            let text = pieces().text(&task.prompt, task.skip_special);
            expected.echo = Some(Produced { text, tokens, is_echo: true });
        }
        assert_eq!(job.said.get(&choice), Some(&expected), "{choice} of {task:?}");
    }
    assert_eq!(job.said.len(), task.n);
    let scores = task.prompt_logprobs.map(|most| scored(toy, &task.prompt, most));
    assert_eq!(job.scored, scores);
    assert_eq!((usage.prompt, usage.completion), (task.prompt.len(), completion));
    assert!(usage.accepted <= usage.guessed && usage.cached < usage.prompt);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_request_is_told_what_it_is_told_alone(
        requests in prop::collection::vec(a_request(), 1..8),
        options in some_options(),
        memory in prop_oneof![Just(2usize), Just(100)],
        context in 30usize..90,
        pages in 8usize..60,
    ) {
        let toy = Toy::new(VOCAB, context, memory, pages);
        let ended = run(&toy, options, &requests);
        for (request, ended) in requests.iter().zip(&ended) {
            match ended {
                Some((job, result)) => check(&toy, request, job, result),
                None => prop_assert!(request.leaves.is_some()),
            }
        }
    }
}

/// A request that comes at once and stays.
fn request(task: GenerationTask) -> Request {
    Request { task, rhythm: None, comes: 0, leaves: None }
}

fn long(prompt: Vec<u32>, tokens: usize) -> GenerationTask {
    GenerationTask { max_tokens: Some(tokens), ignore_eos: true, ..GenerationTask::new(prompt) }
}

const WIDE: SchedulerOptions =
    SchedulerOptions { slots: 8, step_tokens: 64, beside: 16, guesses: 8 };

#[test]
fn guesses_and_forced_tokens_save_steps() {
    // What depends on two tokens only comes to repeat itself.
    let repeating = request(long(vec![1, 2, 3], 200));
    let steps = |options, request: &Request| {
        let toy = Toy::new(VOCAB, 300, 2, 100);
        let ended = run(&toy, options, std::slice::from_ref(request)).remove(0).unwrap();
        check(&toy, request, &ended.0, &ended.1);
        (toy.steps(), ended.1.unwrap())
    };
    let (without, usage) = steps(SchedulerOptions { guesses: 0, ..WIDE }, &repeating);
    assert_eq!((without, usage.guessed), (200, 0));
    let (with, usage) = steps(WIDE, &repeating);
    assert!(with < 60 && usage.accepted > 120, "{with} steps, {usage:?}");
    let forced = Request { rhythm: Some(100), ..repeating };
    let (with, usage) = steps(SchedulerOptions { guesses: 0, ..WIDE }, &forced);
    assert_eq!(with + usage.forced, usage.completion);
    assert!(usage.forced > 10);
}

#[test]
fn a_step_that_fails_ends_the_requests_in_it_and_no_other() {
    let toy = Toy::new(VOCAB, 60, 100, 60).failing(3);
    let mut scheduler = Scheduler::new(common(&toy), SchedulerOptions { slots: 2, ..WIDE });
    for prompt in [vec![1], vec![2], vec![3]] {
        scheduler.push(Job::new(&request(long(prompt, 10))));
    }
    for _ in 0..3 {
        assert!(scheduler.step(&toy).unwrap().is_empty());
    }
    let failed = scheduler.step(&toy).unwrap_err();
    assert!(failed.error.is_out_of_memory());
    let prompts: Vec<&[u32]> = failed.jobs.iter().map(|job| &*job.task.prompt).collect();
    assert_eq!(prompts, [[1], [2]]);
    assert_eq!(toy.open_sequences(), 0);
    let mut ended = Vec::new();
    while !scheduler.is_empty() {
        ended.extend(scheduler.step(&toy).unwrap());
    }
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].result.as_ref().unwrap().completion, 10);
}

#[test]
fn where_no_token_can_come_that_request_ends() {
    let toy = Toy::new(VOCAB, 60, 100, 60);
    let nothing = (0..24).map(|id| (id, f32::NEG_INFINITY)).collect();
    let sampling = Sampling { logit_bias: nothing, ..Sampling::default() };
    let silent = GenerationTask { sampling, ..long(vec![1], 10) };
    let mut scheduler = Scheduler::new(common(&toy), WIDE);
    scheduler.push(Job::new(&request(silent)));
    scheduler.push(Job::new(&request(long(vec![2], 10))));
    let ended = scheduler.step(&toy).unwrap();
    let error = ended[0].result.as_ref().unwrap_err().to_string();
    assert!(
        error.contains("no token can follow after 1 tokens: all tokens are ruled out"),
        "{error}"
    );
    assert_eq!((ended.len(), toy.open_sequences()), (1, 1));
    assert_eq!(scheduler.close(&toy).len(), 1);
    assert!(scheduler.is_empty() && toy.open_sequences() == 0);
}

/// How many tokens each running request has been told after each step.
fn told(scheduler: &Scheduler<Job>) -> Vec<usize> {
    let tokens = |job: &Job| job.said.get(&0).map_or(0, |said| said.tokens.len());
    scheduler.jobs().map(tokens).collect()
}

#[test]
fn texts_go_on_in_every_step_while_prompts_are_computed() {
    let toy = Toy::new(VOCAB, 1000, 100, 1000);
    let mut scheduler = Scheduler::new(common(&toy), SchedulerOptions { guesses: 0, ..WIDE });
    // Without parts of characters, whose text has to wait for the rest.
    let parts = [5, 6, 8, 9, 10].map(|id| (id, f32::NEG_INFINITY)).to_vec();
    let sampling = Sampling { logit_bias: parts, ..Sampling::GREEDY };
    for prompt in 0..3 {
        let task = GenerationTask { sampling: sampling.clone(), ..long(vec![prompt], 200) };
        scheduler.push(Job::new(&request(task)));
    }
    scheduler.step(&toy).unwrap();
    let prompt = |len: u32, kind: u32| (0..len).map(|at| (at * kind + at / 7) % 22).collect();
    scheduler.push(Job::new(&request(long(prompt(600, 3), 5))));
    scheduler.push(Job::new(&request(long(prompt(60, 5), 5))));
    let mut first = [None; 2];
    for step in 2..100 {
        scheduler.step(&toy).unwrap();
        let told = told(&scheduler);
        if step < 90 {
            assert_eq!(told[..3], [step; 3]);
        }
        for (first, told) in first.iter_mut().zip(&told[3..]) {
            *first = first.or((*told > 0).then_some(step));
        }
    }
    // 8 of 16 tokens of a step are the short prompt's until it is done.
    let [long, short] = first.map(|step| step.expect("a first token"));
    assert!(short <= 2 + 60 / 8 && (600 / 16..60).contains(&long), "{long} {short}");
}

#[test]
fn what_was_computed_is_not_computed_again() {
    let toy = Toy::new(VOCAB, 200, 100, 100);
    let prompt: Vec<u32> = (0..50).map(|at| at % 22).collect();
    let mut requests = vec![request(long(prompt.clone(), 10)); 2];
    requests[1].comes = 20;
    let ended = run(&toy, WIDE, &requests);
    let cached = ended.iter().flatten().map(|(_, result)| result.as_ref().unwrap().cached);
    // Whole pages of 4 tokens.
    assert_eq!(cached.collect::<Vec<_>>(), [0, 48]);
    // Choices share the prompt, in memory too: 4 times 50 tokens would not fit.
    let toy = Toy::new(VOCAB, 100, 100, 25);
    let requests = [request(GenerationTask { n: 4, ..long(prompt, 8) })];
    let mut scheduler = Scheduler::new(common(&toy), WIDE);
    scheduler.push(Job::new(&requests[0]));
    let mut ended = Vec::new();
    while !scheduler.is_empty() {
        ended.extend(scheduler.step(&toy).unwrap());
    }
    check(&toy, &requests[0], &ended[0].job, &ended[0].result);
    assert_eq!((scheduler.load().preempted, toy.steps()), (0, 8));
}
