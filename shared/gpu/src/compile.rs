//! What makes a model that was loaded a compiled one: the fastest tiles, and graphs of small passes.
//!
//! With `FAST_BOOT=false` that happens before the model is ready. An eager model has a thread for it, which begins after the
//! first pass, so that it takes nothing from the first answer, and has the device for one tile of one product at a time,
//! which is milliseconds; passes go first.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use defrost_model::{Batch, Error, Wanted};

use crate::forward;
use crate::graphs::{Capacity, MOST_ROWS};
use crate::kernels::{Epilogue, Tile};
use crate::pass::Pass;
use crate::runner::Loaded;
use crate::tuned::Product;

/// What the thread looks at while passes have the device.
const LOOK: Duration = Duration::from_millis(1);

/// When the thread that compiles has its turn.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Passes that wait for the device.
    waiting: AtomicUsize,
    /// Whether there has been a pass.
    has_begun: Mutex<bool>,
    begun: Condvar,
    is_gone: AtomicBool,
}

impl Turns {
    /// Counts a pass as waiting while it gets the device.
    pub(crate) fn first<T>(&self, get: impl FnOnce() -> T) -> T {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let got = get();
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        got
    }

    /// Whether there has been a pass.
    pub(crate) fn has_begun(&self) -> bool {
        *self.has_begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread begin.
    pub(crate) fn begin(&self) {
        *self.has_begun.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.begun.notify_all();
    }

    /// Lets the thread end.
    pub(crate) fn end(&self) {
        self.is_gone.store(true, Ordering::Release);
        self.begin();
    }

    /// Returns after the first pass, or when the model is gone.
    pub(crate) fn wait_for_a_pass(&self) {
        let mut has_begun = self.has_begun.lock().unwrap_or_else(PoisonError::into_inner);
        while !*has_begun {
            has_begun = self.begun.wait(has_begun).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns when no pass waits; false if the model is gone.
    fn wait_for_passes(&self) -> bool {
        while self.waiting.load(Ordering::Acquire) > 0 && !self.is_gone.load(Ordering::Acquire) {
            thread::sleep(LOOK);
        }
        !self.is_gone.load(Ordering::Acquire)
    }
}

impl Loaded {
    /// Measures which tiles are fastest, where that is not known yet, and keeps it; from then on, small passes are graphs.
    pub(crate) fn compile(&self, most_rows: u32) -> Result<(), Error> {
        let Some(layer) = self.weights.layers.first() else { return Ok(()) };
        let products = [
            (layer.qkv, Epilogue::Store),
            (layer.out, Epilogue::AddTo),
            (layer.up, forward::activation(&self.config)),
            (layer.down, Epilogue::AddTo),
        ];
        let all =
            products.into_iter().flat_map(|(linear, then)| Product::all(linear, then, most_rows));
        for (linear, product) in all.filter(|(_, product)| self.tuned.lacks(product)) {
            let mut fastest: Option<(Duration, Tile)> = None;
            for tile in Tile::ALL {
                if !self.turns.wait_for_passes() {
                    return Ok(());
                }
                let running = self.turn();
                // The first layer's weights are what is measured with.
                self.upload.wait(1, &*running.stream)?;
                let before = fastest.map(|(time, _)| time);
                let time = product.measure(tile, linear, &self.device, &*running.stream, before)?;
                if before.is_none_or(|before| time < before) {
                    fastest = Some((time, tile));
                }
            }
            self.tuned.learn(product, fastest.map(|(_, tile)| tile));
        }
        // Without the file, the next process measures again.
        let _ = self.tuned.keep();
        // A capture cannot wait for weights.
        self.upload.finish()?;
        let mut running = self.turn();
        // Graphs last as long as the workspace stays where it is.
        let largest = Pass::new(&Batch::default(), &self.config, Capacity::LARGEST);
        running.workspace.buffers(&self.config, &largest, Wanted::default())?;
        running.graphs.are_wanted = true;
        Ok(())
    }

    /// Makes the graphs of the passes that are likeliest: one sequence, of any length.
    pub(crate) fn make_graphs(&self, most_rows: u32) -> Result<(), Error> {
        let most = most_rows.min(MOST_ROWS) as usize;
        for len in (1..=self.config.max_positions.min(most)).step_by(64) {
            let mut batch = Batch::default();
            batch.push(&vec![0; len], &[]);
            self.turn().run(self, &batch, Wanted::default())?;
        }
        Ok(())
    }
}
