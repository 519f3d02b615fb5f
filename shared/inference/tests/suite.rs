//! Behaviour of the crate on tiny models, in one binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod suite {
    mod common;
    mod golden;
    mod invariance;
    mod refusals;
    mod snapshots;
}
