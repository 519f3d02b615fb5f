//! A pair's score is the same to the last bit alone, in any batch, in any order, with any thread
//! count and any batch budget.

use super::common;

use std::sync::OnceLock;

use defrost_model::Precision;
use defrost_tasks::{Reranker, RerankerOptions, ScoreTask};
use defrost_testing::golden::{self, EMBEDDING_MODELS, PAIR_MODELS};
use proptest::prelude::*;

/// Thread counts and batch budgets that must not matter; the first is the reference.
const SETTINGS: [(usize, usize); 4] = [(1, 1), (1, 100_000), (2, 600), (3, 2048)];

struct Subject {
    rerankers: Vec<Reranker>,
    texts: Vec<String>,
}

/// Each model in each precision with each setting, made once.
fn subjects() -> &'static [Subject] {
    static SUBJECTS: OnceLock<Vec<Subject>> = OnceLock::new();
    SUBJECTS.get_or_init(|| {
        let models = PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS);
        let each = models.flat_map(|model| [Precision::Int8, Precision::F32].map(|p| (model, p)));
        each.map(|(model, precision)| {
            let golden = golden::read(model);
            let rerankers = SETTINGS
                .iter()
                .map(|&(num_threads, max_batch_tokens)| {
                    let options = RerankerOptions {
                        num_threads: Some(num_threads),
                        max_batch_tokens,
                        ..RerankerOptions::default()
                    };
                    common::reranker(&golden::checkpoint(model), precision, &options)
                })
                .collect();
            let texts = golden
                .cases
                .iter()
                .filter(|case| case.document.len() < 600)
                .map(|case| case.document.clone())
                .collect();
            Subject { rerankers, texts }
        })
        .collect()
    })
}

fn request(query: &str, documents: &[String]) -> ScoreTask {
    ScoreTask { query: query.to_owned(), documents: documents.to_vec(), ..ScoreTask::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_score_depends_on_its_pair_alone(
        subject in any::<prop::sample::Index>(),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
        queries in prop::collection::vec("[a-zäöü中文 ?!]{1,40}", 1..3),
    ) {
        let subject = subject.get(subjects());
        let documents: Vec<String> = picks.iter().map(|pick| pick.get(&subject.texts).clone()).collect();
        let alone: Vec<Vec<u32>> = queries
            .iter()
            .map(|query| {
                documents
                    .iter()
                    .map(|document| {
                        let request = request(query, std::slice::from_ref(document));
                        subject.rerankers[0].score(&[request], &|| false).unwrap()[0][0].raw.to_bits()
                    })
                    .collect()
            })
            .collect();
        let requests: Vec<ScoreTask> = queries.iter().map(|query| request(query, &documents)).collect();
        let reversed: Vec<String> = documents.iter().rev().cloned().collect();
        let backwards: Vec<ScoreTask> = queries.iter().map(|query| request(query, &reversed)).collect();
        for reranker in &subject.rerankers {
            for (scores, alone) in reranker.score(&requests, &|| false).unwrap().iter().zip(&alone) {
                let bits: Vec<u32> = scores.iter().map(|score| score.raw.to_bits()).collect();
                prop_assert_eq!(&bits, alone);
            }
            for (scores, alone) in reranker.score(&backwards, &|| false).unwrap().iter().zip(&alone) {
                let bits: Vec<u32> = scores.iter().rev().map(|score| score.raw.to_bits()).collect();
                prop_assert_eq!(&bits, alone);
            }
        }
    }
}
