//! Many requests at once through the scheduler: what streams give together, and how long their next tokens wait beside a long
//! prompt; and a soak of mixed requests, many given up on the way.

use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::time::Instant;

use defrost_model::Decoder;
use defrost_tasks::{
    Finish, GenerationJob, GenerationTask, Generator, Produced, Sampling, Scheduler,
};
use serde_json::{Value, json};

use crate::{ids, memory};

/// Tokens of a stream's prompt.
const PROMPT: usize = 128;
/// Steps that are timed with nothing beside the streams.
const STEADY: usize = 48;

/// A request that counts its tokens and can be given up.
struct Job {
    task: GenerationTask,
    tokens: Rc<Cell<usize>>,
    is_gone: Rc<Cell<bool>>,
}

impl Job {
    fn new(task: GenerationTask) -> Self {
        Self { task, tokens: Rc::default(), is_gone: Rc::default() }
    }
}

impl GenerationJob for Job {
    fn task(&self) -> &GenerationTask {
        &self.task
    }

    fn is_cancelled(&self) -> bool {
        self.is_gone.get()
    }

    fn produced(&mut self, _: usize, produced: Produced) {
        self.tokens.set(self.tokens.get() + produced.tokens.len());
    }

    fn finished(&mut self, _: usize, _: &Finish) {}
}

fn task(prompt: Vec<u32>, tokens: usize) -> GenerationTask {
    GenerationTask { max_tokens: Some(tokens), ignore_eos: true, ..GenerationTask::new(prompt) }
}

/// Seconds of a step, and how many requests ended with it.
fn step(
    scheduler: &mut Scheduler<Job>,
    decoder: &dyn Decoder,
) -> Result<(f64, usize), Box<dyn Error>> {
    let begun = Instant::now();
    let ended = scheduler.step(decoder).map_err(|failed| failed.error)?;
    let seconds = begun.elapsed().as_secs_f64();
    let count = ended.len();
    for generated in ended {
        generated.result?;
    }
    Ok((seconds, count))
}

/// The value that so many of a hundred are not above.
fn percentile(times: &[f64], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get((sorted.len() * percent).div_ceil(100).saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// Times streams that all have their first token: each step is a token of each. Returns the steps' seconds without anything beside
/// them, then those while a prompt of `long` tokens is computed.
fn times(
    generator: &Generator,
    count: usize,
    long: Option<usize>,
) -> Result<[Vec<f64>; 2], Box<dyn Error>> {
    let (decoder, vocab) = (generator.decoder()?, generator.info().vocab);
    let mut scheduler = generator.scheduler();
    let mut streams = Vec::new();
    for at in 0..count {
        let prompt = ids(PROMPT, 100 + at, vocab);
        let job = Job::new(task(prompt, generator.info().context - PROMPT));
        streams.push((Rc::clone(&job.tokens), Rc::clone(&job.is_gone)));
        scheduler.push(job);
    }
    while streams.iter().any(|(tokens, _)| tokens.get() == 0) {
        step(&mut scheduler, decoder)?;
    }
    let mut steady = Vec::new();
    for _ in 0..STEADY {
        steady.push(step(&mut scheduler, decoder)?.0);
    }
    let mut beside = Vec::new();
    if let Some(long) = long {
        scheduler.push(Job::new(task(ids(long, 99, vocab), 1)));
        loop {
            let (seconds, ended) = step(&mut scheduler, decoder)?;
            beside.push(seconds);
            if ended > 0 {
                break;
            }
        }
    }
    for (_, is_gone) in &streams {
        is_gone.set(true);
    }
    scheduler.drop_cancelled(decoder);
    returned(decoder)?;
    Ok([steady, beside])
}

fn returned(decoder: &dyn Decoder) -> Result<(), Box<dyn Error>> {
    match decoder.room().held {
        0 => Ok(()),
        held => Err(format!("keys and values of {held} tokens are held, expected none").into()),
    }
}

/// Tokens of keys and values that [`speed`] needs.
pub(crate) fn room(count: usize, long: usize) -> usize {
    count * (PROMPT + 2 * STEADY + long / 2) + long
}

/// What one stream gives and what `count` give together; and the time from a token of a stream to its next, in general and while a
/// prompt of `long` tokens is computed.
pub(crate) fn speed(
    generator: &Generator,
    count: usize,
    long: usize,
) -> Result<Value, Box<dyn Error>> {
    let rate = |times: &[f64], count: usize| count as f64 / percentile(times, 50);
    let [one, _] = times(generator, 1, None)?;
    let [steady, beside] = times(generator, count, Some(long))?;
    let usual = percentile(&steady, 50);
    Ok(json!({
        "event": "streams", "streams": count, "one_per_s": rate(&one, 1), "together_per_s": rate(&steady, count),
        "times": rate(&steady, count) / rate(&one, 1),
        "prompt": long, "prompt_steps": beside.len(), "prompt_s": beside.iter().sum::<f64>(),
        "gap_p50_ms": 1e3 * usual, "gap_p99_ms": 1e3 * percentile(&steady, 99),
        "beside_p50_ms": 1e3 * percentile(&beside, 50), "beside_p99_ms": 1e3 * percentile(&beside, 99),
        "p99_over_p50": percentile(&beside, 99) / usual,
    }))
}

/// Numbers that look random (Steele, Lea and Flood's `SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ word >> 31) % end.max(1) as u64).unwrap_or(0)
    }
}

/// Runs so many requests, `at_once` at a time: greedy and sampled ones, of one completion and of several, a third of which is given up
/// at some time. Afterwards no page is held; tells the memory after a tenth of them, when everything has its size, and in the end.
pub(crate) fn soak(
    generator: &Generator,
    requests: usize,
    at_once: usize,
) -> Result<Value, Box<dyn Error>> {
    let (decoder, vocab) = (generator.decoder()?, generator.info().vocab);
    let mut scheduler = generator.scheduler();
    let mut random = Random(1);
    // When a request is given up, in steps from now.
    let mut doomed: Vec<(usize, Rc<Cell<bool>>)> = Vec::new();
    let (mut pushed, mut ended, mut dropped, mut steps) = (0, 0, 0, 0usize);
    let mut before = Value::Null;
    let begun = Instant::now();
    while ended + dropped < requests {
        while pushed < requests && pushed - ended - dropped < at_once {
            let sampling = match random.below(3) {
                0 => Sampling::GREEDY,
                1 => Sampling { top_p: 0.9, seed: pushed as u64, ..Sampling::default() },
                _ => Sampling { top_k: 40, seed: pushed as u64, ..Sampling::default() },
            };
            let prompt = ids(1 + random.below(64), random.below(1000), vocab);
            let tokens = 1 + random.below(24);
            let n = 1 + random.below(8) / 6;
            let job = Job::new(GenerationTask { sampling, n, ..task(prompt, tokens) });
            if random.below(3) == 0 {
                doomed.push((steps + random.below(20), Rc::clone(&job.is_gone)));
            }
            scheduler.push(job);
            pushed += 1;
        }
        doomed.retain(|(at, is_gone)| {
            let is_due = *at <= steps;
            if is_due {
                is_gone.set(true);
            }
            !is_due
        });
        dropped += scheduler.drop_cancelled(decoder);
        ended += step(&mut scheduler, decoder)?.1;
        steps += 1;
        if before.is_null() && ended + dropped >= requests.div_ceil(10) {
            before = memory();
        }
    }
    returned(decoder)?;
    Ok(json!({
        "event": "soak", "requests": requests, "given_up": dropped, "steps": steps, "seconds": begun.elapsed().as_secs_f64(),
        "preempted": scheduler.load().preempted, "held": decoder.room().held, "memory_before": before, "memory_after": memory(),
    }))
}
