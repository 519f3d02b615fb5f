//! Products with blocks with AVX-512 and VNNI: a panel's width at a time.
#![allow(unsafe_code, reason = "vector loads and stores through pointers that operands check")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores are used")]
#![allow(clippy::needless_range_loop, reason = "as in the other tiles: constant ranges unroll")]

use defrost_model::BlockKind;

use crate::blocks::{GROUP_BYTES, GROUPS, RUN};
use crate::kernel::block_tiles::{FORMS, Unpacked, block_tiles, has_second, with_kind};
use crate::kernel::operands::{BlockOperands, RowOf};
use crate::layout::{INT8_GROUP, PANEL};

use self::zmm::dot;

block_tiles! {
    features: "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni",
    rows: 6,
    ops: zmm,
    dot: dot
}

mod zmm {
    use std::arch::x86_64::{
        __m512, __m512i, _mm_loadu_si128, _mm256_loadu_si256, _mm512_and_si512,
        _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtph_ps,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi8,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
        _mm512_slli_epi16, _mm512_srli_epi16, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
        _mm512_ternarylogic_epi32,
    };

    pub(super) type Int = __m512i;
    pub(super) type Float = __m512;
    pub(super) const LANES: usize = 16;
    pub(super) const PARTS: usize = 4;

    macro_rules! instructions {
        ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty $body:block)*) => {
            $(
                $(#[$doc])*
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
                #[inline]
                pub(super) fn $name($($arg: $ty),*) -> $out $body
            )*
        };
    }

    instructions! {
        fn zero() -> __m512i { _mm512_setzero_si512() }
        fn no_float() -> __m512 { _mm512_setzero_ps() }
        fn broadcast(value: i32) -> __m512i { _mm512_set1_epi32(value) }
        fn broadcast_float(value: f32) -> __m512 { _mm512_set1_ps(value) }
        fn low_nibbles(both: __m512i) -> __m512i { _mm512_and_si512(both, _mm512_set1_epi8(0xf)) }
        fn high_nibbles(both: __m512i) -> __m512i { low_nibbles(_mm512_srli_epi16::<4>(both)) }
        fn to_float(value: __m512i) -> __m512 { _mm512_cvtepi32_ps(value) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn negative(value: __m512) -> __m512 { _mm512_sub_ps(_mm512_set1_ps(-0.0), value) }
    }

    /// Adds the products of groups of four codes and activations to the sums of their lanes. Not as the intrinsic, which the
    /// compiler orders sum by sum, with all codes that they share in memory: these stay in the order in which they are written.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    pub(super) fn dot<const FORM: usize>(mut sums: __m512i, codes: __m512i, x: __m512i) -> __m512i {
        // SAFETY: an instruction on registers, which the processor has.
        unsafe {
            std::arch::asm!(
                "vpdpbusd {sums}, {codes}, {x}",
                sums = inout(zmm_reg) sums,
                codes = in(zmm_reg) codes,
                x = in(zmm_reg) x,
                options(nomem, nostack, preserves_flags),
            );
        }
        sums
    }

    /// Codes with the bits of a plane that are at `MASK` once they are shifted to the left, or right if `LEFT` is negative.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    pub(super) fn with_bits<const LEFT: i32, const MASK: i8>(
        codes: __m512i,
        plane: __m512i,
    ) -> __m512i {
        /// `a | (b & c)`.
        const OR_AND: i32 = 0xf8;
        let shifted = match LEFT {
            4 => _mm512_slli_epi16::<4>(plane),
            3 => _mm512_slli_epi16::<3>(plane),
            2 => _mm512_slli_epi16::<2>(plane),
            1 => _mm512_slli_epi16::<1>(plane),
            -1 => _mm512_srli_epi16::<1>(plane),
            -2 => _mm512_srli_epi16::<2>(plane),
            -3 => _mm512_srli_epi16::<3>(plane),
            _ => plane,
        };
        _mm512_ternarylogic_epi32::<OR_AND>(codes, shifted, _mm512_set1_epi8(MASK))
    }

    /// Loads and stores of a register: as many values as it has must be there.
    macro_rules! memory {
        ($(fn $name:ident($from:ident: $ty:ty $(, $value:ident: $of:ty)?) $(-> $out:ty)? $body:block)*) => {
            $(
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
                #[inline]
                pub(super) unsafe fn $name($from: $ty $(, $value: $of)?) $(-> $out)? {
                    // SAFETY: of the caller, who knows of as many values.
                    unsafe { $body }
                }
            )*
        };
    }

    memory! {
        fn load(from: *const u8) -> __m512i { _mm512_loadu_si512(from.cast()) }
        fn halves(from: *const u8) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        fn unsigned_bytes(from: *const u8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())))
        }
        fn signed_bytes(from: *const u8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))
        }
        fn store(to: *mut u8, value: __m512i) { _mm512_storeu_si512(to.cast(), value) }
        fn load_floats(from: *const f32) -> __m512 { _mm512_loadu_ps(from) }
        fn store_floats(to: *mut f32, value: __m512) { _mm512_storeu_ps(to, value) }
    }
}
