//! Never published: fixtures and tolerances that the tests of several crates share, and the S3
//! server that misbehaves on request.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on should say where"))]

pub mod cases;
pub mod golden;
pub mod s3;
