//! Never published: fixtures and tolerances that the tests of several crates share.

pub mod golden;
