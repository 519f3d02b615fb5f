//! What of an over-long pair is read: its end or its start, and how many tokens of it.

use super::common;

use defrost_model::{Precision, Tokens};
use defrost_tasks::{Error, Reranker, RerankerOptions, ScoreTask, Truncation};
use defrost_testing::golden::{self, EMBEDDING_MODELS, PAIR_MODELS};

const LENGTH: usize = 200;

fn reranker(model: &str) -> Reranker {
    let options = RerankerOptions { max_length: Some(LENGTH), ..RerankerOptions::default() };
    common::reranker(&golden::checkpoint(model), Precision::F32, &options)
}

fn request(query: &str, document: &str, truncation: Truncation) -> ScoreTask {
    ScoreTask {
        query: query.into(),
        documents: vec![document.into()],
        truncation,
        ..ScoreTask::default()
    }
}

/// The sequence that holds the document.
fn encoded(reranker: &Reranker, request: &ScoreTask) -> Tokens {
    reranker.encode(request).unwrap().pop().unwrap()
}

fn left() -> Truncation {
    Truncation { from_start: true, ..Truncation::default() }
}

/// Where one sequence holds another's ids in a row.
fn holds(tokens: &Tokens, ids: &[u32]) -> bool {
    tokens.ids.windows(ids.len()).any(|window| window == ids)
}

const FIRST: &str = "query docs and the query docs and the query";
const LAST: &str = "score no be is score no be is score";

/// A text whose start and end are told from each other by every tokenizer.
fn long() -> String {
    format!("{FIRST} {} {LAST}", "un la di ".repeat(300).trim_end())
}

#[test]
fn truncation_on_the_left_keeps_the_end() {
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        let reranker = reranker(model);
        let text = long();
        let end = encoded(&reranker, &request("q", &text, left()));
        let start = encoded(&reranker, &request("q", &text, Truncation::default()));
        assert_eq!(end.ids.len(), start.ids.len(), "{model}: both are as long as the model reads");
        // The text's own first and last words, without what a template puts around them.
        let common = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|text| encoded(&reranker, &request("q", text, left())).ids);
            let head = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            let tail = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
            a[head + 1..a.len() - tail - 1].to_vec()
        };
        let (first, last) = (common(FIRST, LAST), common(LAST, FIRST));
        assert!(first.len() > 4 && last.len() > 4, "{model}: {first:?} {last:?}");
        assert!(holds(&start, &first) && !holds(&start, &last), "{model}");
        assert!(holds(&end, &last) && !holds(&end, &first), "{model}");
        // What comes before the document within its segment stays.
        let short = encoded(&reranker, &request("q", "", left())).ids;
        let kept = short.iter().zip(&end.ids).take_while(|(a, b)| a == b).count();
        let kept_right = short.iter().zip(&start.ids).take_while(|(a, b)| a == b).count();
        assert_eq!(kept, kept_right, "{model}: the prompt is cut nowhere");
        let scores = reranker.score(&[request("q", &text, left())], &|| false).unwrap();
        assert!(scores[0][0].truncated, "{model}: it is said");
    }
}

#[test]
fn a_text_that_fits_is_the_same_whichever_end_would_be_cut() {
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        let reranker = reranker(model);
        for document in ["", "short", "two words, and more."] {
            let plain = encoded(&reranker, &request("who?", document, Truncation::default()));
            assert_eq!(encoded(&reranker, &request("who?", document, left())), plain, "{model}");
        }
    }
}

#[test]
fn a_limit_of_the_documents_tokens_holds_at_either_end() {
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        let reranker = reranker(model);
        let few = |from_start| Truncation {
            max_tokens_per_doc: Some(6),
            from_start,
            ..Truncation::default()
        };
        let text = long();
        let [start, end] = [false, true]
            .map(|from_start| encoded(&reranker, &request("q", &text, few(from_start))).ids);
        let whole = encoded(&reranker, &request("q", &text, Truncation::default())).ids;
        assert_ne!(start, end, "{model}");
        assert!(start.len() < whole.len() && end.len() < whole.len(), "{model}");
    }
}

/// vLLM's `truncate_prompt_tokens`: the whole sequence has so many tokens, the prompt around the texts stays.
#[test]
fn a_request_may_ask_for_fewer_tokens_than_the_model_reads() {
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        let reranker = reranker(model);
        let whole = reranker.encode(&request("a b c", &long(), Truncation::default())).unwrap();
        let whole = whole.last().unwrap().ids.len();
        for wanted in [whole - 1, whole - 20] {
            for from_start in [false, true] {
                let max_tokens = Some(wanted);
                let truncation = Truncation { max_tokens, from_start, ..Truncation::default() };
                let request = request("a b c", &long(), truncation);
                let score = reranker.score(std::slice::from_ref(&request), &|| false).unwrap();
                assert_eq!(encoded(&reranker, &request).ids.len(), wanted, "{model}");
                assert!(score[0][0].truncated, "{model}");
            }
        }
        let of = |max_tokens| {
            let truncation = Truncation { max_tokens: Some(max_tokens), ..Truncation::default() };
            reranker.encode(&request("a b c", "d", truncation))
        };
        let Err(Error::InvalidInput { param: "truncate_prompt_tokens", message }) = of(100_000)
        else {
            panic!("{model} reads no 100,000 tokens");
        };
        assert!(message.contains("Please request a smaller truncation size."), "{message}");
        assert!(of(1).unwrap().iter().all(|tokens| !tokens.ids.is_empty()), "{model}");
    }
}

/// As vLLM gives: of five tokens, three are the classifier's own, and query and document have one each.
#[test]
fn five_tokens_of_a_pair() {
    let reranker = reranker("bert-classifier");
    let truncation = Truncation { max_tokens: Some(5), ..Truncation::default() };
    let long = "alpha omega ".repeat(20);
    let few = encoded(&reranker, &request("a b c", &long, truncation));
    assert_eq!(few.ids.len(), 5);
    let least = encoded(&reranker, &request("a", "alpha", Truncation::default()));
    let first = |tokens: &Tokens| (tokens.ids[0], tokens.ids[1], tokens.ids[2]);
    assert_eq!(
        first(&few),
        first(&least),
        "the first word of the query between its special tokens"
    );
    assert_eq!(few.types, [0, 0, 0, 1, 1]);
}

#[test]
fn pieces_are_read_from_the_start() {
    let reranker = reranker("bert-classifier");
    let truncation = Truncation { max_chunks_per_doc: Some(3), ..left() };
    let result = reranker.encode(&request("q", &long(), truncation));
    assert!(
        matches!(result, Err(Error::InvalidInput { param: "max_chunks_per_doc", .. })),
        "{result:?}"
    );
}
