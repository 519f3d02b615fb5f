//! Products with blocks with AVX-VNNI: those of AVX2 with `VPDPBUSD`.
#![allow(unsafe_code, reason = "vector loads and stores through pointers that operands check")]
#![allow(clippy::needless_range_loop, reason = "as in the other tiles: constant ranges unroll")]

use std::arch::x86_64::__m256i;

use defrost_model::BlockKind;

use crate::blocks::{GROUP_BYTES, GROUPS, RUN};
use crate::kernel::avx2::blocks::ymm;
use crate::kernel::block_tiles::{FORMS, Unpacked, block_tiles, has_second, with_kind};
use crate::kernel::operands::{BlockOperands, RowOf};
use crate::layout::{INT8_GROUP, PANEL};

block_tiles! { features: "avx2,fma,f16c,avxvnni", rows: 4, ops: ymm, dot: dot }

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
#[inline]
fn dot<const FORM: usize>(mut sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
    // Not as the intrinsic, for the order of instructions: see AVX-512's.
    // SAFETY: an instruction on registers, which the processor has.
    unsafe {
        std::arch::asm!(
            "{{vex}} vpdpbusd {sums}, {codes}, {x}",
            sums = inout(ymm_reg) sums,
            codes = in(ymm_reg) codes,
            x = in(ymm_reg) x,
            options(nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// The same loop with the instruction as AVX-512 encodes it: what tests run where AVX-VNNI is not.
#[cfg(test)]
pub(in crate::kernel) mod encoded_by_avx512 {
    use super::*;

    block_tiles! {
        features: "avx2,fma,f16c,avx512f,avx512vl,avx512vnni",
        rows: 4,
        ops: ymm,
        dot: dot
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
    #[inline]
    fn dot<const FORM: usize>(mut sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        // SAFETY: an instruction on registers, which the processor has.
        unsafe {
            std::arch::asm!(
                "{{evex}} vpdpbusd {sums}, {codes}, {x}",
                sums = inout(ymm_reg) sums,
                codes = in(ymm_reg) codes,
                x = in(ymm_reg) x,
                options(nomem, nostack, preserves_flags),
            );
        }
        sums
    }
}
