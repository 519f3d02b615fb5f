//! What language models continue prompts with: the tokens of `transformers`, alone and among others.

use super::cases::packed;
use super::common::LINKED;

use std::cell::RefCell;
use std::rc::Rc;

use defrost_model::{Precision, stored};
use defrost_pack::{ModelKind, SpecOptions};
use defrost_tasks::{
    Error, Finish, GenerationJob, GenerationTask, Generator, GeneratorOptions, ModelOptions,
    Pieces, Produced, Sampling, SchedulerOptions,
};
use defrost_testing::golden;
use serde::Deserialize;

/// What `scripts/golden/golden_generation.py` writes.
#[derive(Deserialize)]
struct Golden {
    texts: Vec<Text>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Text {
    #[serde(rename = "text")]
    whole: String,
    plain: Vec<u32>,
    special: Vec<u32>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    prompt: String,
    ids: Vec<u32>,
    tokens: Vec<u32>,
}

/// The golden models that continue prompts.
fn models() -> Vec<String> {
    let dir = golden::repository("data/golden");
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let mut found: Vec<String> = names.filter(|name| name.starts_with("generate-")).collect();
    found.sort();
    assert!(found.len() >= 5, "{found:?}");
    found
}

fn read(model: &str) -> Golden {
    let file = golden::checkpoint(model).join("golden.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn load(model: &str, options: ModelOptions, scheduler: SchedulerOptions) -> Generator {
    let spec = SpecOptions {
        name: model.to_owned(),
        kind: Some(ModelKind::Chat),
        ..SpecOptions::default()
    };
    let (_, snapshot) = packed(&golden::checkpoint(model), Precision::F32, spec).unwrap();
    let model = ModelOptions { num_threads: Some(2), ..options };
    Generator::load(LINKED, &snapshot, &GeneratorOptions { model, scheduler }).unwrap()
}

/// As many greedy tokens as the golden files have, whatever they are.
fn greedy(case: &Case) -> GenerationTask {
    GenerationTask {
        max_tokens: Some(case.tokens.len()),
        ignore_eos: true,
        ..GenerationTask::new(case.ids.clone())
    }
}

/// A request that notes its tokens where others can see them.
struct Job {
    task: GenerationTask,
    tokens: Rc<RefCell<Vec<u32>>>,
}

impl Job {
    fn new(task: GenerationTask) -> Self {
        Self { task, tokens: Rc::default() }
    }
}

impl GenerationJob for Job {
    fn task(&self) -> &GenerationTask {
        &self.task
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn produced(&mut self, _: usize, produced: Produced) {
        self.tokens.borrow_mut().extend(produced.tokens.iter().map(|token| token.id));
    }

    fn finished(&mut self, _: usize, finish: &Finish) {
        assert!(finish.is_length());
    }
}

/// A start maps the bytes of tokens; they are what the tokenizer's file says.
#[test]
fn snapshots_hold_the_bytes_of_their_tokens() {
    let spec = SpecOptions { kind: Some(ModelKind::Chat), ..SpecOptions::default() };
    let checkpoint = golden::checkpoint("generate-gemma3");
    let (_, snapshot) = packed(&checkpoint, Precision::F32, spec).unwrap();
    let bytes = |name| snapshot.tensor(name).unwrap().bytes;
    let expected = Pieces::compile(&bytes(stored::TOKENIZER)).unwrap();
    assert!(bytes(stored::TOKEN_PIECES) == expected);
    let context = ModelOptions { max_length: Some(64), ..ModelOptions::default() };
    let options = GeneratorOptions { model: context, ..GeneratorOptions::default() };
    let generator = Generator::load(LINKED, &snapshot, &options).unwrap();
    assert_eq!(generator.pieces().len(), Pieces::open(expected.into()).unwrap().len());
    assert_eq!(generator.info().context, 64);
}

#[test]
fn texts_have_the_tokens_of_transformers() {
    for model in models() {
        let golden = read(&model);
        let generator = load(&model, ModelOptions::default(), SchedulerOptions::default());
        for Text { whole: text, plain, special } in &golden.texts {
            assert_eq!(&generator.encode(text, false).unwrap(), plain, "{model}: {text:?}");
            assert_eq!(&generator.encode(text, true).unwrap(), special, "{model}: {text:?}");
            let again = generator.pieces().text(plain, false);
            let theirs = generator.detokenize(plain, false).unwrap();
            assert_eq!(again.trim_start(), theirs.trim_start(), "{model}");
        }
        for case in &golden.cases {
            let found = [false, true].map(|add| generator.encode(&case.prompt, add).unwrap());
            assert!(found.contains(&case.ids), "{model}: {}", case.name);
        }
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers_alone() {
    for model in models() {
        let generator = load(&model, ModelOptions::default(), SchedulerOptions::default());
        for case in &read(&model).cases {
            let (completions, usage) = generator.generate(&greedy(case), &|| false).unwrap();
            let [completion] = completions.as_slice() else { panic!("one completion") };
            let ids: Vec<u32> = completion.produced.tokens.iter().map(|token| token.id).collect();
            assert_eq!(ids, case.tokens, "{model}: {}", case.name);
            assert_eq!(completion.finish, Finish::Length);
            assert_eq!((usage.prompt, usage.completion), (case.ids.len(), case.tokens.len()));
        }
    }
}

/// All cases twice beside one that samples, in little memory and in small pieces, so that some wait, some are put back and
/// computed again, and prompts are reused.
#[test]
fn greedy_tokens_are_those_of_transformers_among_eight_others() {
    for model in models() {
        let golden = read(&model);
        let longest = golden.cases.iter().map(|case| case.ids.len()).max().unwrap();
        let options = ModelOptions { kv_tokens: Some(longest + 700), ..ModelOptions::default() };
        let scheduler =
            SchedulerOptions { step_tokens: 100, beside: 24, ..SchedulerOptions::default() };
        let generator = load(&model, options, scheduler);
        let decoder = generator.decoder().unwrap();
        let mut scheduler = generator.scheduler();
        let mut jobs = Vec::new();
        for case in golden.cases.iter().chain(&golden.cases) {
            let job = Job::new(greedy(case));
            jobs.push((case, job.tokens.clone()));
            scheduler.push(job);
        }
        let case = &golden.cases[0];
        let sampling = Sampling { seed: 7, ..Sampling::default() };
        scheduler.push(Job::new(GenerationTask { sampling, ..greedy(case) }));
        let mut usages = Vec::new();
        while !scheduler.is_empty() {
            let ended = scheduler.step(decoder).map_err(|failed| failed.error).unwrap();
            usages.extend(ended.into_iter().map(|ended| ended.result.unwrap()));
        }
        for (case, tokens) in jobs {
            assert_eq!(*tokens.borrow(), case.tokens, "{model}: {}", case.name);
        }
        assert_eq!((usages.len(), decoder.room().held), (9, 0));
        assert!(usages.iter().any(|usage| usage.cached > 0), "{model}: nothing was reused");
        assert!(scheduler.load().preempted > 0, "{model}: all had room");
    }
}

/// The same seed says the same, alone and beside others; another seed says something else.
#[test]
fn sampled_texts_depend_on_their_seed_alone() {
    let model = "generate-qwen3";
    let generator = load(model, ModelOptions::default(), SchedulerOptions::default());
    let case = &read(model).cases[0];
    let sampled = |seed: u64, n: usize| GenerationTask {
        sampling: Sampling { seed, top_k: 40, top_p: 0.9, ..Sampling::default() },
        max_tokens: Some(40),
        n,
        ..greedy(case)
    };
    let of = |seed, n| {
        let (completions, _) = generator.generate(&sampled(seed, n), &|| false).unwrap();
        completions.into_iter().map(|completion| completion.produced.text).collect::<Vec<_>>()
    };
    let three = of(1, 3);
    assert_eq!(three, of(1, 3));
    assert_eq!(three[..1], of(1, 1));
    assert_ne!(three[0], three[1]);
    assert_ne!(three[0], of(2, 1)[0]);
}

#[test]
fn log_probabilities_are_those_of_the_model() {
    let model = "generate-qwen2";
    let generator = load(model, ModelOptions::default(), SchedulerOptions::default());
    let case = &read(model).cases[2];
    let task = GenerationTask {
        max_tokens: Some(20),
        logprobs: Some(3),
        prompt_logprobs: Some(0),
        echo: true,
        ..greedy(case)
    };
    let (completions, _) = generator.generate(&task, &|| false).unwrap();
    let tokens = &completions[0].produced.tokens;
    assert_eq!(tokens.len(), case.ids.len() + 20);
    assert_eq!(tokens[0].logprobs, None);
    for token in &tokens[1..] {
        let told = token.logprobs.as_ref().unwrap();
        assert_eq!((told.chosen.id, told.top.len()), (token.id, 3));
        assert!(told.top.windows(2).all(|pair| pair[0].logprob >= pair[1].logprob));
        assert!(told.chosen.logprob <= told.top[0].logprob && told.top[0].logprob < 0.0);
        assert_eq!(told.rank == 1, told.top[0].id == token.id);
    }
    // Greedy tokens are the likeliest ones. What the prompt's own tokens are worth does not depend on how they came.
    let completion = &tokens[case.ids.len()..];
    assert!(completion.iter().all(|token| token.logprobs.as_ref().unwrap().rank == 1));
    let ids = tokens.iter().map(|token| token.id).collect();
    let again = GenerationTask { max_tokens: Some(0), ..GenerationTask::new(ids) };
    let again = GenerationTask { echo: true, logprobs: Some(3), ..again };
    let (completions, usage) = generator.generate(&again, &|| false).unwrap();
    assert_eq!(&completions[0].produced.tokens, tokens);
    assert_eq!((usage.completion, usage.cached), (0, 0));
}

#[test]
fn what_does_not_fit_is_refused_with_its_numbers() {
    let options = ModelOptions { context: Some(100), ..ModelOptions::default() };
    let generator = load("generate-smollm", options, SchedulerOptions::default());
    assert_eq!((generator.info().context, generator.limits().context), (100, 100));
    let task = GenerationTask { max_tokens: Some(60), ..GenerationTask::new(vec![1; 50]) };
    let error = generator.generate(&task, &|| false).unwrap_err().to_string();
    for part in
        ["maximum context length is 100 tokens", "110 were asked for", "60 in the completion"]
    {
        assert!(error.contains(part), "{error}");
    }
    let error = generator.encode(&"word ".repeat(400), false).unwrap_err();
    assert!(matches!(error, Error::ContextExceeded { limit: 100, .. }), "{error}");
    let error = generator.generate(&GenerationTask::new(vec![1; 100]), &|| false).unwrap_err();
    assert!(error.to_string().contains("at least one must be left"), "{error}");
    let whole = GenerationTask { ignore_eos: true, ..GenerationTask::new(vec![1; 90]) };
    let (_, usage) = generator.generate(&whole, &|| false).unwrap();
    assert_eq!(usage.completion, 10);
    let error = generator.generate(&whole, &|| true).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
}
