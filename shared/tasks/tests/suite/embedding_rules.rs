//! What an embedder does with prompts, token ids, limits and batches, and what it refuses.

use super::common::{self, embed_one};

use defrost_model::Precision;
use defrost_tasks::{
    EmbedTask, EmbedTruncation, Embedder, EmbedderOptions, Embedding, Error, Input, ModelOptions,
    Outputs, Overflow, PromptChoice,
};
use defrost_testing::golden::{self, EMBEDDING_MODELS};

pub(crate) const TEXT: &str =
    "Who wrote 'To Kill a Mockingbird'? 中国的首都 3.520.031 schöne Häuser 😀";

fn embedder(model: &str) -> Embedder {
    common::embedder(&golden::checkpoint(model), Precision::F32, &EmbedderOptions::default())
}

fn ids(embedder: &Embedder, text: &str, special: bool) -> Vec<u32> {
    embedder.tokenize(text, special).unwrap().iter().map(|token| token.id).collect()
}

pub(crate) fn with(prompt: PromptChoice) -> EmbedTask {
    EmbedTask { prompt, ..EmbedTask::default() }
}

pub(crate) fn refusal(embedder: &Embedder, input: Input, request: &EmbedTask) -> String {
    let request = EmbedTask { inputs: vec![input], ..request.clone() };
    embedder.embed(&[request], &|| false).unwrap_err().to_string()
}

#[test]
fn token_ids_stand_for_their_text_with_or_without_special_tokens() {
    for model in EMBEDDING_MODELS {
        let embedder = embedder(model);
        for prompt in [PromptChoice::None, PromptChoice::Prefix("title: ".into())] {
            let request = with(prompt.clone());
            let text = embed_one(&embedder, TEXT.into(), &request);
            let found: Vec<Embedding> = [false, true]
                .map(|special| Input::Tokens(ids(&embedder, TEXT, special)))
                .map(|input| embed_one(&embedder, input, &request))
                .into();
            assert_eq!(found[0], found[1], "{model} {prompt:?}");
            if prompt == PromptChoice::None {
                assert_eq!(found[0], text, "{model}");
            } else {
                assert!(found[0].token_count >= text.token_count, "{model}");
                assert_ne!(
                    found[0].dense,
                    embed_one(&embedder, TEXT.into(), &with(PromptChoice::None)).dense
                );
            }
        }
        let message =
            refusal(&embedder, Input::Tokens(vec![5, 1 << 20]), &with(PromptChoice::None));
        assert!(message.contains("token id 1048576 is not in the model's vocabulary"), "{message}");
    }
}

#[test]
fn prompts_are_those_of_the_models_files() {
    let embedder = embedder("qwen3-embedding");
    let info = embedder.info();
    assert_eq!(info.prompts.keys().collect::<Vec<_>>(), ["document", "query"]);
    assert!(info.takes_instruction && info.default_prompt.is_none());
    let dense = |prompt| embed_one(&embedder, TEXT.into(), &with(prompt)).dense;
    let plain = dense(PromptChoice::None);
    assert_eq!(dense(PromptChoice::Default), plain);
    assert_eq!(dense(PromptChoice::Document), plain);
    let query = dense(PromptChoice::Query);
    assert_ne!(query, plain);
    assert_eq!(dense(PromptChoice::Named("query".into())), query);
    assert_eq!(dense(PromptChoice::Prefix(info.prompts["query"].clone())), query);
    let task = "Given a web search query, retrieve relevant passages that answer the query";
    assert_eq!(dense(PromptChoice::Instruction(task.into())), query);
    let message = refusal(&embedder, TEXT.into(), &with(PromptChoice::Named("poem".into())));
    assert!(message.contains("no prompt \"poem\": expected document, query"), "{message}");
    let other = self::embedder("bert-embedding");
    assert!(!other.info().takes_instruction);
    let message = refusal(&other, TEXT.into(), &with(PromptChoice::Instruction("find".into())));
    assert!(message.contains("takes no instruction"), "{message}");
}

#[test]
fn texts_are_cut_at_the_wanted_end() {
    for model in EMBEDDING_MODELS {
        let embedder = embedder(model);
        let prompt = PromptChoice::Prefix("query: ".into());
        let long = "the capital of France is Paris ".repeat(30) + TEXT;
        let own = ids(&embedder, &format!("query: {long}"), false);
        let special = ids(&embedder, "", true).len();
        let kept = ids(&embedder, "query: ", false);
        let kept = kept.iter().zip(&own).take_while(|(a, b)| a == b).count();
        let limit = special + kept + 9;
        let cut = |overflow, input: Input| {
            let truncation = EmbedTruncation { overflow, limit: Some(limit) };
            embed_one(
                &embedder,
                input,
                &EmbedTask { prompt: prompt.clone(), truncation, ..EmbedTask::default() },
            )
        };
        let whole =
            |ids: Vec<u32>| embed_one(&embedder, Input::Tokens(ids), &with(PromptChoice::None));
        let end = cut(Overflow::CutEnd, long.as_str().into());
        assert!(end.truncated && end.token_count == limit, "{model}");
        assert_eq!(end.dense, whole(own[..kept + 9].to_vec()).dense, "{model}");
        let start = cut(Overflow::CutStart, long.as_str().into());
        assert!(start.truncated && start.token_count == limit, "{model}");
        let expected = [&own[..kept], &own[own.len() - 9..]].concat();
        assert_eq!(start.dense, whole(expected).dense, "{model}");
        // Token ids are cut alike.
        let plain = ids(&embedder, &long, false);
        let prompt_ids = ids(&embedder, "query: ", false);
        let room = limit - special - prompt_ids.len();
        let tail = [prompt_ids.as_slice(), &plain[plain.len() - room..]].concat();
        let start = cut(Overflow::CutStart, Input::Tokens(plain));
        assert_eq!(start.dense, whole(tail).dense, "{model}");
        // What fits is not cut.
        let fits = cut(Overflow::CutStart, "Paris".into());
        assert!(!fits.truncated);
        assert_eq!(fits.dense, embed_one(&embedder, "Paris".into(), &with(prompt.clone())).dense);
    }
}

#[test]
fn inputs_that_are_too_long_are_counted() {
    for model in EMBEDDING_MODELS {
        let options = EmbedderOptions {
            model: ModelOptions { max_length: Some(40), ..ModelOptions::default() },
            any_dimensions: false,
        };
        let embedder = common::embedder(&golden::checkpoint(model), Precision::F32, &options);
        assert_eq!(embedder.info().max_length, 40);
        let long = "the capital of France is Paris ".repeat(9);
        let count = ids(&embedder, &long, true).len();
        for input in [Input::Text(long.clone()), Input::Tokens(ids(&embedder, &long, false))] {
            let request = EmbedTask { inputs: vec!["a".into(), input], ..EmbedTask::default() };
            let result = embedder.embed(&[EmbedTask::default(), request], &|| false);
            assert!(
                matches!(result, Err(Error::InputTooLong { limit: 40, found, request: 1, index: 1 }) if found == count),
                "{model}: {result:?}, {count}"
            );
            let message = result.unwrap_err().to_string();
            for part in [
                "this model's maximum context length is 40 tokens",
                "input is too large",
                "Please reduce the length of the input prompt",
            ] {
                assert!(message.contains(part), "{message}");
            }
        }
        let none = EmbedTruncation { overflow: Overflow::CutEnd, limit: Some(0) };
        let inputs = vec!["a longer text".into()];
        let request = EmbedTask { inputs, truncation: none, ..EmbedTask::default() };
        let one = |request| embedder.embed(&[request], &|| false).unwrap()[0][0].clone();
        let cut = one(request.clone());
        assert!(cut.truncated && cut.token_count >= 1, "{model}: one token of the text is left");
        let room = EmbedTruncation { limit: Some(cut.token_count), ..none };
        let request = EmbedTask { truncation: room, ..request };
        assert_eq!(one(request), cut, "{model}");
        let prompt = PromptChoice::Prefix("rain ".repeat(50));
        let overflow = EmbedTruncation { overflow: Overflow::CutStart, limit: None };
        let request = EmbedTask { prompt, truncation: overflow, ..EmbedTask::default() };
        assert!(refusal(&embedder, "a".into(), &request).contains("leaves no room for a text"));
    }
}

#[test]
fn dimensions_and_outputs_that_the_model_does_not_have_are_refused() {
    let embedder = embedder("bert-embedding");
    let cut = |dimensions| EmbedTask { dimensions: Some(dimensions), ..EmbedTask::default() };
    for (dimensions, part) in
        [(0, "expected 1 to 32"), (33, "expected 1 to 32"), (16, "is not trained for")]
    {
        let message = refusal(&embedder, TEXT.into(), &cut(dimensions));
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(embed_one(&embedder, TEXT.into(), &cut(32)).dense.len(), 32);
    for (outputs, part) in [
        (Outputs { sparse: true, ..Outputs::default() }, "has no sparse vectors"),
        (Outputs { colbert: true, ..Outputs::default() }, "has no ColBERT vectors"),
    ] {
        let message =
            refusal(&embedder, TEXT.into(), &EmbedTask { outputs, ..EmbedTask::default() });
        assert!(message.contains(part), "{message}");
    }
    let one = EmbedTask { inputs: vec![TEXT.into()], ..EmbedTask::default() };
    let gone = embedder.embed(&[one], &|| true);
    assert!(matches!(gone, Err(Error::Cancelled)));
    let none: Vec<Vec<Embedding>> = embedder.embed(&[EmbedTask::default()], &|| false).unwrap();
    assert_eq!(none, [Vec::new()]);
}

#[test]
fn a_detached_embedder_goes_on_without_its_file() {
    let embedder = embedder("xlmr-m3");
    let before = embed_one(&embedder, TEXT.into(), &EmbedTask::default());
    embedder.prepare_for_snapshot().unwrap();
    assert_eq!(embed_one(&embedder, TEXT.into(), &EmbedTask::default()), before);
    assert!(!embedder.tokenize(TEXT, true).unwrap().is_empty());
}

#[test]
fn late_chunking_is_refused_where_it_cannot_be() {
    let late = EmbedTask { late_chunking: true, ..EmbedTask::default() };
    let other = embedder("qwen3-embedding");
    let message = refusal(&other, TEXT.into(), &late);
    assert!(message.contains("takes means of tokens"), "{message}");
    assert!(message.contains("are made of one token (lasttoken)"), "{message}");
    assert!(!other.info().takes_late_chunking());

    let embedder = embedder("bert-embedding");
    assert!(embedder.info().takes_late_chunking());
    let outputs = Outputs { tokens: true, ..Outputs::default() };
    let message = refusal(&embedder, TEXT.into(), &EmbedTask { outputs, ..late.clone() });
    assert!(message.contains("dense vectors alone"), "{message}");
    // Cutting would leave chunks without a vector.
    let truncation = EmbedTruncation { overflow: Overflow::CutEnd, limit: Some(20) };
    let inputs = vec![TEXT.into(), TEXT.into()];
    let long = EmbedTask { inputs, truncation, ..late.clone() };
    let message = embedder.embed(&[long], &|| false).unwrap_err().to_string();
    assert!(message.contains("of 20 that are read; send fewer chunks"), "{message}");
}

#[test]
fn a_chunk_is_the_mean_over_its_own_tokens_and_zeros_without_any() {
    let embedder = embedder("bert-embedding");
    let inputs = vec![TEXT.into(), "".into(), Input::Tokens(ids(&embedder, "rain", true))];
    let late = EmbedTask { inputs, late_chunking: true, ..EmbedTask::default() };
    let found = embedder.embed(&[late], &|| false).unwrap().remove(0);
    let own: Vec<usize> =
        [TEXT, "", "rain"].iter().map(|text| ids(&embedder, text, false).len()).collect();
    let counts: Vec<usize> = found.iter().map(|one| one.token_count).collect();
    assert_eq!(counts, [own[0] + 2, 0, own[2]], "special tokens are counted once");
    assert!(found[1].dense.iter().all(|&value| value == 0.0));
    let whole = [ids(&embedder, TEXT, false), ids(&embedder, "rain", false)].concat();
    let outputs = Outputs { tokens: true, ..Outputs::default() };
    let request = EmbedTask { outputs, ..EmbedTask::default() };
    let all = embed_one(&embedder, Input::Tokens(whole), &request).tokens;
    let width = embedder.info().hidden;
    let rows: Vec<&[f32]> = all.chunks_exact(width).collect();
    for (found, rows) in
        [(&found[0], &rows[1..=own[0]]), (&found[2], &rows[own[0] + 1..][..own[2]])]
    {
        let mean = |at: usize| rows.iter().map(|row| f64::from(row[at])).sum::<f64>();
        let mean: Vec<f64> = (0..width).map(mean).collect();
        let norm = mean.iter().map(|value| value * value).sum::<f64>().sqrt();
        for (found, mean) in found.dense.iter().zip(&mean) {
            assert!((f64::from(*found) - mean / norm).abs() < 1e-6);
        }
    }
}
