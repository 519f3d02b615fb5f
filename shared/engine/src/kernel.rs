//! Which kernel set runs, chosen once at run time from what the processor offers.
//!
//! The binary is compiled for the baseline of its architecture (never `target-cpu=native`), so one
//! file runs on every host of a mixed fleet. Functions with more instructions carry
//! `#[target_feature]`; [`Kernel`] is the proof that the processor has them, because the only way
//! to obtain one is [`Kernel::detect`] or [`Kernel::available`].
//!
//! A kernel set is one file, which declares one [`set::KernelSet`]: the rows of its tiles, the layout of weights that it
//! reads, its functions. Adding a set is that file and its line in [`SETS`]; nothing else knows sets by name.

/// Calls `$tile::<ROWS>` with the row count of a tile, at most six, as a constant; and the kind of weights, where a tile is generic in it.
#[cfg(target_arch = "x86_64")]
macro_rules! with_rows {
    ($rows:expr, $tile:ident $(of $weight:ty)?; $($arg:expr),*) => {
        match $rows {
            0 => {}
            1 => $tile::<1 $(, $weight)?>($($arg),*),
            2 => $tile::<2 $(, $weight)?>($($arg),*),
            3 => $tile::<3 $(, $weight)?>($($arg),*),
            4 => $tile::<4 $(, $weight)?>($($arg),*),
            5 => $tile::<5 $(, $weight)?>($($arg),*),
            _ => $tile::<6 $(, $weight)?>($($arg),*),
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
#[cfg(target_arch = "x86_64")]
mod block_tiles;
pub(crate) mod operands;
mod portable;
pub(crate) mod set;
mod tiles;

use set::{KernelSet, Vectors};

/// Every kernel set, best first.
static SETS: &[KernelSet] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::SET,
    #[cfg(target_arch = "x86_64")]
    avx_vnni::SET,
    #[cfg(target_arch = "x86_64")]
    avx2::SET,
    portable::SET,
];

/// A kernel set that this processor can run.
#[derive(Clone, Copy)]
pub struct Kernel(&'static KernelSet);

impl Kernel {
    /// The best kernel set of this processor.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// Every kernel set this processor can run, best first. Tests and benchmarks run them all.
    pub fn available() -> Vec<Self> {
        SETS.iter().filter(|set| (set.runs_here)()).map(Self).collect()
    }

    /// The kernel set of that name, or `None` when this processor cannot run it.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|kernel| kernel.name() == name)
    }

    /// Such as `avx512-vnni`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The layout tag of the panels of weights that it reads.
    pub fn layout(self) -> &'static str {
        self.0.layout.tag
    }

    /// What plain loops are compiled for.
    pub(crate) fn vectors(self) -> Vectors {
        self.0.vectors
    }

    pub(crate) fn set(self) -> &'static KernelSet {
        self.0
    }

    /// A kernel set that reads weights in this layout, to see what is made of its tag.
    #[cfg(test)]
    pub(crate) fn reading(layout: &'static crate::layout::PanelLayout) -> Self {
        Self(Box::leak(Box::new(KernelSet { layout, ..portable::SET })))
    }

    /// The kernels of [`Kernel::available`], one whose tiles have rows like no other's, and AVX-VNNI's loops where its processors
    /// are not.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Vec<Self> {
        use set::{MOST_ROWS, Tile};
        static TALL: KernelSet = KernelSet {
            name: "tall",
            int8: Tile { rows: MOST_ROWS, run: portable::SET.int8.run },
            int16: Tile { rows: 16, run: portable::SET.int16.run },
            float: Tile { rows: 7, run: portable::SET.float.run },
            bf16: Tile { rows: 1, run: portable::SET.bf16.run },
            blocks: Tile { rows: 5, run: portable::SET.blocks.run },
            ..portable::SET
        };
        let mut kernels = Self::available();
        kernels.push(Self(&TALL));
        #[cfg(target_arch = "x86_64")]
        if (avx512::SET.runs_here)() {
            use avx_vnni::blocks::encoded_by_avx512;
            static VNNI: KernelSet = KernelSet {
                name: "avx-vnni, encoded by avx-512",
                blocks: Tile { rows: avx2::BLOCK_ROWS, run: encoded_by_avx512::tile },
                ..avx2::SET
            };
            kernels.push(Self(&VNNI));
        }
        kernels
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kernel").field(&self.name()).finish()
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Kernel {}

/// Asks for the lines of values that will be read soon, where the processor can be asked.
#[inline]
pub(crate) fn prefetch(values: &[f32]) {
    /// Values of a cache line.
    const LINE: usize = 16;
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: part of the baseline of x86-64, and reads nothing.
        #[allow(unsafe_code, reason = "an instruction without effect on values")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, LINE);
}

/// Compiles one plain-Rust function body once per kind of vectors and calls the kernel set's.
///
/// The body must not use intrinsics: then all versions round alike and give the same bits, and only
/// the width of the vectors the compiler uses differs. `mul_add` is one rounding everywhere: one
/// instruction in the vector sets and on arm64, a call in the portable set of x86-64.
macro_rules! per_kernel {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(unsafe_code, reason = "calls a target_feature function that Kernel proves runnable")]
        $vis fn $name(kernel: $crate::kernel::Kernel, $($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512($($arg: $ty),*) { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) { body($($arg),*) }
            match kernel.vectors() {
                // SAFETY: a `Kernel` with these vectors exists only where the processor has them.
                #[cfg(target_arch = "x86_64")]
                $crate::kernel::set::Vectors::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernel::set::Vectors::Avx2 => unsafe { avx2($($arg),*) },
                $crate::kernel::set::Vectors::Baseline => body($($arg),*),
            }
        }
    };
}

pub(crate) use per_kernel;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::set::{MOST_ROWS, ThreadState};
    use super::*;
    use crate::threads::Threads;

    #[test]
    fn portable_is_always_there_and_last() {
        let sets = Kernel::available();
        assert_eq!(sets.last().map(|kernel| kernel.name()), Some("portable"));
        assert_eq!(Kernel::detect(), sets[0]);
        assert_eq!(Kernel::by_name("portable"), sets.last().copied());
        assert_eq!(Kernel::by_name("sse9"), None);
    }

    #[test]
    fn sets_have_names_of_their_own_and_tiles_that_fit() {
        for (at, set) in SETS.iter().enumerate() {
            assert!(SETS[..at].iter().all(|other| other.name != set.name), "{}", set.name);
            let tiles =
                [set.int8.rows, set.int16.rows, set.float.rows, set.bf16.rows, set.blocks.rows];
            for rows in tiles {
                assert!((1..=MOST_ROWS).contains(&rows), "{} has tiles of {rows} rows", set.name);
            }
        }
    }

    /// Each thread enters before its first task of a step and leaves after its last, once, whatever is nested.
    #[test]
    fn threads_enter_and_leave_a_set() {
        static ENTERED: AtomicUsize = AtomicUsize::new(0);
        static LEFT: AtomicUsize = AtomicUsize::new(0);
        static STATEFUL: KernelSet = KernelSet {
            name: "stateful",
            thread: Some(ThreadState { enter, leave }),
            ..portable::SET
        };
        fn enter() {
            ENTERED.fetch_add(1, Ordering::SeqCst);
        }
        fn leave() {
            LEFT.fetch_add(1, Ordering::SeqCst);
        }
        let kernel = Kernel(&STATEFUL);
        for count in [1, 3] {
            let threads = Threads::new(Some(count));
            for tasks in [1, 20] {
                let before = ENTERED.load(Ordering::SeqCst);
                threads.for_each_with(kernel, tasks, |_| {
                    assert!(ENTERED.load(Ordering::SeqCst) > LEFT.load(Ordering::SeqCst));
                    let now = ENTERED.load(Ordering::SeqCst);
                    threads.for_each_with(kernel, 2, |_| {});
                    assert!(ENTERED.load(Ordering::SeqCst) - now < count, "entered again inside");
                });
                let entered = ENTERED.load(Ordering::SeqCst);
                assert!((1..=count).contains(&(entered - before)), "{entered} after {before}");
                assert_eq!(entered, LEFT.load(Ordering::SeqCst));
            }
        }
        let failed = std::panic::catch_unwind(|| {
            Threads::new(Some(1)).for_each_with(kernel, 1, |_| panic!("a task fails"));
        });
        assert!(failed.is_err());
        assert_eq!(ENTERED.load(Ordering::SeqCst), LEFT.load(Ordering::SeqCst));
    }
}
