//! Chat and completions on the wire: requests of every API, and the bytes of their answers.

#![allow(clippy::too_many_lines, reason = "tables of bodies")]

#[path = "chat/answers.rs"]
mod answers;
#[path = "chat/clients.rs"]
mod clients;
#[path = "chat/common.rs"]
mod common;
#[path = "chat/conversations.rs"]
mod conversations;
#[path = "chat/rules.rs"]
mod rules;
#[path = "chat/streams.rs"]
mod streams;
