//! Runs snapshots on an NVIDIA GPU, with kernels of our own.
//!
//! ```text
//! kernels/*.cu   the sources, compiled by nvcc for each compute capability, and by g++ for the emulator
//! kernels        a kernel's arguments -> a Launch: its name, geometry and parameters
//! weights        what a pass calls the tensors in the arena; refuses what no kernel runs
//! pass           a batch as numbers on the device
//! forward        the blueprint's words as launches
//! runtime        the Runtime that functions link: opens the device while the snapshot is restored
//! runner         a model on a device, one pass after the other
//! graphs         small passes that are started as one
//! tuned          which tile is fastest for each product, measured on the card
//! arena, upload  where each tensor of a snapshot lies on the device, and how it comes there
//! cubins         the kernels as the binary carries them
//! launch         what any device can start
//! device         memory, streams, launches, events and graphs: of a card, or of the CPU, for tests
//! ```
//!
//! The sources are written once and compiled twice: for the card, and for the CPU under a header that gives CUDA's names a
//! meaning there (`defrost-gpu-emulator`). So every kernel is proved where no card is at hand; speed alone needs one.

pub mod arena;
pub mod cubins;
pub mod device;
mod forward;
mod graphs;
pub mod kernels;
pub mod launch;
mod pass;
pub mod runner;
pub mod runtime;
mod tuned;
pub mod upload;
mod weights;
mod workspace;

pub use launch::{Address, Launch, Params};
pub use runtime::{Gpu, RUNTIME};
