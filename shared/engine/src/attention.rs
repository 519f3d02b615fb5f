//! Scaled dot-product attention over packed sequences.
//!
//! The rows of a batch lie one sequence after the other, without padding; each row of the input is
//! `[q heads | k heads | v heads]`. A sequence may go on where another ends (its *prefix*), whose rows
//! are not repeated, and before that it may begin with stored rows `[k heads | v heads]`.
//!
//! Keys and values are packed once, when they are written, and read as [`pages`]. A *run* is what is packed
//! together: the tokens of a sequence, or the stored rows. A *task* is one sequence, one key-value head and some of its
//! query rows. A run that several tasks read (a prefix, a stored beginning, a long sequence of few heads) is packed by
//! a parallel step of its own, into memory of the pass ([`Pages`]). A run that one task reads, such as a short text's,
//! is packed by that task into memory of its thread, which saves a step and finds the keys in the nearest cache.
//!
//! A task walks tiles of query rows: scores against all visible keys, softmax, product with the values. Only a tile's
//! rows of scores exist at a time, so memory grows with the length of a sequence, not with its square.
//!
//! Softmax subtracts the row's maximum and divides after the second product. Masked keys get the
//! probability 0, which adds exactly nothing, so a row's result depends on its visible keys alone,
//! and neither on the batch nor on where a prefix ends.
//!
//! There are two ways to multiply: [`float`] for models whose weights are floats, and [`int16`], four
//! times as fast, for int8 models, whose activations carry eight bits between all other steps.

mod float;
mod int16;
mod pages;
mod softmax;

use std::ops::Range;

use pages::{Form, PAGE_KEYS, RunPages, Sequence};

use crate::buffer::Buffer;
use crate::gemm::{Context, SharedOut};
use crate::kernel::Kernel;

/// Query rows of a task, about, where heads and sequences alone are too few for the threads.
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

    /// The query heads that share a key-value head.
    fn query_heads(self, head: usize) -> Range<usize> {
        let shared = self.queries / self.key_values;
        head * shared..(head + 1) * shared
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
    /// The number of stored rows that the sequence begins with.
    pub(crate) stored: usize,
    /// The rows between the stored ones and the sequence's own; may be empty.
    pub(crate) prefix: Range<usize>,
    /// The rows of the sequence's own tokens.
    pub(crate) tokens: Range<usize>,
    /// The range of the sequence's own tokens whose queries are computed.
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
}

/// The part of an attention layer that one thread computes.
struct Task<'a> {
    span: &'a Span,
    /// The runs that make up the task's sequence, and how many of their keys.
    parts: Parts,
    /// The number of the key-value head.
    head: usize,
    /// The rows of queries.
    queries: Range<usize>,
}

impl Task<'_> {
    /// Keys that its last query sees.
    fn seen(&self, heads: Heads) -> usize {
        self.span.seen(heads, self.queries.end - 1)
    }

    /// The task's tiles of up to `rows` queries: the first and how many.
    fn tiles(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let end = self.queries.end;
        self.queries.clone().step_by(rows).map(move |start| (start, rows.min(end - start)))
    }
}

/// Up to three runs, by number, with the keys that a sequence has of each.
type Parts = [Option<(usize, usize)>; 3];

/// Tokens whose keys and values are packed together.
struct Run {
    source: Source,
    keys: usize,
    /// The number of tasks of a key-value head that read the run.
    readers: usize,
    /// The start of the run's pages in the pass's memory, if that is where they are.
    at: Option<usize>,
}

/// Where keys and values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The stored rows.
    Stored,
    /// The batch's rows from this one on.
    Rows(usize),
}

/// What fills a page: `keys` of a head from the `first` of a source on.
#[derive(Clone, Copy)]
struct Stretch {
    source: Source,
    head: usize,
    first: usize,
    keys: usize,
}

/// The pages of a run that fill one after the other.
fn stretches(source: Source, head: usize, keys: usize) -> impl Iterator<Item = Stretch> {
    (0..keys).step_by(PAGE_KEYS).map(move |first| Stretch {
        source,
        head,
        first,
        keys: PAGE_KEYS.min(keys - first),
    })
}

/// Packed keys and values that several tasks of a layer read. Each layer's take the place of the last one's, so this
/// grows to what the longest pass needs: for integers, half of what its rows of keys and values take.
///
/// It belongs to a pass, as its other buffers do; a second pass at the same time would bring one of its own. Memory of
/// threads is theirs for a task at a time, whichever pass that is of.
#[derive(Debug, Default)]
pub(crate) struct Pages(Buffer<f32>);

/// Rows of queries, keys and values, what of them is packed, and where results go.
struct Data<'a> {
    heads: Heads,
    form: Form,
    qkv: &'a [f32],
    stored: &'a [f32],
    runs: &'a [Run],
    pages: &'a [f32],
    out: SharedOut<'a, f32>,
}

impl Data<'_> {
    /// A row's vector of one of the `queries + 2 * key_values` heads.
    fn head(&self, row: usize, head: usize) -> &[f32] {
        &self.qkv[row * self.heads.row() + head * self.heads.width..][..self.heads.width]
    }

    /// A key of a page.
    fn key(&self, stretch: Stretch, key: usize) -> &[f32] {
        self.key_or_value(stretch, key, stretch.head)
    }

    /// The value of a key of a page.
    fn value(&self, stretch: Stretch, key: usize) -> &[f32] {
        self.key_or_value(stretch, key, self.heads.key_values + stretch.head)
    }

    /// One of the vectors `[k heads | v heads]`.
    #[inline]
    fn key_or_value(&self, stretch: Stretch, key: usize, slot: usize) -> &[f32] {
        let key = stretch.first + key;
        match stretch.source {
            Source::Rows(first) => self.head(first + key, self.heads.queries + slot),
            Source::Stored => {
                let at = 2 * key * self.heads.key_values + slot;
                &self.stored[at * self.heads.width..][..self.heads.width]
            }
        }
    }

    /// The pages of a task's sequence; `write` fills those that no other task reads, in `own` memory.
    fn sequence<'a>(
        &'a self,
        task: &Task<'_>,
        own: &'a mut Buffer<f32>,
        write: impl Fn(Stretch, &mut [f32]),
    ) -> Sequence<'a> {
        let parts = task.parts.map(|part| part.map(|(run, seen)| (&self.runs[run], seen)));
        let alone = || parts.iter().flatten().map(|part| part.0).filter(|run| run.at.is_none());
        let own = own.slot(alone().map(|run| self.form.run_words(run.keys)).sum());
        let mut words = &mut own[..];
        for stretch in alone().flat_map(|run| stretches(run.source, task.head, run.keys)) {
            let (page, rest) = words.split_at_mut(self.form.page_words(stretch.keys));
            write(stretch, page);
            words = rest;
        }
        let (mut own, mut first) = (&own[..], 0);
        let runs = parts.map(|part| {
            let Some((run, seen)) = part else {
                return RunPages::default();
            };
            let words = self.form.run_words(run.keys);
            let words = match run.at {
                Some(at) => &self.pages[at + task.head * words..][..words],
                None => own.split_off(..words).unwrap_or_default(),
            };
            let pages = RunPages { words, keys: run.keys, first, seen };
            first += seen;
            pages
        });
        Sequence { form: self.form, runs }
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
#[allow(
    clippy::too_many_arguments,
    reason = "a layer's shape, its rows, a pass's memory, the output"
)]
pub(crate) fn attention(
    cx: Context<'_>,
    heads: Heads,
    arithmetic: Arithmetic,
    qkv: &[f32],
    stored: &[f32],
    spans: &[Span],
    pages: &mut Pages,
    out: &mut [f32],
) {
    let form = Form::new(arithmetic, heads.width);
    let (mut runs, tasks) = plan(cx, heads, arithmetic, spans);
    let mut words = 0;
    for run in runs.iter_mut().filter(|run| run.readers > 1) {
        run.at = Some(words);
        words += heads.key_values * form.run_words(run.keys);
    }
    let memory = pages.0.slot(words);
    let mut data =
        Data { heads, form, qkv, stored, runs: &runs, pages: &[], out: SharedOut::new(out) };
    write_shared(cx, arithmetic, &data, memory);
    data.pages = memory;
    cx.for_each(tasks.len(), |task| match arithmetic {
        Arithmetic::Float => float::run(cx, &data, &tasks[task]),
        Arithmetic::Int16 => int16::run(cx, &data, &tasks[task]),
    });
}

/// The runs of all spans, those of no tokens left out, and the tasks that read them.
fn plan<'a>(
    cx: Context<'_>,
    heads: Heads,
    arithmetic: Arithmetic,
    spans: &'a [Span],
) -> (Vec<Run>, Vec<Task<'a>>) {
    let enough = spans.len() * heads.key_values >= TASKS_A_THREAD * cx.threads.count();
    let tile_rows = arithmetic.rows(cx.kernel);
    let task_rows = if enough { usize::MAX } else { TASK_ROWS / tile_rows * tile_rows };
    let new = |source, keys| Run { source, keys, readers: 0, at: None };
    let mut runs: Vec<Run> = Vec::with_capacity(spans.len() + 1);
    let stored = spans.iter().map(|span| span.stored).max().unwrap_or(0);
    runs.push(new(Source::Stored, stored));
    let mut tasks = Vec::new();
    let mut prefix = 0;
    for span in spans {
        let source = Source::Rows(span.prefix.start);
        // Spans of one prefix follow each other, and it precedes them.
        if !span.prefix.is_empty() && runs[prefix].source != source {
            let found = runs.iter().rposition(|run| run.source == source && run.keys > 0);
            prefix = found.unwrap_or_else(|| {
                runs.push(new(source, span.prefix.len()));
                runs.len() - 1
            });
        }
        let own = runs.len();
        runs.push(new(Source::Rows(span.tokens.start), span.tokens.len()));
        let lengths = [span.stored, span.prefix.len(), span.tokens.len()];
        let parts: Parts = std::array::from_fn(|part| {
            (lengths[part] > 0).then_some(([0, prefix, own][part], lengths[part]))
        });
        let chunks = || span.queries.clone().step_by(task_rows);
        for (run, _) in parts.into_iter().flatten() {
            runs[run].readers += chunks().count();
        }
        for head in 0..heads.key_values {
            for start in chunks() {
                let queries = start..span.queries.end.min(start.saturating_add(task_rows));
                tasks.push(Task { span, parts, head, queries });
            }
        }
    }
    (runs, tasks)
}

/// Packs the runs that several tasks read into the pass's memory.
fn write_shared(cx: Context<'_>, arithmetic: Arithmetic, data: &Data<'_>, mut memory: &mut [f32]) {
    let mut pages = Vec::new();
    for run in data.runs.iter().filter(|run| run.at.is_some()) {
        for head in 0..data.heads.key_values {
            for stretch in stretches(run.source, head, run.keys) {
                let (page, rest) = memory.split_at_mut(data.form.page_words(stretch.keys));
                pages.push((stretch, page));
                memory = rest;
            }
        }
    }
    cx.threads.for_each_chunk(&mut pages, 1, |_, pages| {
        for (stretch, page) in pages {
            match arithmetic {
                Arithmetic::Float => float::write(data, *stretch, page),
                Arithmetic::Int16 => int16::write(cx, data, *stretch, page),
            }
        }
    });
}

#[cfg(test)]
mod tests;
