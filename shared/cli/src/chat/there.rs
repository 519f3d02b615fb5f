//! A server that speaks OpenAI's protocol.
//!
//! A thread reads the answer, since a connection cannot be read and listened beside at once. When nobody takes what it reads
//! it ends with the next bytes that come, and closes the connection, by which the server knows.

use std::io::Read;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::sync::mpsc::unbounded_channel;

use super::Args;
use super::answer::fault;
use super::talker::Stream;
use crate::function::{Function, Streamed};

/// Bytes that are read at once; an event has some hundred.
const PIECE: usize = 8 << 10;

/// See the module page.
pub(super) struct There {
    function: Arc<Function>,
    /// What goes before the routes: nothing where the address has it already.
    base: &'static str,
    model: String,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    /// What it is for, where a server of several kinds says so.
    #[serde(default)]
    capabilities: Vec<String>,
}

impl There {
    /// Finds the server, and its model if none is named.
    pub(super) fn find(url: &str, args: &Args) -> Result<Self> {
        let function = Function::new(url, &args.key)?;
        let base = if url.trim_end_matches('/').ends_with("/v1") { "" } else { "/v1" };
        let model = match &args.target {
            Some(model) => model.clone(),
            None => first_model(&function, base)?,
        };
        Ok(Self { function: Arc::new(function), base, model })
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn ask(&self, body: String) -> Result<Stream> {
        let (sender, stream) = unbounded_channel();
        let function = Arc::clone(&self.function);
        let path = format!("{}/chat/completions", self.base);
        let ask = move || {
            let mut body = match function.stream(&path, body) {
                Ok(Streamed::Body(body)) => body,
                Ok(Streamed::Refused(answer)) => {
                    let error = anyhow::anyhow!(
                        "{function}{path}: {}",
                        answer.said_as(&fault(&answer.body))
                    );
                    return drop(sender.send(Err(error)));
                }
                Err(error) => return drop(sender.send(Err(error))),
            };
            let mut buffer = vec![0; PIECE];
            loop {
                let read = match body.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(read) => Ok(buffer[..read].to_vec()),
                    Err(error) => {
                        Err(error).with_context(|| format!("no complete answer from {function}"))
                    }
                };
                let is_last = read.is_err();
                if sender.send(read).is_err() || is_last {
                    return;
                }
            }
        };
        thread::Builder::new().name("answer".into()).spawn(ask).context("cannot start a thread")?;
        Ok(stream)
    }
}

/// The model that is meant by whoever names none: the first that talks, as far as the server says what its models do.
fn first_model(function: &Function, base: &str) -> Result<String> {
    let path = format!("{base}/models");
    let answer = function.get(&path)?;
    if answer.status != 200 {
        bail!("{function}{path}: {}", answer.said_as(&fault(&answer.body)));
    }
    let name_it = "name the model that is to answer: defrost chat NAME --url …";
    let Ok(Models { data }) = serde_json::from_str(&answer.body) else {
        bail!("{function}{path}: expected a list of models, found another answer; {name_it}");
    };
    let all: Vec<&str> = data.iter().map(|model| &*model.id).collect();
    let talks = |model: &&Model| {
        model.capabilities.is_empty()
            || model.capabilities.iter().any(|one| one == "chat" || one == "completion")
    };
    match data.iter().find(talks) {
        Some(model) => Ok(model.id.clone()),
        None if all.is_empty() => bail!("{function}{path}: the server has no model"),
        None => bail!(
            "{function}: expected a model that talks, found {}; start the function chat, or {name_it}",
            all.join(", ")
        ),
    }
}
