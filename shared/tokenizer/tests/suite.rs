//! Compiled tokenizers against the `tokenizers` crate.

#![allow(clippy::print_stdout, reason = "tests print their figures")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod suite {
    mod added_tokens;
    mod code_points;
    mod common;
    mod fuzz;
    mod golden;
    mod hostile;
    mod language_models;
    mod made_up;
    mod real_texts;
    mod trimmed;
    mod unsupported;
}
