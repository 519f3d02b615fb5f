//! Which completions run, under numbers, as those who watch a server of llama.cpp's know them.
//!
//! ```text
//! model's thread ── after each step: what runs ──> Slots ── GET /slots ──> whoever watches
//! ```
//!
//! A completion gets the lowest free number when it begins to run and has it until it ends, or is put back to wait for
//! memory; then it may come back under another one. A slot goes on telling of its last completion when that has ended.
//! Nothing of any text is told here, only numbers: whoever may watch need not be whoever asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use defrost_tasks::{GenerationTask, Sampling};

/// What stays the same of a completion while it runs.
#[derive(Debug)]
pub(crate) struct SlotTask {
    /// Its number among all that this model was asked for.
    pub(crate) id: u64,
    /// Tokens of its prompt.
    pub(crate) prompt: usize,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) sampling: Sampling,
    pub(crate) ignore_eos: bool,
    pub(crate) logprobs: Option<usize>,
    /// How far it is.
    pub(crate) progress: SlotProgress,
}

/// How far a completion is; written by the model's thread, read by whoever asks.
#[derive(Debug, Default)]
pub(crate) struct SlotProgress {
    /// Tokens of the prompt that were known already.
    pub(crate) cached: AtomicUsize,
    /// Tokens of the completion that are told.
    pub(crate) decoded: AtomicUsize,
    pub(crate) has_new_line: AtomicBool,
}

impl SlotTask {
    /// A completion of this task.
    pub(crate) fn new(id: u64, task: &GenerationTask) -> Self {
        Self {
            id,
            prompt: task.prompt.len(),
            max_tokens: task.max_tokens,
            sampling: task.sampling.clone(),
            ignore_eos: task.ignore_eos,
            logprobs: task.logprobs,
            progress: SlotProgress::default(),
        }
    }

    /// Notes more of it.
    pub(crate) fn produced(&self, tokens: usize, text: &str) {
        self.progress.decoded.fetch_add(tokens, Ordering::Relaxed);
        if text.contains('\n') {
            self.progress.has_new_line.store(true, Ordering::Relaxed);
        }
    }
}

/// One slot: the completion that runs in it, or the last one that did.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) task: Arc<SlotTask>,
    pub(crate) is_processing: bool,
}

/// See the module page. Slots that never had a completion are not there.
#[derive(Debug, Default)]
pub(crate) struct Slots(Vec<Slot>);

impl Slots {
    /// Notes that these run now, and no others.
    pub(crate) fn note<'a>(&mut self, running: impl Iterator<Item = &'a Arc<SlotTask>>) {
        let running: Vec<&Arc<SlotTask>> = running.collect();
        for slot in &mut self.0 {
            slot.is_processing =
                slot.is_processing && running.iter().any(|task| task.id == slot.task.id);
        }
        for task in running {
            let has_one = |slot: &Slot| slot.is_processing && slot.task.id == task.id;
            if self.0.iter().any(has_one) {
                continue;
            }
            let slot = Slot { task: Arc::clone(task), is_processing: true };
            match self.0.iter_mut().find(|slot| !slot.is_processing) {
                Some(free) => *free = slot,
                None => self.0.push(slot),
            }
        }
    }

    /// All that there are.
    pub(crate) fn list(&self) -> Vec<Slot> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task(id: u64) -> Arc<SlotTask> {
        Arc::new(SlotTask::new(id, &GenerationTask::new(vec![1])))
    }

    fn told(slots: &Slots) -> Vec<(u64, bool)> {
        slots.list().iter().map(|slot| (slot.task.id, slot.is_processing)).collect()
    }

    #[test]
    fn a_completion_keeps_its_number_and_a_new_one_gets_the_lowest() {
        let tasks: Vec<_> = (0..4).map(task).collect();
        let mut slots = Slots::default();
        slots.note(tasks[..3].iter());
        assert_eq!(told(&slots), [(0, true), (1, true), (2, true)]);
        slots.note([&tasks[2], &tasks[0]].into_iter());
        assert_eq!(told(&slots), [(0, true), (1, false), (2, true)]);
        slots.note([&tasks[2], &tasks[0], &tasks[3]].into_iter());
        assert_eq!(told(&slots), [(0, true), (3, true), (2, true)]);
        slots.note([].into_iter());
        assert_eq!(told(&slots), [(0, false), (3, false), (2, false)]);
    }

    proptest! {
        /// Whatever starts and ends: what runs has one slot each, which does not change while it runs, and there are never
        /// more than ever ran at once.
        #[test]
        fn what_runs_has_a_slot_each(rounds in prop::collection::vec(prop::collection::btree_set(0..12u64, 0..8), 1..20)) {
            let tasks: Vec<_> = (0..12).map(task).collect();
            let (mut slots, mut before, mut most) = (Slots::default(), Vec::new(), 0);
            for round in rounds {
                most = most.max(round.len());
                slots.note(round.iter().map(|&id| &tasks[usize::try_from(id).expect("few")]));
                let now = told(&slots);
                let mut running: Vec<u64> =
                    now.iter().filter(|(_, runs)| *runs).map(|(id, _)| *id).collect();
                running.sort_unstable();
                prop_assert_eq!(running, round.iter().copied().collect::<Vec<_>>());
                for (at, (id, runs)) in before.iter().enumerate() {
                    if *runs && round.contains(id) {
                        prop_assert_eq!(now[at], (*id, true));
                    }
                }
                prop_assert!(now.len() <= most);
                before = now;
            }
        }
    }
}
