//! What comes from the model for one request: the parts of its prompts' completions, as they are made.
//!
//! A request for completions may have several prompts, each of which is a job of its own with events of its own. Here
//! they are one list again. No prompt's parts are read at the expense of another's: after each part the next prompt
//! is asked first.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::job::{ReplyPart, Unread};
use crate::error::ApiError;
use crate::models::events::{End, Event, Events};
use crate::models::usage::Times;

/// See the module page.
pub(crate) struct Incoming {
    prompts: Vec<Prompt>,
    /// Which of them is asked first.
    turn: usize,
}

struct Prompt {
    events: Events<ReplyPart>,
    unread: Arc<Unread>,
    is_over: bool,
}

/// What has come.
#[derive(Debug)]
pub(crate) enum Came {
    Part(ReplyPart),
    /// The prompt is done with; where its time went.
    End(Times),
}

impl Incoming {
    /// The events of a request's prompts, in their order.
    pub(crate) fn of(prompts: impl IntoIterator<Item = (Events<ReplyPart>, Arc<Unread>)>) -> Self {
        let of = |(events, unread)| Prompt { events, unread, is_over: false };
        Self { prompts: prompts.into_iter().map(of).collect(), turn: 0 }
    }

    /// What comes next, with the number of its prompt; `None` when all of them are over.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(usize, Came), ApiError>>> {
        let count = self.prompts.len();
        let mut is_over = true;
        for step in 0..count {
            let at = (self.turn + step) % count;
            let prompt = &mut self.prompts[at];
            if prompt.is_over {
                continue;
            }
            is_over = false;
            if let Poll::Ready(came) = prompt.poll_next(cx) {
                self.turn = (at + 1) % count;
                return Poll::Ready(Some(came.map(|came| (at, came))));
            }
        }
        if is_over { Poll::Ready(None) } else { Poll::Pending }
    }

    #[cfg(test)]
    async fn next(&mut self) -> Option<Result<(usize, Came), ApiError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Prompt {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Came, ApiError>> {
        self.events.poll_next(cx).map(|event| match event {
            Some(Event::Part(part)) => {
                self.unread.taken(&part);
                Ok(Came::Part(part))
            }
            Some(Event::End(End { result, times })) => {
                self.is_over = true;
                result.map(|()| Came::End(times)).map_err(|error| (&*error).into())
            }
            // Its job is gone: given up because too much lay unread, or with the model's thread.
            None => {
                self.is_over = true;
                Err(if self.unread.is_too_much() {
                    ApiError::read_too_slowly()
                } else {
                    ApiError::unavailable()
                })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use defrost_tasks::GenerationTask;

    use super::*;
    use crate::models::events::{self, Sink};

    fn prompts(count: usize) -> (Vec<Sink<ReplyPart>>, Incoming) {
        let unread = || {
            let unread = Unread::default();
            unread.allow(&GenerationTask::new(vec![1]), 4);
            Arc::new(unread)
        };
        let (sinks, events): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| events::channel())
            .map(|(sink, events)| (sink, (events, unread())))
            .unzip();
        (sinks, Incoming::of(events))
    }

    fn end(sink: Sink<ReplyPart>) {
        sink.end(End { result: Ok(()), times: Times::default() });
    }

    async fn next(incoming: &mut Incoming) -> Option<(usize, bool)> {
        let came = incoming.next().await?.expect("no error");
        Some((came.0, matches!(came.1, Came::Part(_))))
    }

    #[tokio::test]
    async fn prompts_have_their_turns_and_all_come_to_an_end() {
        let (sinks, mut incoming) = prompts(3);
        for sink in &sinks {
            for _ in 0..2 {
                sink.part(ReplyPart::Started { cached: 0 });
            }
        }
        for prompt in &incoming.prompts {
            let part = ReplyPart::Started { cached: 0 };
            prompt.unread.sent(&part);
            prompt.unread.sent(&part);
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            order.push(next(&mut incoming).await.expect("a part").0);
        }
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        for sink in sinks.into_iter().rev() {
            end(sink);
        }
        for prompt in 0..3 {
            assert_eq!(next(&mut incoming).await, Some((prompt, false)));
        }
        assert_eq!(next(&mut incoming).await, None);
    }

    #[tokio::test]
    async fn a_model_that_goes_away_is_an_error_and_not_an_end() {
        let (sinks, mut incoming) = prompts(1);
        drop(sinks);
        let error = incoming.next().await.expect("something").expect_err("no end");
        assert!(error.to_string().contains("could not be restored"), "{error}");
        assert!(incoming.next().await.is_none());
    }
}
