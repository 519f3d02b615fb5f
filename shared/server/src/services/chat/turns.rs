//! Completions of many requests on one model: rounds are steps of [`defrost_tasks::Scheduler`], one at a time.
//!
//! Every request is the scheduler's at once, which knows when there is memory for it. It gives its place in the queue
//! up when its first step begins, so `MAX_QUEUE` bounds those that wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use defrost_model::Constraint;
use defrost_tasks::{
    Error, Failed, Finish, Generated, GenerationJob, GenerationTask, Produced, ProducedToken,
    Scheduler, SchedulerLoad, SchedulerOptions,
};
use tokio::sync::OwnedSemaphorePermit;

use super::chat_model::ChatModel;
use super::slot_list::SlotTask;
use crate::models::command::Queued;
use crate::models::events::End;
use crate::models::job::{Generating, Work};
use crate::models::turns::{Ended, Round, Turns};
use crate::models::usage::{Load, Times};

/// See the module page.
pub(crate) struct Generation {
    scheduler: Scheduler<Tracked>,
    options: SchedulerOptions,
    model: Arc<ChatModel>,
    /// The number of the next completion.
    next: u64,
}

impl Generation {
    pub(crate) fn new(model: Arc<ChatModel>, options: SchedulerOptions) -> Self {
        let scheduler = scheduler(&model, options);
        Self { scheduler, options, model, next: 0 }
    }
}

fn scheduler(model: &ChatModel, options: SchedulerOptions) -> Scheduler<Tracked> {
    let ends = model.spec().ends.iter().copied().collect();
    Scheduler::of(model.pieces().clone(), ends, model.limits(), options)
}

impl Turns for Generation {
    fn push(&mut self, queued: Queued) {
        let Queued { job, tokenize, since, place } = queued;
        match job {
            Work::Generation(job) => {
                let (place, started) = (Some(place), None);
                let task = job.task();
                let slot = |id: u64| Arc::new(SlotTask::new(id, task));
                let slots: Vec<_> = (self.next..).take(task.n).map(slot).collect();
                self.next += slots.len() as u64;
                self.scheduler.push(Tracked { job, place, since, tokenize, started, slots });
            }
            other @ Work::Passes(_) => other.refuse(),
        }
    }

    fn is_empty(&self) -> bool {
        self.scheduler.is_empty()
    }

    fn round(&mut self) -> Round {
        let Ok(decoder) = self.model.decoder() else {
            // Their requests are told that there is no model.
            self.scheduler = scheduler(&self.model, self.options);
            return Round::default();
        };
        let cancelled = self.scheduler.drop_cancelled(decoder);
        let ended = match self.scheduler.step(decoder) {
            Ok(ended) => ended.into_iter().map(Tracked::ended).collect(),
            Err(Failed { jobs, error }) => {
                let error = Arc::new(error);
                jobs.into_iter().map(|job| job.end(Err(Arc::clone(&error)))).collect()
            }
        };
        let SchedulerLoad { running, waiting, preempted: _ } = self.scheduler.load();
        let load = Load { running, waiting, room: decoder.room() };
        let running = self.scheduler.completions();
        let slots = running.filter_map(|(job, choice)| job.slots.get(choice));
        self.model.note_slots(|known| known.note(slots));
        Round { ended, cancelled, load: Some(load) }
    }
}

/// The model holds nothing for requests that nobody runs any more.
impl Drop for Generation {
    fn drop(&mut self) {
        if let Ok(decoder) = self.model.decoder() {
            drop(self.scheduler.close(decoder));
        }
        self.model.note_slots(|known| known.note([].into_iter()));
    }
}

/// A job from its place in the queue to its end.
pub(crate) struct Tracked {
    job: Box<dyn Generating>,
    /// Its place in the queue, until the model begins with it.
    place: Option<OwnedSemaphorePermit>,
    since: Instant,
    tokenize: Duration,
    started: Option<Instant>,
    /// Its completions, for those who watch.
    slots: Vec<Arc<SlotTask>>,
}

impl Tracked {
    fn ended(Generated { mut job, result }: Generated<Self>) -> Ended {
        let result = result.map(|usage| job.job.took(usage));
        job.end(result.map_err(Arc::new))
    }

    /// Ends it, with the error if there is one.
    fn end(self, result: Result<(), Arc<Error>>) -> Ended {
        let Self { job, since, tokenize, started, .. } = self;
        let started = started.unwrap_or_else(Instant::now);
        let queue = (started - since).saturating_sub(tokenize);
        let times = Times { queue, tokenize, inference: started.elapsed() };
        Ended { job: Work::Generation(job), end: End { result, times } }
    }
}

impl GenerationJob for Tracked {
    fn task(&self) -> &GenerationTask {
        self.job.task()
    }

    fn constraint(&mut self, choice: usize) -> Option<&mut dyn Constraint> {
        self.job.constraint(choice)
    }

    fn is_cancelled(&self) -> bool {
        self.job.is_cancelled()
    }

    fn started(&mut self, cached: usize) {
        self.started = Some(Instant::now());
        self.place = None;
        for slot in &self.slots {
            slot.progress.cached.store(cached, Ordering::Relaxed);
        }
        self.job.started(cached);
    }

    fn prompt_scored(&mut self, tokens: Vec<ProducedToken>) {
        self.job.prompt_scored(tokens);
    }

    fn produced(&mut self, choice: usize, produced: Produced) {
        if let Some(slot) = self.slots.get(choice).filter(|_| !produced.is_echo) {
            slot.produced(produced.tokens.len(), &produced.text);
        }
        self.job.produced(choice, produced);
    }

    fn finished(&mut self, choice: usize, finish: &Finish) {
        self.job.finished(choice, finish);
    }
}
