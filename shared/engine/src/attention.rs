//! Scaled dot-product attention over packed sequences.
//!
//! The rows of a batch lie one sequence after the other, without padding; each row of the input is
//! `[q heads | k heads | v heads]`. A sequence may go on where another ends (its *prefix*), whose rows
//! are not repeated, and before that it may begin with stored rows `[k heads | v heads]`. A task is one sequence, one key-value head and a run of query rows. It packs that
//! head's keys and values into panels, once for all query heads that share them, then walks tiles of
//! query rows: scores against all visible keys, softmax, product with the values. Only a tile's rows of
//! scores exist at a time, so memory grows with the length of a sequence, not with its square.
//!
//! Softmax subtracts the row's maximum and divides after the second product. Masked keys get the
//! probability 0, which adds exactly nothing, so a row's result depends on its visible keys alone,
//! and neither on the batch nor on where a prefix ends.
//!
//! There are two ways to multiply: [`float`] for models whose weights are floats, and [`int16`], four
//! times as fast, for int8 models, whose activations carry eight bits between all other steps.

mod float;
mod int16;
mod softmax;

use std::ops::Range;

use crate::gemm::{Context, SharedOut};
use crate::kernel::Kernel;

/// Query rows of a task, about, where heads and sequences alone are too few for the threads. Each such task packs the
/// keys again.
const TASK_ROWS: usize = 192;

/// Tasks a thread that even out their lengths.
const TASKS_A_THREAD: usize = 4;

/// The shape of one attention layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    pub(crate) key_values: usize,
    pub(crate) width: usize,
    pub(crate) causal: bool,
}

impl Heads {
    /// Values per row of the input.
    pub(crate) fn row(self) -> usize {
        (self.queries + 2 * self.key_values) * self.width
    }

    /// Query heads that share a key-value head.
    fn shared(self) -> usize {
        self.queries / self.key_values
    }
}

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Float,
    Int16,
}

impl Arithmetic {
    /// Rows of a tile.
    fn rows(self, kernel: Kernel) -> usize {
        match self {
            Self::Float => kernel.set().float.rows,
            Self::Int16 => kernel.set().int16.rows,
        }
    }
}

/// One sequence and the query rows wanted of it.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// Stored rows that the sequence begins with.
    pub(crate) stored: usize,
    /// Rows of what comes between them and the sequence's own; may be empty.
    pub(crate) prefix: Range<usize>,
    /// Rows of its own tokens.
    pub(crate) tokens: Range<usize>,
    /// Which of its own tokens ask.
    pub(crate) queries: Range<usize>,
    /// Row of the output that the first query goes to.
    pub(crate) out: usize,
}

impl Span {
    /// Keys of the whole sequence.
    fn keys(&self) -> usize {
        self.start() + self.tokens.len()
    }

    /// Keys before its own.
    fn start(&self) -> usize {
        self.stored + self.prefix.len()
    }

    /// Keys that a query sees.
    fn seen(&self, heads: Heads, query: usize) -> usize {
        if heads.causal { self.start() + query + 1 } else { self.keys() }
    }

    /// Where the `key`th token of the whole sequence lies.
    fn place(&self, key: usize) -> Place {
        match (key.checked_sub(self.stored), key.checked_sub(self.start())) {
            (None, _) => Place::Stored(key),
            (Some(shared), None) => Place::Batch(self.prefix.start + shared),
            (_, Some(own)) => Place::Batch(self.tokens.start + own),
        }
    }
}

/// A row.
enum Place {
    Stored(usize),
    Batch(usize),
}

/// The part of an attention layer that one thread computes.
struct Task<'a> {
    span: &'a Span,
    /// Key-value head.
    head: usize,
    /// Query rows.
    queries: Range<usize>,
}

impl Task<'_> {
    /// Keys that its last query sees.
    fn seen(&self, heads: Heads) -> usize {
        self.span.seen(heads, self.queries.end - 1)
    }

    /// Its tiles of up to `rows` queries: the first and how many.
    fn tiles(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let end = self.queries.end;
        self.queries.clone().step_by(rows).map(move |start| (start, rows.min(end - start)))
    }
}

/// Rows of queries, keys and values, and where results go.
struct Data<'a> {
    heads: Heads,
    qkv: &'a [f32],
    stored: &'a [f32],
    out: SharedOut<'a, f32>,
}

impl Data<'_> {
    /// A row's vector of one of the `queries + 2 * key_values` heads.
    fn head(&self, row: usize, head: usize) -> &[f32] {
        &self.qkv[row * self.heads.row() + head * self.heads.width..][..self.heads.width]
    }

    /// A key of the span's whole sequence.
    fn key(&self, span: &Span, key: usize, head: usize) -> &[f32] {
        self.key_or_value(span, key, head)
    }

    /// The value of a key of the span's whole sequence.
    fn value(&self, span: &Span, key: usize, head: usize) -> &[f32] {
        self.key_or_value(span, key, self.heads.key_values + head)
    }

    /// One of the vectors `[k heads | v heads]`.
    #[inline]
    fn key_or_value(&self, span: &Span, key: usize, slot: usize) -> &[f32] {
        match span.place(key) {
            Place::Batch(row) => self.head(row, self.heads.queries + slot),
            Place::Stored(row) => {
                let at = 2 * row * self.heads.key_values + slot;
                &self.stored[at * self.heads.width..][..self.heads.width]
            }
        }
    }

    /// Where the result of a query of the task goes, from column `first` on.
    #[allow(unsafe_code, reason = "writes rows of the output that belong to this task")]
    #[allow(clippy::mut_from_ref, reason = "exclusive by the argument below")]
    fn target(
        &self,
        task: &Task<'_>,
        query: usize,
        head: usize,
        first: usize,
        len: usize,
    ) -> &mut [f32] {
        let row = task.span.out + query - task.span.queries.start;
        // SAFETY: each (span, group of heads, query) belongs to one task, which fills one run after the other.
        unsafe { self.out.run((row * self.heads.queries + head) * self.heads.width + first, len) }
    }
}

/// Fills `out` (rows of `queries * width`) for every span. `stored` are the rows that spans may begin with.
pub(crate) fn attention(
    cx: Context<'_>,
    heads: Heads,
    arithmetic: Arithmetic,
    qkv: &[f32],
    stored: &[f32],
    spans: &[Span],
    out: &mut [f32],
) {
    let enough = spans.len() * heads.key_values >= TASKS_A_THREAD * cx.threads.count();
    let tile_rows = arithmetic.rows(cx.kernel);
    let task_rows = if enough { usize::MAX } else { TASK_ROWS / tile_rows * tile_rows };
    let mut tasks = Vec::new();
    for span in spans {
        for head in 0..heads.key_values {
            for start in span.queries.clone().step_by(task_rows) {
                let queries = start..span.queries.end.min(start.saturating_add(task_rows));
                tasks.push(Task { span, head, queries });
            }
        }
    }
    let data = Data { heads, qkv, stored, out: SharedOut::new(out) };
    cx.for_each(tasks.len(), |task| match arithmetic {
        Arithmetic::Float => float::run(cx, &data, &tasks[task]),
        Arithmetic::Int16 => int16::run(cx, &data, &tasks[task]),
    });
}

#[cfg(test)]
mod tests;
