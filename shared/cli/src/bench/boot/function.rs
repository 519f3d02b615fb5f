//! A function that is started to be measured, and its first answer.
//!
//! The request is sent as soon as the port takes connections; the function holds it until the model is ready. Polls without
//! pause: a connection refused on loopback costs microseconds, a sleep would be part of the figure.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::stream::{self, Said};
use super::{Setup, Work};
use crate::http;

/// How long a function may take to bind its port and answer.
const PATIENCE: Duration = Duration::from_mins(5);

/// A function that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Function {
    child: Child,
    address: SocketAddr,
    started: Instant,
}

/// Its first answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct First {
    /// From just before `exec` to the last byte of the answer, or of a streamed one to its first token.
    pub(super) ms: f64,
    /// Tokens of a prompt, and how many of them were not computed.
    pub(super) prompt: u64,
    pub(super) cached: u64,
}

impl Function {
    /// Starts it on a free port; what it says goes into `log`.
    pub(super) fn start(setup: &Setup<'_>, log: &Path) -> Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new(&setup.function);
        command
            .env_remove("AWS_LAMBDA_RUNTIME_API")
            .env("MODEL", setup.model.to_string())
            .env("HOST", "127.0.0.1")
            .env("PORT", free.to_string())
            .env("VERIFY", &setup.args.verify)
            .stdout(std::fs::File::create(log)?)
            .stderr(std::fs::File::options().append(true).open(log)?)
            .stdin(Stdio::null());
        if let Some(threads) = setup.args.num_threads {
            command.env("NUM_THREADS", threads.to_string());
        }
        if setup.args.empty_cache {
            let cache = setup.scratch.join("cache");
            // It is not there before the first run.
            let _ = std::fs::remove_dir_all(&cache);
            command.env("CACHE_DIR", cache);
        }
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", setup.function.display()))?;
        Ok(Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, free)), started })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The answer to the first request.
    pub(super) fn first(&mut self, work: &Work) -> Result<First> {
        let mut connection = self.connect()?;
        send(&mut connection, self.address, work.path(), &work.body())?;
        if let Work::Chat { .. } = work {
            let mut first = First::default();
            stream::read(&mut connection, |said| match said {
                Said::Content if first.ms == 0.0 => first.ms = self.elapsed(),
                Said::Content => {}
                Said::Usage { prompt, cached } => (first.prompt, first.cached) = (prompt, cached),
            })?;
            if first.ms == 0.0 {
                bail!("the answer has no content");
            }
            return Ok(first);
        }
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer)?;
        let ms = self.elapsed();
        let head = String::from_utf8_lossy(&answer);
        if !head.starts_with("HTTP/1.1 200 ") {
            bail!("the first answer is {}", head.trim());
        }
        Ok(First { ms, ..First::default() })
    }

    /// Another answer, as JSON; waits for the function as the first one does.
    pub(super) fn ask(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        drop(self.connect()?);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = http::request(self.address, method, path, &body)?;
        if status != 200 {
            bail!("{path} has status {status}: {answer}");
        }
        serde_json::from_str(&answer).with_context(|| format!("{path} answered {answer}"))
    }

    fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64() * 1e3
    }

    fn connect(&mut self) -> Result<TcpStream> {
        loop {
            if let Ok(connection) = TcpStream::connect(self.address) {
                connection.set_nodelay(true)?;
                connection.set_read_timeout(Some(PATIENCE))?;
                return Ok(connection);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the function ended before its first answer: {status}");
            }
            if self.started.elapsed() > PATIENCE {
                bail!("no answer within {} s", PATIENCE.as_secs());
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(connection: &mut TcpStream, host: SocketAddr, path: &str, body: &Value) -> Result<()> {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    Ok(connection.write_all(format!("{head}{body}").as_bytes())?)
}

/// A message with which the prompt of a conversation has just so many tokens, and the id of a token that is a letter: the
/// function knows the template and the tokenizer. Starts it once more, which is not measured.
pub(super) fn conversation(setup: &Setup<'_>, tokens: usize, log: &Path) -> Result<Work> {
    const WORDS: &str =
        "where do plants get their food from and how do they keep it through a long winter ";
    let mut function = Function::start(setup, log)?;
    let text = |len: usize| WORDS.chars().cycle().take(len).collect::<String>();
    let mut count = |len: usize| -> Result<usize> {
        let messages = json!([{"role": "user", "content": text(len)}]);
        let answer = function.ask("POST", "/tokenize", &json!({ "messages": messages }))?;
        let count = answer["count"].as_u64().context("/tokenize answered without a count")?;
        Ok(usize::try_from(count)?)
    };
    let least = count(1)?;
    if least > tokens {
        bail!("--prompt-tokens {tokens}: a prompt of this template has {least} or more");
    }
    // A token has a character at least: the last length at which there are not too many.
    let (mut fits, mut exceeds) = (1, 2);
    while count(exceeds)? <= tokens {
        (fits, exceeds) = (exceeds, exceeds * 2);
    }
    while exceeds - fits > 1 {
        let middle = usize::midpoint(fits, exceeds);
        if count(middle)? <= tokens {
            fits = middle;
        } else {
            exceeds = middle;
        }
    }
    let answer =
        function.ask("POST", "/tokenize", &json!({"content": "a", "add_special": false}))?;
    let letter = answer["tokens"][0].as_u64().or_else(|| answer["tokens"][0]["id"].as_u64());
    let letter = letter.context("/tokenize knows no token for a letter")?;
    Ok(Work::Chat { content: text(fits), letter })
}
