//! Threads that wait for the next step of a pass without sleeping, and sleep between passes.
//!
//! The caller *opens* a loop, works on it like the helpers, *closes* it when no task is left, and
//! returns once all helpers that joined have left. A helper joins an open loop by counting itself in; one that
//! wakes up late finds the loop closed and is not waited for. All that decides which thread may touch
//! the loop is in one word:
//!
//! ```text
//! bits 63..32  number of the loop       bit 31  open       bits 30..0  helpers inside
//! ```
//!
//! Every thread begins with a run of neighbouring tasks of its own and helps others with theirs when it is done:
//! neighbours write neighbouring memory, which two processors would take from each other.
//!
//! The loop itself is written while it is closed and no helper is inside, and read by helpers inside only.
//! A helper looks at the word for [`SPINS`] rounds after a loop, then sleeps until the next one.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::Kernel;

const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const NUMBER: u64 = !(OPEN | INSIDE);
const NEXT_NUMBER: u64 = 1 << 32;

/// Rounds of looking before a helper sleeps: some 50 microseconds, longer than the caller's own steps
/// between two jobs of a pass, shorter than what a client could notice on its bill.
const SPINS: u32 = 4000;

/// Rounds of looking before the caller lets other threads have its processor: a helper inside may wait for it.
const CALLER_SPINS: u32 = 20_000;

type LoopBody<'a> = dyn Fn(usize) + Sync + 'a;

/// The work of one step, and what threads need for it.
#[derive(Clone, Copy)]
struct ParallelLoop {
    body: *const LoopBody<'static>,
    tasks: usize,
    /// The set that threads enter for it.
    kernel: Option<Kernel>,
}

/// A cache line of its own.
#[repr(align(64))]
struct Line<T>(T);

struct Shared {
    word: AtomicU64,
    current: UnsafeCell<ParallelLoop>,
    /// Tasks taken of each thread's run.
    taken: Vec<Line<AtomicUsize>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    alarm: Condvar,
}

#[allow(unsafe_code, reason = "see the page above")]
// SAFETY: `current` is written by the one caller that holds `Crew::turn`, while the word is closed with
// no helper inside, and read only by helpers inside; the word's orderings make each see the other's
// writes. Everything else is made to be shared.
unsafe impl Sync for Shared {}
#[allow(unsafe_code, reason = "see the page above")]
// SAFETY: as above; the pointer in `current` is followed only while its closure is borrowed by `run`.
unsafe impl Send for Shared {}

/// See the page above.
pub(super) struct Crew {
    shared: Arc<Shared>,
    turn: Mutex<()>,
    helpers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").field("helpers", &self.helpers.len()).finish_non_exhaustive()
    }
}

thread_local! {
    /// Whether this thread runs a task.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is locked here can be left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What starts the thread of a helper; not the system in tests of its limits.
pub(super) type Start<'a> =
    &'a mut dyn FnMut(String, Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

/// Starts a thread as the system does.
pub(super) fn start(name: String, work: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(work)
}

impl Crew {
    /// Starts up to `helpers` threads: where the system gives no more, with its reason, as many as it gave. The helpers
    /// that there are do the runs of those that there are not.
    pub(super) fn new(helpers: usize, start: Start<'_>) -> (Self, Option<io::Error>) {
        let nothing: &'static LoopBody<'static> = &|_| {};
        let shared = Arc::new(Shared {
            word: AtomicU64::new(0),
            current: UnsafeCell::new(ParallelLoop { body: nothing, tasks: 0, kernel: None }),
            taken: (0..=helpers).map(|_| Line(AtomicUsize::new(0))).collect(),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            alarm: Condvar::new(),
        });
        let mut crew = Self { shared, turn: Mutex::new(()), helpers: Vec::new() };
        for index in 0..helpers {
            let shared = Arc::clone(&crew.shared);
            match start(format!("engine-{index}"), Box::new(move || shared.help(index + 1))) {
                Ok(helper) => crew.helpers.push(helper),
                Err(error) => return (crew, Some(error)),
            }
        }
        (crew, None)
    }

    /// Threads that help.
    pub(super) fn helpers(&self) -> usize {
        self.helpers.len()
    }

    /// Runs `body(0..tasks)` on the helpers and the caller, each of which enters `kernel` for it.
    #[allow(unsafe_code, reason = "a borrow that the compiler cannot see across threads")]
    #[allow(clippy::transmute_ptr_to_ptr, reason = "a cast cannot lengthen a lifetime")]
    pub(super) fn run(&self, kernel: Option<Kernel>, tasks: usize, body: &LoopBody<'_>) {
        if BUSY.get() {
            let _entered = kernel.map(Kernel::enter);
            (0..tasks).for_each(body);
            return;
        }
        let turn = lock(&self.turn);
        let shared = &*self.shared;
        let body: *const LoopBody<'_> = body;
        // SAFETY: only the lifetime changes. Helpers follow the pointer while they are inside, and this function does
        // not return, or unwind, before the loop is closed and no helper is inside.
        let body: *const LoopBody<'static> =
            unsafe { std::mem::transmute::<*const LoopBody<'_>, *const LoopBody<'static>>(body) };
        // SAFETY: it is this caller's turn, and the last loop was left closed with no helper inside.
        unsafe { *shared.current.get() = ParallelLoop { body, tasks, kernel } };
        shared.taken.iter().for_each(|taken| taken.0.store(0, Ordering::Relaxed));
        let number = (shared.word.load(Ordering::Relaxed) & NUMBER).wrapping_add(NEXT_NUMBER);
        shared.word.store(number | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&shared.bed));
            shared.alarm.notify_all();
        }
        shared.take_tasks(ParallelLoop { body, tasks, kernel }, 0);
        shared.word.fetch_and(!OPEN, Ordering::Relaxed);
        let mut rounds = 0;
        while shared.word.load(Ordering::Acquire) & INSIDE != 0 {
            wait_a_round(&mut rounds, CALLER_SPINS);
        }
        let panic = lock(&shared.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

fn wait_a_round(rounds: &mut u32, most: u32) {
    if *rounds < most {
        *rounds += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

impl Shared {
    /// Works until no task is left, first on the run of thread `own`. A panic is kept for the caller and ends the loop.
    #[allow(unsafe_code, reason = "see the page above")]
    fn take_tasks(&self, current: ParallelLoop, own: usize) {
        BUSY.set(true);
        let threads = self.taken.len();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let _entered = current.kernel.map(Kernel::enter);
            for thread in (own..threads).chain(0..own) {
                let start = current.tasks * thread / threads;
                let end = current.tasks * (thread + 1) / threads;
                loop {
                    let task = start + self.taken[thread].0.fetch_add(1, Ordering::Relaxed);
                    if task >= end {
                        break;
                    }
                    // SAFETY: the closure outlives the loop, which this thread is inside of.
                    unsafe { (*current.body)(task) };
                }
            }
        }));
        BUSY.set(false);
        if let Err(panic) = outcome {
            // More than any run is long, and far below an overflow by those that still count up.
            self.taken.iter().for_each(|taken| taken.0.store(usize::MAX / 4, Ordering::Relaxed));
            *lock(&self.panic) = Some(panic);
        }
    }

    /// The life of a helper.
    #[allow(unsafe_code, reason = "see the page above")]
    fn help(&self, own: usize) {
        let mut seen = 0;
        loop {
            let mut word = self.next_loop(seen);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            seen = word & NUMBER;
            while word & OPEN != 0 && word & NUMBER == seen {
                match self.word.compare_exchange_weak(
                    word,
                    word + 1,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        // SAFETY: this helper is inside, so no thread writes the loop.
                        let current = unsafe { *self.current.get() };
                        self.take_tasks(current, own);
                        self.word.fetch_sub(1, Ordering::Release);
                        break;
                    }
                    Err(now) => word = now,
                }
            }
        }
    }

    /// The word once it has another number than `seen`.
    fn next_loop(&self, seen: u64) -> u64 {
        for _ in 0..SPINS {
            let word = self.word.load(Ordering::Relaxed);
            if word & NUMBER != seen {
                return word;
            }
            std::hint::spin_loop();
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let mut bed = lock(&self.bed);
        // A caller that opens a loop after this look sees the sleeper, and its alarm waits for the bed.
        let mut word = self.word.load(Ordering::SeqCst);
        while word & NUMBER == seen {
            bed = self.alarm.wait(bed).unwrap_or_else(PoisonError::into_inner);
            word = self.word.load(Ordering::SeqCst);
        }
        drop(bed);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        word
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A closed loop with another number wakes every helper, and the lock lets none miss it.
        self.shared.word.fetch_add(NEXT_NUMBER, Ordering::SeqCst);
        drop(lock(&self.shared.bed));
        self.shared.alarm.notify_all();
        for helper in self.helpers.drain(..) {
            // A helper cannot panic: tasks' panics are caught.
            let _ = helper.join();
        }
    }
}
