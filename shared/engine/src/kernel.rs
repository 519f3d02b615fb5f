//! Which kernel set runs, chosen once at run time from what the processor offers.
//!
//! The binary is compiled for the baseline of its architecture (never `target-cpu=native`), so one
//! file runs on every host of a mixed fleet. Functions with more instructions carry
//! `#[target_feature]`; [`Kernel`] is the proof that the processor has them, because the only way
//! to obtain a variant is [`Kernel::detect`] or [`Kernel::available`].

/// A kernel set that this processor can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Kernel {
    /// The best kernel set of this processor.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// Every kernel set this processor can run, best first. Tests and benchmarks run them all.
    pub fn available() -> Vec<Self> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni")
            {
                sets.push(Self(Set::Avx512Vnni));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                if is_x86_feature_detected!("avxvnni") {
                    sets.push(Self(Set::AvxVnni));
                }
                sets.push(Self(Set::Avx2));
            }
        }
        sets.push(Self(Set::Portable));
        sets
    }

    /// The kernel set of that name, or `None` when this processor cannot run it.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|kernel| kernel.name() == name)
    }

    /// `avx512-vnni`, `avx-vnni`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            Set::Portable => "portable",
        }
    }

    pub(crate) fn set(self) -> Set {
        self.0
    }
}

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

/// Compiles one plain-Rust function body once per kernel set and calls the right one.
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
            match kernel.set() {
                // SAFETY: a `Kernel` of this set exists only where the processor has its features.
                #[cfg(target_arch = "x86_64")]
                $crate::kernel::Set::Avx512Vnni => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernel::Set::AvxVnni | $crate::kernel::Set::Avx2 => unsafe {
                    avx2($($arg),*);
                },
                $crate::kernel::Set::Portable => body($($arg),*),
            }
        }
    };
}

pub(crate) use per_kernel;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_always_there_and_last() {
        let sets = Kernel::available();
        assert_eq!(sets.last().map(|kernel| kernel.name()), Some("portable"));
        assert_eq!(Kernel::detect(), sets[0]);
        assert_eq!(Kernel::by_name("portable"), sets.last().copied());
        assert_eq!(Kernel::by_name("sse9"), None);
    }
}
