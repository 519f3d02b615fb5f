//! Behaviour of writer, reader and verifier together; in the crate because they use small chunks.

mod bits;
#[cfg(target_os = "linux")]
mod corpus;
mod corruption;
mod damage;
mod edits;
mod hostile;
mod modes;
mod readings;
mod refusals;
#[cfg(feature = "s3")]
mod remote;
mod round_trip;
mod support;
