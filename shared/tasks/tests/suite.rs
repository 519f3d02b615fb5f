//! Behaviour of the crate on tiny models, in one binary.

#![allow(clippy::print_stdout, reason = "tests print their figures")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod suite {
    mod cases;
    mod checkpoints;
    mod common;
    mod contradictions;
    mod embedding_files;
    mod embedding_invariance;
    mod embedding_rules;
    mod embeddings;
    mod f16;
    mod generation;
    mod generation_logits;
    mod golden;
    mod invariance;
    mod language_models;
    mod named_tokens;
    mod onnx;
    mod outliers;
    mod pieces;
    mod real_tokenizers;
    mod refusals;
    mod snapshots;
    mod steps;
    mod stored_prefix;
    mod truncation;
}
