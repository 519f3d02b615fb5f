//! Calls of a kernel set's functions. Each has one argument for its safety: a [`Kernel`] exists only where the
//! processor has the set's instructions, and operands hold what they promise.
#![allow(unsafe_code, reason = "calls target_feature functions that Kernel proves runnable")]

use super::Kernel;
use super::operands::{
    Bf16Operands, BlockOperands, FloatOperands, Int8Operands, Int16Operands, Operands, OutRows,
    RowOf, Scaled, Step,
};
use super::set::{LANES, LaneSums, MOST_ROWS, Tile};
use crate::layout::PANEL;
use crate::threads::Threads;

/// Refuses more rows than the tile or the sums have, and panels of which a tile would not fill the width.
fn check<X, W, F, T, const GROUP: usize>(
    operands: &Operands<'_, X, W, GROUP>,
    tile: &Tile<F>,
    sums: &[RowOf<T>],
) {
    assert!(operands.rows() <= tile.rows.min(MOST_ROWS).min(sums.len()), "rows of a tile");
}

impl Kernel {
    /// `sums[r][c] = sum over k of x[r][k] * panel[k][c] - offsets[c]` in i32, for a whole panel.
    pub(crate) fn int8_tile(
        self,
        operands: &Int8Operands<'_>,
        offsets: &RowOf<i32>,
        sums: &mut [RowOf<i32>],
    ) {
        let tile = &self.set().int8;
        check(operands, tile, sums);
        assert!(operands.columns() == PANEL && !operands.onto(), "a whole panel at once");
        // SAFETY: see above.
        unsafe { (tile.run)(operands, offsets, sums) }
    }

    /// `sums[r][c] = sum over k of x[r][k] * panel[k][c]` in i32, which the caller knows to fit.
    pub(crate) fn int16_tile(self, operands: &Int16Operands<'_>, sums: &mut [RowOf<i32>]) {
        let tile = &self.set().int16;
        check(operands, tile, sums);
        // SAFETY: see above.
        unsafe { (tile.run)(operands, sums) }
    }

    /// `sums[r][c] = sum over k of x[r][k] * panel[k][c]` in f32, `k` ascending, one rounding a step.
    pub(crate) fn float_tile(self, operands: &FloatOperands<'_>, sums: &mut [RowOf<f32>]) {
        let tile = &self.set().float;
        check(operands, tile, sums);
        // SAFETY: see above.
        unsafe { (tile.run)(operands, sums) }
    }

    /// Computes what [`Kernel::float_tile`] does over a whole panel of bf16, widened on the way.
    pub(crate) fn bf16_tile(self, operands: &Bf16Operands<'_>, sums: &mut [RowOf<f32>]) {
        let tile = &self.set().bf16;
        check(operands, tile, sums);
        assert!(operands.columns() == PANEL && !operands.onto(), "a whole panel at once");
        // SAFETY: see above.
        unsafe { (tile.run)(operands, sums) }
    }

    /// Products of quantised rows with a panel of blocks, in f32.
    pub(crate) fn block_tile(self, operands: &BlockOperands<'_>, sums: &mut [RowOf<f32>]) {
        let tile = &self.set().blocks;
        assert!(operands.rows() <= tile.rows.min(sums.len()), "rows of a tile");
        // SAFETY: see above.
        unsafe { (tile.run)(operands, sums) }
    }

    /// Whether [`Kernel::finished_int8_tile`] may be called.
    pub(crate) fn finishes_int8(self) -> bool {
        self.set().finished_int8.is_some()
    }

    /// An int8 tile from operands to output, its sums never in memory.
    ///
    /// # Panics
    /// If the set has none.
    pub(crate) fn finished_int8_tile(
        self,
        scaled: &Scaled<'_>,
        step: Step<'_>,
        out: &mut OutRows<'_>,
    ) {
        let (operands, set) = (&scaled.operands, self.set());
        assert!(operands.rows() <= set.int8.rows, "rows of a tile");
        assert!(operands.columns() == PANEL && !operands.onto(), "a whole panel at once");
        let Some(run) = set.finished_int8 else {
            panic!("{} finishes no tiles in registers: ask finishes_int8 first", set.name);
        };
        // SAFETY: see above.
        unsafe { run(scaled, step, out) }
    }

    /// The bits of the largest magnitude, where the set has a loop of its own.
    pub(crate) fn largest_magnitude(self, row: &[f32]) -> Option<u32> {
        // SAFETY: see above.
        self.set().quantize.as_ref().map(|own| unsafe { (own.largest_magnitude)(row) })
    }

    /// Writes the codes of `row`, unless the set has no loop of its own.
    pub(crate) fn encode(self, row: &[f32], inverse: f32, codes: &mut [u8]) -> Option<()> {
        // SAFETY: see above.
        self.set().quantize.as_ref().map(|own| unsafe { (own.encode)(row, inverse, codes) })
    }

    /// Each lane's largest score, where the set has a loop of its own.
    pub(crate) fn largest_scores(self, scores: &[[f32; LANES]]) -> Option<[f32; LANES]> {
        // SAFETY: see above.
        self.set().softmax.as_ref().map(|own| unsafe { (own.largest)(scores) })
    }

    /// Replaces scores by weights, where the set has a loop of its own.
    pub(crate) fn exponentials(
        self,
        scores: &mut [[f32; LANES]],
        value_scales: &[[f32; LANES]],
        max: f32,
        factor: f32,
    ) -> Option<LaneSums> {
        let own = self.set().softmax.as_ref()?;
        // SAFETY: see above.
        Some(unsafe { (own.exponentials)(scores, value_scales, max, factor) })
    }

    /// Writes rounded codes, unless the set has no loop of its own.
    pub(crate) fn round(
        self,
        values: &[[f32; LANES]],
        factor: f32,
        codes: &mut [[i16; LANES]],
    ) -> Option<()> {
        // SAFETY: see above.
        self.set().softmax.as_ref().map(|own| unsafe { (own.round)(values, factor, codes) })
    }

    /// Multiply-adds a second when every thread does nothing but multiply registers; `None` where the set has no loop
    /// for it.
    pub(crate) fn peak(self, threads: &Threads) -> Option<f64> {
        /// About 2 ms at 3.5 GHz and two instructions a cycle.
        const ROUNDS: usize = 600_000;
        let peak = self.set().peak.as_ref()?;
        let begun = std::time::Instant::now();
        let count = threads.count();
        threads.for_each_with(self, count, |_| {
            // SAFETY: see above.
            std::hint::black_box(unsafe { (peak.run)(ROUNDS) });
        });
        Some((count * ROUNDS * peak.multiplies) as f64 / begun.elapsed().as_secs_f64())
    }

    /// Makes this thread ready for the set's tiles, until the result is dropped.
    pub(crate) fn enter(self) -> Entered {
        let state = self.set().thread.filter(|_| !INSIDE.get());
        if let Some(state) = state {
            INSIDE.set(true);
            // SAFETY: see above.
            unsafe { (state.enter)() }
        }
        Entered(state)
    }
}

thread_local! {
    /// Whether this thread is inside of a step already, in which others may be nested.
    static INSIDE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A thread that may run tiles.
pub(crate) struct Entered(Option<super::set::ThreadState>);

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(state) = self.0 {
            INSIDE.set(false);
            // SAFETY: made by `Kernel::enter`, see above.
            unsafe { (state.leave)() }
        }
    }
}
