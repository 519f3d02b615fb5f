//! Requests that are tokenised in steps are those that are tokenised at once, and what would grow too far is refused while
//! it is small.

use std::sync::Arc;

use super::common;

use defrost_model::{Precision, Tokens};
use defrost_tasks::{
    Bounds, EmbedTask, Embedder, EmbedderOptions, Error, Input, Outputs, Overflow, Prepared,
    Preparing, PromptChoice, Reranker, RerankerOptions, ScoreTask, Truncation,
};
use defrost_testing::golden::{self, EMBEDDING_MODELS, PAIR_MODELS};

fn reranker(model: &str) -> Arc<Reranker> {
    let checkpoint = golden::checkpoint(model);
    Arc::new(common::reranker(&checkpoint, Precision::Int8, &RerankerOptions::default()))
}

fn embedder(model: &str) -> Arc<Embedder> {
    let checkpoint = golden::checkpoint(model);
    Arc::new(common::embedder(&checkpoint, Precision::Int8, &EmbedderOptions::default()))
}

/// All steps of these bytes, and how many there were.
fn steps<T>(mut preparing: impl Preparing<T>, bytes: usize) -> (Prepared<T>, usize) {
    for count in 1.. {
        if let Some(prepared) = preparing.step(bytes).unwrap() {
            return (prepared, count);
        }
    }
    unreachable!("the loop ends with the last step")
}

fn refusal<T>(mut preparing: impl Preparing<T>) -> (&'static str, String) {
    loop {
        match preparing.step(1) {
            Ok(None) => {}
            Ok(Some(_)) => panic!("it was to be refused"),
            Err(Error::TooMuch { param, message }) => return (param, message),
            Err(other) => panic!("refused for another reason: {other}"),
        }
    }
}

fn sequences<T>(prepared: &Prepared<T>) -> &[Tokens] {
    prepared.sequences()
}

#[test]
fn documents_in_steps_are_documents_at_once() {
    let words = ["river", "snow, of", "中文", "measured", "light; and", "a-b"];
    let long: Vec<String> = (0..600).map(|at| format!("{} {at}", words[at % 6])).collect();
    let request = |query: &str, max_chunks_per_doc| ScoreTask {
        query: query.into(),
        documents: ["one", "two", &long.join(" "), "one", "", "two"].map(Into::into).into(),
        truncation: Truncation { max_chunks_per_doc, ..Truncation::default() },
        ..ScoreTask::default()
    };
    let requests = Arc::new(vec![request("who?", None), request("where?", Some(4))]);
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        let reranker = reranker(model);
        let at_once = reranker.prepare(&requests).unwrap();
        let answers =
            reranker.run(&at_once.planned(0..at_once.sequences().len()), at_once.wanted());
        let answers = answers.unwrap();
        let sequences_at_once = at_once.sequences().to_vec();
        let scores = at_once.finish(&answers).unwrap();
        for bytes in [1, 200, usize::MAX] {
            let preparing = Arc::clone(&reranker).preparing(Arc::clone(&requests), Bounds::NONE);
            let (prepared, count) = steps(preparing, bytes);
            assert_eq!(sequences(&prepared), sequences_at_once, "{model}");
            assert_eq!(prepared.finish(&answers).unwrap(), scores, "{model}");
            // Of twelve documents eight are distinct, and each ends a step of one byte.
            assert!(if bytes == 1 { count >= 8 } else { count <= 7 }, "{model}: {count} steps");
        }
    }
}

#[test]
fn inputs_in_steps_are_inputs_at_once() {
    for model in EMBEDDING_MODELS {
        let embedder = embedder(model);
        for (prompt, overflow) in [
            (PromptChoice::Query, Overflow::CutEnd),
            (PromptChoice::Prefix("title: ".into()), Overflow::CutStart),
        ] {
            let mut request = EmbedTask { prompt, ..EmbedTask::default() };
            request.truncation.overflow = overflow;
            let texts = ["one", "two", &"many words ".repeat(900), "one", "x"];
            request.inputs = texts.map(Into::into).into();
            request.inputs.push(Input::Tokens(vec![5, 6, 7]));
            let at_once = embedder.prepare(&request).unwrap();
            let request = Arc::new(request);
            for bytes in [1, usize::MAX] {
                let preparing = Arc::clone(&embedder).preparing(Arc::clone(&request), Bounds::NONE);
                let (prepared, count) = steps(preparing, bytes);
                assert_eq!(sequences(&prepared), sequences(&at_once), "{model}");
                assert_eq!(count > 1, bytes == 1, "{model}");
                assert_eq!(prepared.numbers(), 6 * embedder.info().hidden, "{model}");
            }
        }
    }
}

#[test]
fn what_a_request_would_grow_into_is_refused() {
    let reranker = reranker("qwen3-reranker");
    let bounded = |request: ScoreTask, bounds: Bounds| {
        refusal(Arc::clone(&reranker).preparing(Arc::new(vec![request]), bounds))
    };
    let documents = vec!["a".to_owned(); 1000];
    let query = "long ".repeat(2000);
    let long_query = ScoreTask { query, documents, ..ScoreTask::default() };
    let bounds = Bounds { text_bytes: 1 << 20, ..Bounds::NONE };
    let (param, message) = bounded(long_query.clone(), bounds);
    assert_eq!(param, "documents");
    assert!(message.contains("before each of 1000 texts") && message.contains("at most 1048576"));

    let bounds = Bounds { tokens: 10_000, ..Bounds::NONE };
    let (_, message) = bounded(long_query, bounds);
    assert!(message.contains("more than 10000 tokens"), "{message}");

    let truncation = Truncation {
        max_chunks_per_doc: Some(1_000_000_000),
        max_tokens_per_doc: Some(3),
        ..Truncation::default()
    };
    let documents = vec!["a b c d e ".repeat(5000)];
    let pieces = ScoreTask { query: "q".into(), documents, truncation, ..ScoreTask::default() };
    let (_, message) = bounded(pieces, Bounds { sequences: 50, ..Bounds::NONE });
    assert!(message.contains("more than 50 sequences"), "{message}");
}

#[test]
fn prompts_and_answers_are_bounded() {
    let embedder = embedder("xlmr-m3");
    let bounded = |request: &EmbedTask, bounds: Bounds| {
        refusal(Arc::clone(&embedder).preparing(Arc::new(request.clone()), bounds))
    };
    // One unbroken word is one token for many tokenizers, and all of it is read for each input.
    let mut request = EmbedTask {
        inputs: vec!["a".into(); 2048],
        prompt: PromptChoice::Prefix(format!("{} ", "a b ".repeat(8))),
        ..EmbedTask::default()
    };
    let (param, message) = bounded(&request, Bounds { text_bytes: 1 << 16, ..Bounds::NONE });
    assert_eq!(param, "input");
    assert!(message.contains("33 bytes that go before each of 2048 texts"), "{message}");

    request.prompt = PromptChoice::None;
    request.outputs = Outputs { tokens: true, colbert: true, sparse: true, dense: true };
    let (_, message) = bounded(&request, Bounds { numbers: 100_000, ..Bounds::NONE });
    assert!(message.contains("at most 100000 are allowed in an answer"), "{message}");

    request.prompt = PromptChoice::Prefix("word ".repeat(10_000));
    request.truncation.overflow = Overflow::CutEnd;
    let mut preparing = Arc::clone(&embedder).preparing(Arc::new(request), Bounds::NONE);
    let message = preparing.step(1).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("leaves no room for a text: send a shorter prompt"), "{message}");
}
