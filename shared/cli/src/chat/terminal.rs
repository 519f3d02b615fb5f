//! A conversation in the terminal: lines that are edited, commands, answers as they come.
//!
//! Ctrl-C stops an answer: while one comes, it is a signal that is waited for beside the stream. While a line is edited, the
//! terminal hands it over as a key, and it takes the line away. Only Ctrl-D and `/quit` end the program.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::session::Session;
use super::talker::{Show, Talker};
use crate::print::{Closed, note, say};

const HELP: &str = "\
/system TEXT      what the model is told before anything else; without TEXT shows it, with - takes it away
/set NAME VALUE   an option: temperature, top_p, top_k, min_p, seed, max_tokens, repetition_penalty,
                  frequency_penalty, presence_penalty; without VALUE the model's own again; /set alone shows them
/clear            begins anew, with the same system prompt and options
/save FILE        writes the conversation, /load FILE goes on with one
/stats            tokens and tokens a second
/quit             ends, as Ctrl-D does
A line that ends with \\ goes on in the next; //x says /x to the model; Ctrl-C stops an answer.";

/// What a line asks for.
enum Asked {
    Question(String),
    /// It is done.
    Nothing,
    End,
}

/// Talks until the end is asked for.
pub(super) fn converse(session: &mut Session, talker: &Talker, runtime: &Runtime) -> Result<()> {
    let mut editor = DefaultEditor::new().context("cannot read from this terminal")?;
    let show = Show::people();
    note!("/help lists what else there is; Ctrl-D ends");
    loop {
        let Some(line) = next_line(&mut editor)? else { return Ok(()) };
        let asked = match asked(session, &line) {
            Ok(asked) => asked,
            Err(error) if error.is::<Closed>() => return Err(error),
            Err(error) => {
                note!("{error:#}");
                continue;
            }
        };
        let question = match asked {
            Asked::Question(question) => question,
            Asked::Nothing => continue,
            Asked::End => return Ok(()),
        };
        let mut interrupt = {
            let _entered = runtime.enter();
            signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?
        };
        match session.ask(talker, runtime, question, show, Some(&mut interrupt)) {
            Ok(answer) => note!("{}", answer.figures()),
            Err(error) if error.is::<Closed>() => return Err(error),
            // The conversation goes on.
            Err(error) => note!("{error:#}"),
        }
    }
}

/// The next line, with those that it goes on in; none at the end.
fn next_line(editor: &mut DefaultEditor) -> Result<Option<String>> {
    let (mut line, mut prompt) = (String::new(), "> ");
    loop {
        match editor.readline(prompt) {
            Ok(more) => {
                line.push_str(&more);
                if line.ends_with('\\') {
                    line.pop();
                    line.push('\n');
                    prompt = ". ";
                    continue;
                }
                // A line that cannot be kept can be typed again.
                let _ = editor.add_history_entry(&line);
                return Ok(Some(line));
            }
            Err(ReadlineError::Interrupted) => {
                note!("Ctrl-D or /quit ends");
                (line, prompt) = (String::new(), "> ");
            }
            Err(ReadlineError::Eof) => return Ok(None),
            Err(error) => bail!("cannot read from the terminal: {error}"),
        }
    }
}

fn asked(session: &mut Session, line: &str) -> Result<Asked> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(Asked::Nothing);
    }
    let Some(command) = line.strip_prefix('/') else {
        return Ok(Asked::Question(line.to_owned()));
    };
    if command.starts_with('/') {
        return Ok(Asked::Question(command.to_owned()));
    }
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    match name {
        "help" | "?" => say!("{HELP}")?,
        "quit" | "exit" | "bye" => return Ok(Asked::End),
        "clear" => {
            session.clear();
            note!("the conversation begins anew");
        }
        "system" if rest.is_empty() => {
            say!("{}", session.system().unwrap_or("there is no system prompt"))?;
        }
        "system" => session.set_system(if rest == "-" { "" } else { rest }),
        "set" if rest.is_empty() => match session.options()[..] {
            [] => say!("all options are the model's own")?,
            ref options => say!("{}", options.join("\n"))?,
        },
        "set" => {
            let (name, value) = rest.split_once([' ', '=', '\t']).unwrap_or((rest, ""));
            session.set(name, value.trim())?;
        }
        "stats" => say!("{}", session.stats())?,
        "save" => {
            session.save(file(name, rest)?)?;
            note!("{} messages are saved", session.len());
        }
        "load" => {
            session.load(file(name, rest)?)?;
            note!("{} messages are loaded", session.len());
        }
        _ => bail!("/{name} is no command; /help lists them, and //{name} says it to the model"),
    }
    Ok(Asked::Nothing)
}

fn file<'a>(command: &str, rest: &'a str) -> Result<&'a Path> {
    if rest.is_empty() {
        bail!("/{command}: expected a file, found none: /{command} talk.json");
    }
    Ok(Path::new(rest))
}
