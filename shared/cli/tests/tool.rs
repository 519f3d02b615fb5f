//! The tool as its users run it: the real binary, tiny checkpoints, servers on loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod tool {
    mod boot;
    mod cache;
    mod cases;
    mod chat;
    #[cfg(feature = "parquet")]
    mod columns;
    mod commands;
    mod compare;
    mod deciding;
    mod elsewhere;
    mod embed;
    mod embed_remote;
    mod few_threads;
    mod foreign;
    mod full_disk;
    mod https;
    #[cfg(feature = "hub")]
    mod hub;
    mod lines;
    mod overwrite;
    mod printing;
    mod rerank;
    mod resume;
    mod said;
    mod serve;
    mod server;
    #[cfg(feature = "s3")]
    mod store;
    mod support;
    mod synth;
}
