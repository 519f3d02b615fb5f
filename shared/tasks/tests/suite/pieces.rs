//! N5: long documents in pieces, the best of which is the document's score.

use super::common;

use defrost_model::Precision;
use defrost_tasks::{Error, Reranker, RerankerOptions, ScoreTask, Truncation};
use defrost_testing::golden::{self, EMBEDDING_MODELS, PAIR_MODELS};

const MOST: usize = 5;

fn request(document: &str, truncation: Truncation) -> ScoreTask {
    ScoreTask {
        query: "who wrote it?".into(),
        documents: vec!["short".into(), document.into(), String::new()],
        truncation,
        ..ScoreTask::default()
    }
}

/// What each sequence of the request scores by itself: for embedding models the cosine with the first.
fn each(reranker: &Reranker, request: &ScoreTask) -> Vec<f32> {
    let answers = reranker.run_tokens(&reranker.encode(request).unwrap()).unwrap();
    if answers[0].len() == 1 {
        return answers.iter().map(|answer| answer[0]).collect();
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let (query, documents) = answers.split_first().unwrap();
    let cosine = |document: &Vec<f32>| {
        dot(query, document) / (dot(query, query).sqrt() * dot(document, document).sqrt())
    };
    #[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    documents.iter().map(|document| cosine(document) as f32).collect()
}

#[test]
fn a_document_scores_as_its_best_piece() {
    let words = ["river", "snow, of", "中文", "measured", "light; and", "a-b", "\n\n", "Lee"];
    let long: Vec<String> = (0..400).map(|at| format!("{} {at}", words[at * 7 % 8])).collect();
    let long = long.join(" ");
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        let options = RerankerOptions { max_length: Some(200), ..RerankerOptions::default() };
        let reranker = common::reranker(&golden::checkpoint(model), Precision::F32, &options);
        let score = |document: &str, truncation: Truncation| {
            let request = request(document, truncation);
            let mut scores = reranker.score(std::slice::from_ref(&request), &|| false)?;
            Ok::<_, Error>((scores.remove(0), each(&reranker, &request)))
        };
        let pieces =
            |max_chunks_per_doc| Truncation { max_chunks_per_doc, ..Truncation::default() };
        let (plain, _) = score(&long, pieces(None)).unwrap();
        let (scores, each) = score(&long, pieces(Some(MOST))).unwrap();
        // One sequence for each short document.
        assert_eq!(each.len(), MOST + 2, "{model}");
        assert_eq!(
            (scores[0], scores[2]),
            (plain[0], plain[2]),
            "{model}: short ones are as they were"
        );
        let best = each[1..=MOST].iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!((scores[1].raw - best).abs() < 1e-6, "{model}: {} for {best}", scores[1].raw);
        assert!(scores[1].truncated && scores[1].tokens > 3 * plain[1].tokens, "{model}");
        let all = Truncation { forbidden: true, ..pieces(Some(500)) };
        let (scores, each) = score(&long, all).unwrap();
        assert!(!scores[1].truncated && each.len() < 100, "{model}");
        let few = Truncation { forbidden: true, ..pieces(Some(2)) };
        assert!(
            matches!(score(&long, few), Err(Error::TooLong { param: "documents", .. })),
            "{model}"
        );
    }
}

/// Whatever the text, pieces make up all of it but white space between them.
#[test]
fn nothing_is_lost_between_pieces() {
    let options = RerankerOptions { max_length: Some(64), ..RerankerOptions::default() };
    let checkpoint = golden::checkpoint("qwen2-mxbai");
    let reranker = common::reranker(&checkpoint, Precision::F32, &options);
    for text in [
        "word ".repeat(300),
        "longwithoutanyspace".repeat(60),
        "😀\u{200d}é".repeat(200),
        " ".repeat(2000),
    ] {
        let truncation = Truncation {
            max_chunks_per_doc: Some(10_000),
            max_tokens_per_doc: Some(16),
            ..Truncation::default()
        };
        let scores = reranker.score(&[request(&text, truncation)], &|| false).unwrap();
        assert!(!scores[0][1].truncated);
    }
}
