//! Attention of the next tokens of sequences over all that is in their pages.
//!
//! The positions of a sequence are cut into *chunks* of 256, by their numbers alone. A query's result is made chunk by chunk:
//! scores, their largest, the sum of exponentials and the weighted sum of values; then what earlier chunks gave and this one's
//! are brought to the same largest score and added (online softmax; Milakov and Gimelshein, arXiv 1805.02867). Every number is made
//! from the query, the keys and the values it sees in one order, whatever else is in the step, however a prompt was cut into
//! pieces and whichever thread does it. So a token's results are the same to the bit when it is computed in a prompt of
//! thousands, alone, or again.
//!
//! A *task* is one sequence, one key-value head, some of its queries, and some chunks. Query rows of all heads that share
//! the key-value head are gathered, so keys and values are read, and widened to f32, once for all of them: into the nearest cache,
//! from where the tiles of matrix products (`kernel`) multiply them. Where tasks are few, as in the step of a single sequence,
//! chunks are dealt out to several tasks; what each chunk gave lies in memory until the last one to be ready
//! adds them up, in the order of chunks.

mod chunk;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use chunk::{add, finish};

use super::memory::{Memory, Shape, Stored, Values, run_len, write};
use super::pages::{PAGE_TOKENS, PageId};
use crate::ModelConfig;
use crate::attention::Span;
use crate::buffer::Buffer;
use crate::gemm::{Context, SharedOut};

/// Positions of a chunk: few enough that the step of one sequence of a thousand is work for several threads, enough that bringing
/// together what chunks give is a hundredth of the work.
const CHUNK: usize = 256;

/// Query rows of a task, about: they and their scores stay in the second-level cache, and a page is widened once for all.
const TASK_ROWS: usize = 192;

/// Tasks a thread that even out their lengths.
const TASKS_A_THREAD: usize = 4;

/// Up to so many rows, keys and values are written without the help of other threads, whose hand-over would take longer.
const FEW_ROWS: usize = 16;

/// Where a piece's tokens go on.
#[derive(Debug, Clone, Copy)]
pub(super) struct PieceAt<'a> {
    pub(super) pages: &'a [PageId],
    /// The tokens before the piece.
    pub(super) start: usize,
}

/// Keys and values in pages, for one step.
#[derive(Debug)]
pub(crate) struct Paged<'a> {
    pub(super) memory: &'a mut Memory,
    /// What chunks gave.
    pub(super) partials: &'a mut Buffer<f32>,
    /// The pieces, one for each span.
    pub(super) pieces: &'a [PieceAt<'a>],
}

impl Paged<'_> {
    /// Writes the keys and values of all rows `[q heads | k heads | v heads]`, and leaves the attention of the spans' queries in
    /// `out`, rows of query heads.
    pub(crate) fn layer(
        &mut self,
        cx: Context<'_>,
        config: &ModelConfig,
        layer: usize,
        qkv: &[f32],
        spans: &[Span],
        out: &mut [f32],
    ) {
        let Self { memory, partials, pieces } = self;
        let (width, key_values) = (config.head_dim, config.kv_heads);
        let rows = Rows {
            qkv,
            len: (config.heads + 2 * key_values) * width,
            spans,
            pieces,
            // Memory of one layer is used for each in turn.
            layer: layer.min(memory.shape.layers - 1),
            group: config.heads / key_values,
            scale: config.attention.scale.unwrap_or_else(|| 1.0 / (width as f32).sqrt()),
            window: config.attention.window(layer).unwrap_or(usize::MAX),
            shape: memory.shape,
        };
        match &mut memory.values {
            Values::F16(values) => rows.run(cx, values, partials, out),
            Values::F32(values) => rows.run(cx, values, partials, out),
        }
    }
}

/// Writes keys and values that were computed before, rows `[k heads | v heads]`, into the pages of a sequence that begins with
/// them.
pub(super) fn restore(
    cx: Context<'_>,
    memory: &mut Memory,
    layer: usize,
    pages: &[PageId],
    rows: &[f32],
) {
    let shape = memory.shape;
    let len = 2 * shape.heads * shape.width;
    let count = rows.len() / len;
    let span = Span { stored: 0, prefix: 0..0, tokens: 0..count, queries: 0..0, out: 0 };
    let rows = Rows {
        qkv: rows,
        len,
        spans: &[span],
        pieces: &[PieceAt { pages, start: 0 }],
        layer,
        group: 0,
        scale: 1.0,
        window: usize::MAX,
        shape,
    };
    match &mut memory.values {
        Values::F16(values) => rows.write(cx, values),
        Values::F32(values) => rows.write(cx, values),
    }
}

/// The rows of a layer and what is computed of them.
struct Rows<'a> {
    qkv: &'a [f32],
    /// Values of a row.
    len: usize,
    spans: &'a [Span],
    pieces: &'a [PieceAt<'a>],
    layer: usize,
    /// Query heads that share a key-value head.
    group: usize,
    scale: f32,
    /// Positions that a query sees, its own among them.
    window: usize,
    shape: Shape,
}

/// See the module page.
struct Task {
    piece: usize,
    head: usize,
    /// Rows of the piece.
    queries: Range<usize>,
    chunks: Range<usize>,
    /// The set of tasks that share the work of these queries.
    shared: Option<usize>,
}

/// Tasks that differ in their chunks only.
struct Shared {
    /// All their chunks.
    chunks: Range<usize>,
    /// Where what chunks give begins.
    at: usize,
    /// Tasks that are not ready.
    left: AtomicUsize,
}

#[derive(Default)]
struct Scratch {
    queries: Buffer<f32>,
    /// A panel of keys or values, widened.
    panel: Buffer<f32>,
    scores: Buffer<f32>,
    sums: Buffer<f32>,
    /// What the chunk gave, and all before it.
    chunk: Buffer<f32>,
    state: Buffer<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Rows<'_> {
    fn run<T: Stored>(
        &self,
        cx: Context<'_>,
        memory: &mut [T],
        partials: &mut Buffer<f32>,
        out: &mut [f32],
    ) {
        self.write(cx, memory);
        let (tasks, shared, len) = self.plan(cx);
        let partials = SharedOut::new(partials.slot(len));
        let out = SharedOut::new(out);
        cx.for_each(tasks.len(), |task| {
            let task = &tasks[task];
            let shared = task.shared.map(|at| &shared[at]);
            SCRATCH.with_borrow_mut(|scratch| {
                self.task(cx, memory, task, shared, &partials, &out, scratch);
            });
        });
    }

    /// Packs the rows' keys and values into their pages.
    #[allow(unsafe_code, reason = "runs of pages, each written by one task")]
    fn write<T: Stored>(&self, cx: Context<'_>, memory: &mut [T]) {
        let (shape, queries) = (self.shape, self.shape.heads * self.group);
        let mut runs = Vec::new();
        for (span, piece) in self.spans.iter().zip(self.pieces) {
            let end = piece.start + span.tokens.len();
            for page in piece.start / PAGE_TOKENS..end.div_ceil(PAGE_TOKENS) {
                let first = piece.start.max(page * PAGE_TOKENS);
                let last = end.min((page + 1) * PAGE_TOKENS);
                let row = span.tokens.start + first - piece.start;
                for head in 0..shape.heads {
                    let at = shape.run_at(piece.pages[page], self.layer, head);
                    runs.push((
                        at,
                        head,
                        row,
                        first % PAGE_TOKENS..first % PAGE_TOKENS + last - first,
                    ));
                }
            }
        }
        let memory = SharedOut::new(memory);
        let fill = |run: usize| {
            let (at, at_head, row, slots) = &runs[run];
            // SAFETY: the pages that a step writes to belong to one sequence each, so runs are apart.
            let run = unsafe { memory.run(*at, run_len(shape)) };
            let mut scratch = vec![T::zeroed(); shape.width];
            for (row, slot) in (*row..).zip(slots.clone()) {
                let heads = &self.qkv[row * self.len..][..self.len];
                let head = |at: usize| &heads[at * shape.width..][..shape.width];
                let (key, value) =
                    (head(queries + *at_head), head(queries + shape.heads + *at_head));
                write(shape, run, slot, key, value, &mut scratch);
            }
        };
        if self.spans.iter().map(|span| span.tokens.len()).sum::<usize>() <= FEW_ROWS {
            (0..runs.len()).for_each(fill);
        } else {
            cx.threads.for_each(runs.len(), fill);
        }
    }

    /// The positions that a query of a piece sees.
    fn seen(&self, piece: usize, query: usize) -> Range<usize> {
        let end = self.pieces[piece].start + query + 1;
        end.saturating_sub(self.window)..end
    }

    /// Values of what a chunk gives a row: columns, then the largest score and the sum of exponentials.
    fn record(&self) -> usize {
        self.shape.columns() + 2
    }

    /// The tasks, what some of them share, and the memory for that.
    fn plan(&self, cx: Context<'_>) -> (Vec<Task>, Vec<Shared>, usize) {
        let step = (TASK_ROWS / self.group).max(1);
        let mut tasks = Vec::new();
        for (piece, span) in self.spans.iter().enumerate() {
            for head in 0..self.shape.heads {
                for start in span.queries.clone().step_by(step) {
                    let queries = start..span.queries.end.min(start + step);
                    let first = self.seen(piece, start).start / CHUNK;
                    let chunks = first..self.seen(piece, queries.end - 1).end.div_ceil(CHUNK);
                    tasks.push(Task { piece, head, queries, chunks, shared: None });
                }
            }
        }
        let wanted = TASKS_A_THREAD * cx.threads.count();
        let (mut shared, mut len) = (Vec::new(), 0);
        if cx.threads.count() == 1 || tasks.is_empty() || tasks.len() >= wanted {
            return (tasks, shared, len);
        }
        let parts = wanted.div_ceil(tasks.len());
        let mut dealt = Vec::with_capacity(wanted);
        for task in tasks {
            let (first, count) = (task.chunks.start, task.chunks.len());
            let parts = parts.min(count);
            if parts < 2 {
                dealt.push(task);
                continue;
            }
            for part in 0..parts {
                dealt.push(Task {
                    queries: task.queries.clone(),
                    chunks: first + part * count / parts..first + (part + 1) * count / parts,
                    shared: Some(shared.len()),
                    ..task
                });
            }
            let left = AtomicUsize::new(parts);
            shared.push(Shared { chunks: task.chunks, at: len, left });
            len += count * task.queries.len() * self.group * self.record();
        }
        (dealt, shared, len)
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "what a task reads, and the three places it writes to"
    )]
    #[allow(unsafe_code, reason = "parts of memory that belong to this task")]
    fn task<T: Stored>(
        &self,
        cx: Context<'_>,
        memory: &[T],
        task: &Task,
        shared: Option<&Shared>,
        partials: &SharedOut<'_, f32>,
        out: &SharedOut<'_, f32>,
        scratch: &mut Scratch,
    ) {
        let rows = task.queries.len() * self.group;
        let len = rows * self.record();
        self.gather(task, scratch.queries.slot(rows * self.shape.width));
        let mut state = std::mem::take(&mut scratch.state);
        state.slot(len).fill(0.0);
        for chunk in task.chunks.clone() {
            self.chunk(cx, memory, task, chunk, scratch);
            if let Some(shared) = shared {
                let at = shared.at + (chunk - shared.chunks.start) * len;
                // SAFETY: each chunk belongs to one task.
                unsafe { partials.run(at, len) }.copy_from_slice(&scratch.chunk[..len]);
            } else {
                self.add(cx, &mut state, &scratch.chunk[..len]);
            }
        }
        let ready = shared.is_none_or(|shared| shared.left.fetch_sub(1, Ordering::AcqRel) == 1);
        if ready {
            if let Some(shared) = shared {
                for chunk in 0..shared.chunks.len() {
                    // SAFETY: all tasks that write here are ready, and this is the one that saw it.
                    let chunk = unsafe { partials.run(shared.at + chunk * len, len) };
                    self.add(cx, &mut state, chunk);
                }
            }
            let span = &self.spans[task.piece];
            let (width, heads) = (self.shape.width, self.shape.heads * self.group);
            for (row, state) in state.chunks_exact(self.record()).enumerate() {
                let (query, head) = (task.queries.start + row / self.group, row % self.group);
                let row = span.out + query - span.queries.start;
                let at = (row * heads + task.head * self.group + head) * width;
                // SAFETY: these queries and heads belong to this task, or to those that it was the last of.
                finish(cx.kernel, state, unsafe { out.run(at, width) });
            }
        }
        scratch.state = state;
    }

    /// The task's query vectors, those of one token side by side.
    fn gather(&self, task: &Task, out: &mut [f32]) {
        let len = self.group * self.shape.width;
        let first = self.spans[task.piece].tokens.start;
        for (query, out) in task.queries.clone().zip(out.chunks_exact_mut(len)) {
            let row = &self.qkv[(first + query) * self.len..][..self.len];
            out.copy_from_slice(&row[task.head * len..][..len]);
        }
    }

    /// Adds what a chunk gave to what was given before it.
    fn add(&self, cx: Context<'_>, state: &mut [f32], chunk: &[f32]) {
        let record = self.record();
        for (state, chunk) in state.chunks_exact_mut(record).zip(chunk.chunks_exact(record)) {
            add(cx.kernel, state, chunk, self.scale);
        }
    }
}
