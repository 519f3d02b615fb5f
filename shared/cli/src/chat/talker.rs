//! Whom is talked to: a model in this process, or a server.

use std::io::IsTerminal;
use std::time::Instant;

use anyhow::Result;
use tokio::runtime::Runtime;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Args;
use super::answer::{Answer, Piece};
use super::here::Here;
use super::there::There;
use crate::print;

/// Bytes of a stream as they come, or why there are no more.
pub(super) type Stream = UnboundedReceiver<Result<Vec<u8>>>;

/// See the module page.
pub(super) enum Talker {
    Here(Box<Here>),
    There(There),
}

impl Talker {
    /// Loads the model, or finds the server's.
    pub(super) fn open(args: &Args, runtime: &Runtime) -> Result<Self> {
        match &args.url {
            Some(url) => There::find(url, args).map(Self::There),
            None => Here::load(args, runtime).map(Box::new).map(Self::Here),
        }
    }

    /// The model's name, where requests must say it.
    pub(super) fn model(&self) -> Option<&str> {
        match self {
            Self::Here(_) => None,
            Self::There(there) => Some(there.model()),
        }
    }

    /// Asks; what is asked for is given up when the stream is dropped.
    fn ask(&self, runtime: &Runtime, body: String) -> Result<Stream> {
        match self {
            Self::Here(here) => Ok(here.ask(runtime, body)),
            Self::There(there) => there.ask(body),
        }
    }

    /// Asks, shows the answer as it comes, and gives it; `interrupt` stops it. With an error, what came before it.
    pub(super) fn answer(
        &self,
        runtime: &Runtime,
        body: String,
        show: Show,
        interrupt: Option<&mut Signal>,
    ) -> (Answer, Result<()>) {
        let mut answer = Answer::begin(Instant::now());
        let result = self.ask(runtime, body).and_then(|stream| {
            let mut shown = show.begin();
            let read = runtime.block_on(read(stream, &mut answer, &mut shown, interrupt));
            let ended = shown.end(&answer);
            read.and(ended)
        });
        (answer, result)
    }
}

async fn read(
    mut stream: Stream,
    answer: &mut Answer,
    shown: &mut Shown,
    mut interrupt: Option<&mut Signal>,
) -> Result<()> {
    loop {
        let interrupted = async {
            match &mut interrupt {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        let bytes = tokio::select! {
            biased;
            _ = interrupted => {
                answer.is_stopped = true;
                return Ok(());
            }
            bytes = stream.recv() => bytes,
        };
        let Some(bytes) = bytes else { return answer.end() };
        for piece in answer.feed(&bytes?, Instant::now())? {
            shown.piece(&piece)?;
        }
    }
}

/// How answers are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Show {
    /// Whether thoughts are.
    thoughts: bool,
    /// Whether they are told apart by brightness.
    dim: bool,
    /// Whether control characters, which would do something to a terminal, are left out.
    terminal: bool,
}

impl Show {
    /// The answer alone.
    pub(super) fn plain() -> Self {
        Self { thoughts: false, dim: false, terminal: std::io::stdout().is_terminal() }
    }

    /// For people.
    pub(super) fn people() -> Self {
        let is_dull = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { thoughts: true, dim: !is_dull, terminal: true }
    }

    fn begin(self) -> Shown {
        Shown { show: self, is_thought: false, is_begun: false, ends_line: true }
    }
}

/// An answer on its way to stdout.
struct Shown {
    show: Show,
    /// Whether what was shown last is a thought.
    is_thought: bool,
    is_begun: bool,
    ends_line: bool,
}

const DIM: &str = "\x1b[2m";
const BRIGHT: &str = "\x1b[0m";

impl Shown {
    fn piece(&mut self, piece: &Piece) -> Result<()> {
        let (text, is_thought) = match piece {
            Piece::Thought(_) if !self.show.thoughts => return Ok(()),
            Piece::Thought(text) => (text, true),
            Piece::Text(text) => (text, false),
        };
        if is_thought != self.is_thought {
            self.turn(is_thought)?;
        }
        let text: String = text.chars().filter(|&letter| self.is_shown(letter)).collect();
        // White space before the first word would look like a missing answer.
        let text = if self.is_begun || !self.show.thoughts { &text } else { text.trim_start() };
        if !text.is_empty() {
            self.is_begun = true;
            self.ends_line = text.ends_with('\n');
            print::piece(text)?;
        }
        Ok(())
    }

    fn is_shown(&self, letter: char) -> bool {
        !self.show.terminal || !letter.is_control() || matches!(letter, '\n' | '\t')
    }

    fn turn(&mut self, is_thought: bool) -> Result<()> {
        self.is_thought = is_thought;
        if self.show.dim {
            print::piece(if is_thought { DIM } else { BRIGHT })?;
        }
        if self.is_begun {
            print::piece(if self.ends_line { "\n" } else { "\n\n" })?;
            self.is_begun = false;
        }
        Ok(())
    }

    /// Ends the last line, however the answer ended.
    fn end(mut self, answer: &Answer) -> Result<()> {
        if self.is_thought {
            self.is_begun = false;
            self.turn(false)?;
        }
        let says_nothing = answer.text.is_empty() && !self.is_begun;
        if self.ends_line || says_nothing && !self.show.thoughts {
            Ok(())
        } else {
            print::piece("\n")
        }
    }
}
