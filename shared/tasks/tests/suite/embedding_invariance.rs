//! An input's vectors are the same to the last bit alone, in any batch, whatever else is wanted, with any thread count and
//! any batch budget.

use super::common::{self, embed_one};

use defrost_model::Precision;
use defrost_tasks::{
    EmbedTask, Embedder, EmbedderOptions, Embedding, Input, ModelOptions, Outputs, PromptChoice,
};
use defrost_testing::golden::{self, EMBEDDING_MODELS, TOKEN_HEADS_MODEL};
use proptest::prelude::*;

fn bits(embedding: &Embedding) -> Vec<Vec<u32>> {
    let vectors = [&embedding.dense, &embedding.colbert, &embedding.tokens];
    let mut bits: Vec<Vec<u32>> =
        vectors.map(|vector| vector.iter().map(|value| value.to_bits()).collect()).into();
    bits.push(embedding.sparse.iter().flat_map(|(id, weight)| [*id, weight.to_bits()]).collect());
    bits
}

/// Thread counts and batch budgets that must not matter.
const SETTINGS: [(usize, usize); 3] = [(1, 1), (2, 90), (3, 2048)];

struct Subject {
    embedders: Vec<Embedder>,
    texts: Vec<String>,
    heads: bool,
}

fn subjects() -> &'static [Subject] {
    static SUBJECTS: std::sync::OnceLock<Vec<Subject>> = std::sync::OnceLock::new();
    SUBJECTS.get_or_init(|| {
        let each = EMBEDDING_MODELS.into_iter().flat_map(|model| {
            [Precision::Int8, Precision::F32].map(|precision| (model, precision))
        });
        each.map(|(model, precision)| {
            let embedder = |&(num_threads, max_batch_tokens): &(usize, usize)| {
                let options = ModelOptions {
                    num_threads: Some(num_threads),
                    max_batch_tokens,
                    ..ModelOptions::default()
                };
                let options = EmbedderOptions { model: options, any_dimensions: false };
                common::embedder(&golden::checkpoint(model), precision, &options)
            };
            let cases = golden::embeddings(model).cases.into_iter();
            Subject {
                embedders: SETTINGS.iter().map(embedder).collect(),
                texts: cases.map(|case| case.text).filter(|text| text.len() < 200).collect(),
                heads: model == TOKEN_HEADS_MODEL,
            }
        })
        .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Alone, beside others, beside itself, beside requests that want more or less: an input's vectors are the same to the
    /// bit.
    #[test]
    fn vectors_depend_on_their_input_alone(
        subject in any::<prop::sample::Index>(),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<bool>()), 1..14),
    ) {
        let Subject { embedders, texts, heads } = subject.get(subjects());
        let everything = Outputs { dense: true, sparse: *heads, colbert: *heads, tokens: true };
        let requests: Vec<EmbedTask> = picks
            .iter()
            .map(|(pick, whole, query)| EmbedTask {
                inputs: vec![pick.get(texts).as_str().into(), "a".into()],
                outputs: if *whole { everything } else { Outputs::default() },
                prompt: if *query { PromptChoice::Query } else { PromptChoice::None },
                ..EmbedTask::default()
            })
            .collect();
        let expected: Vec<Vec<Vec<Vec<u32>>>> = requests
            .iter()
            .map(|request| {
                let one = |input: &Input| bits(&embed_one(&embedders[0], input.clone(), request));
                request.inputs.iter().map(one).collect()
            })
            .collect();
        for embedder in embedders {
            let found = embedder.embed(&requests, &|| false).unwrap();
            let found: Vec<Vec<_>> =
                found.iter().map(|inputs| inputs.iter().map(bits).collect()).collect();
            prop_assert_eq!(&found, &expected);
            // The pooled vector does not change with what else is wanted.
            let pooled = EmbedTask { outputs: Outputs::default(), ..requests[0].clone() };
            let pooled = embedder.embed(&[pooled], &|| false).unwrap();
            prop_assert_eq!(&bits(&pooled[0][0])[0], &expected[0][0][0]);
        }
    }
}
