//! What `bench boot` prints.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::function::First;
use super::memory::{Mapping, Memory};
use super::{Args, Run, Work, median};
use crate::print::say;
use crate::progress::human;

/// All that was measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) runs: Vec<Run>,
    /// The snapshot's length.
    pub(super) size: u64,
    pub(super) pack_seconds: Option<f64>,
    /// Of processes that run at the same time.
    pub(super) together: Vec<(Memory, Mapping)>,
}

/// Times of all runs in one line.
#[derive(Debug, Clone, Copy)]
struct Times {
    median: f64,
    least: f64,
    /// Nine of ten are at most this.
    ninth: f64,
    most: f64,
}

impl Times {
    fn of(times: &[f64]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        Self {
            median: median(times),
            least: at(0),
            ninth: at((sorted.len() * 9).div_ceil(10).saturating_sub(1)),
            most: at(sorted.len().saturating_sub(1)),
        }
    }

    fn json(self) -> Value {
        json!({"median": self.median, "min": self.least, "p90": self.ninth, "max": self.most})
    }
}

impl Measured {
    fn times(&self) -> Times {
        Times::of(&self.runs.iter().map(|run| run.first.ms).collect::<Vec<_>>())
    }

    /// The median of each phase; from ready to the first answer as well.
    fn phases(&self) -> Vec<(String, f64)> {
        let names = self.runs.iter().take(1).flat_map(|run| &run.phases);
        let mut phases: Vec<(String, f64)> = names
            .map(|(name, _)| {
                let of = |run: &Run| {
                    run.phases.iter().find(|phase| phase.0 == *name).map(|phase| phase.1)
                };
                (name.clone(), median(&self.runs.iter().filter_map(of).collect::<Vec<_>>()))
            })
            .collect();
        let after = |run: &Run| {
            let ready = run.phases.iter().find(|(name, _)| name == "exec -> ready")?;
            Some(run.first.ms - ready.1)
        };
        let after: Vec<f64> = self.runs.iter().filter_map(after).collect();
        if !after.is_empty() {
            phases.push(("ready -> client".to_owned(), median(&after)));
        }
        phases
    }

    pub(super) fn json(&self, args: &Args, work: &Work) -> Value {
        let memory = Memory::most(self.runs.iter().map(|run| run.memory));
        let phases: BTreeMap<String, f64> = self.phases().into_iter().collect();
        let mut value = json!({
            "runs": self.runs.len(),
            "verify": args.verify,
            "peak_rss_bytes": memory.peak,
            "mapped_bytes": memory.mapped,
            "private_bytes": memory.private(),
            "rss_anon_bytes": memory.anonymous,
            "rss_shmem_bytes": memory.shared,
            "snapshot_bytes": self.size,
            "pack_s": self.pack_seconds,
            "phases_median_ms": phases,
        });
        value[work.figure()] = self.times().json();
        if let (Work::Chat { .. }, Some(run)) = (work, self.runs.last()) {
            value["prompt_tokens"] = run.first.prompt.into();
            value["cached_tokens"] = run.first.cached.into();
        }
        if !self.together.is_empty() {
            let each = self.together.iter().map(|(memory, mapping)| {
                let mut one = mapping.json();
                one["rss_anon_bytes"] = memory.anonymous.into();
                one["rss_shmem_bytes"] = memory.shared.into();
                one
            });
            value["together"] = each.collect();
        }
        value
    }

    pub(super) fn print(&self, args: &Args, work: &Work) -> Result<()> {
        let times = self.times();
        say!(
            "exec -> first {} over HTTP  {:.1} ms median of {} (least {:.1}, p90 {:.1}, most {:.1}), verify {}",
            work.product(),
            times.median,
            self.runs.len(),
            times.least,
            times.ninth,
            times.most,
            args.verify
        )?;
        if let (Work::Chat { .. }, Some(run)) = (work, self.runs.last()) {
            let First { prompt, cached, .. } = run.first;
            say!("prompt               {prompt} tokens, {cached} of them stored in the snapshot")?;
        }
        for (name, value) in self.phases() {
            say!("  {name:<20} {value:>9.2} ms")?;
        }
        let memory = Memory::most(self.runs.iter().map(|run| run.memory));
        say!(
            "peak RSS             {}; at the first {} {} of files and {} of its own (RssAnon {}, RssShmem {})",
            human(memory.peak),
            work.product(),
            human(memory.mapped),
            human(memory.private()),
            human(memory.anonymous),
            human(memory.shared)
        )?;
        self.print_together()?;
        say!("snapshot             {}", human(self.size))?;
        match self.pack_seconds {
            Some(seconds) => say!("pack                 {seconds:.2} s")?,
            None => say!("pack                 not measured (give --checkpoint)")?,
        }
        Ok(())
    }

    fn print_together(&self) -> Result<()> {
        for (at, (memory, mapping)) in self.together.iter().enumerate() {
            say!(
                "together, process {}  of the snapshot {} in memory: shared {}, its alone {}, its share {}; of its own {}",
                at + 1,
                human(mapping.resident),
                human(mapping.shared),
                human(mapping.private),
                human(mapping.proportional),
                human(memory.private())
            )?;
        }
        if !self.together.is_empty() {
            let all: u64 = self.together.iter().map(|(_, mapping)| mapping.proportional).sum();
            say!("together, all        {} of the snapshot in memory", human(all))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_of_ten_are_at_most_the_ninth() {
        let times: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        let all = Times::of(&times);
        assert_eq!((all.least, all.median, all.ninth, all.most), (1.0, 5.5, 9.0, 10.0));
        let one = Times::of(&[3.0]);
        assert_eq!((one.least, one.median, one.ninth, one.most), (3.0, 3.0, 3.0, 3.0));
    }
}
