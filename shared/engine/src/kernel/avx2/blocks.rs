//! Products with blocks in 256-bit registers: 16 channels at a time. The instructions are those of AVX2; AVX-VNNI takes the same
//! loop with another `dot`.
#![allow(unsafe_code, reason = "vector loads and stores through pointers that operands check")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores are used")]
#![allow(clippy::needless_range_loop, reason = "as in the other tiles: constant ranges unroll")]

use defrost_model::BlockKind;

use crate::blocks::{GROUP_BYTES, GROUPS, RUN};
use crate::kernel::block_tiles::{FORMS, Unpacked, block_tiles, has_second, with_kind};
use crate::kernel::operands::{BlockOperands, RowOf};
use crate::layout::{INT8_GROUP, PANEL};

use self::ymm::dot;

block_tiles! { features: "avx2,fma,f16c", rows: 4, ops: ymm, dot: dot }

pub(in crate::kernel) mod ymm {
    use std::arch::x86_64::{
        __m256, __m256i, _mm_loadl_epi64, _mm_loadu_si128, _mm256_add_epi32, _mm256_and_si256,
        _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtph_ps,
        _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_mul_ps,
        _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
        _mm256_setzero_ps, _mm256_setzero_si256, _mm256_slli_epi16, _mm256_srai_epi16,
        _mm256_srli_epi16, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps,
    };

    use crate::kernel::block_tiles::FORMS;

    pub(in crate::kernel) type Int = __m256i;
    pub(in crate::kernel) type Float = __m256;
    pub(in crate::kernel) const LANES: usize = 8;
    pub(in crate::kernel) const PARTS: usize = 2;

    macro_rules! instructions {
        ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty $body:block)*) => {
            $(
                $(#[$doc])*
                #[target_feature(enable = "avx2,fma,f16c")]
                #[inline]
                pub(in crate::kernel) fn $name($($arg: $ty),*) -> $out $body
            )*
        };
    }

    instructions! {
        fn zero() -> __m256i { _mm256_setzero_si256() }
        fn no_float() -> __m256 { _mm256_setzero_ps() }
        fn broadcast(value: i32) -> __m256i { _mm256_set1_epi32(value) }
        fn broadcast_float(value: f32) -> __m256 { _mm256_set1_ps(value) }
        fn low_nibbles(both: __m256i) -> __m256i { _mm256_and_si256(both, _mm256_set1_epi8(0xf)) }
        fn high_nibbles(both: __m256i) -> __m256i { low_nibbles(_mm256_srli_epi16::<4>(both)) }
        fn to_float(value: __m256i) -> __m256 { _mm256_cvtepi32_ps(value) }
        fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn fma(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn negative(value: __m256) -> __m256 { _mm256_sub_ps(_mm256_set1_ps(-0.0), value) }
    }

    /// A multiplication that stays where it is written, see AVX-512's `dot`.
    macro_rules! multiply {
        ($instruction:literal, $codes:expr, $x:expr) => {{
            let products: __m256i;
            // SAFETY: an instruction on registers, which the processor has.
            unsafe {
                std::arch::asm!(
                    concat!($instruction, " {products}, {codes}, {x}"),
                    products = lateout(ymm_reg) products,
                    codes = in(ymm_reg) $codes,
                    x = in(ymm_reg) $x,
                    options(nomem, nostack, preserves_flags),
                );
            }
            products
        }};
    }

    /// Adds the products of groups of four codes and activations to the sums of their lanes.
    ///
    /// `VPMADDUBSW` adds pairs in 16 bits: enough for codes of six, 2 * 63 * 127. Codes of eight are widened: each lane has the
    /// even and the odd inputs of a group as pairs of 16 bits.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) fn dot<const FORM: usize>(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        if const { FORMS[FORM].0.bits } < 8 {
            let pairs = multiply!("vpmaddubsw", codes, x);
            return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
        let even = _mm256_and_si256(codes, _mm256_set1_epi16(0xff));
        let odd = _mm256_srli_epi16::<8>(codes);
        let even_x = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
        let odd_x = _mm256_srai_epi16::<8>(x);
        let sums = _mm256_add_epi32(sums, multiply!("vpmaddwd", even, even_x));
        _mm256_add_epi32(sums, multiply!("vpmaddwd", odd, odd_x))
    }

    /// Codes with the bits of a plane that are at `MASK` once they are shifted to the left, or right if `LEFT` is negative.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(in crate::kernel) fn with_bits<const LEFT: i32, const MASK: i8>(
        codes: __m256i,
        plane: __m256i,
    ) -> __m256i {
        let shifted = match LEFT {
            4 => _mm256_slli_epi16::<4>(plane),
            3 => _mm256_slli_epi16::<3>(plane),
            2 => _mm256_slli_epi16::<2>(plane),
            1 => _mm256_slli_epi16::<1>(plane),
            -1 => _mm256_srli_epi16::<1>(plane),
            -2 => _mm256_srli_epi16::<2>(plane),
            -3 => _mm256_srli_epi16::<3>(plane),
            _ => plane,
        };
        _mm256_or_si256(codes, _mm256_and_si256(shifted, _mm256_set1_epi8(MASK)))
    }

    /// Loads and stores of a register: as many values as it has must be there.
    macro_rules! memory {
        ($(fn $name:ident($from:ident: $ty:ty $(, $value:ident: $of:ty)?) $(-> $out:ty)? $body:block)*) => {
            $(
                #[target_feature(enable = "avx2,fma,f16c")]
                #[inline]
                pub(in crate::kernel) unsafe fn $name($from: $ty $(, $value: $of)?) $(-> $out)? {
                    // SAFETY: of the caller, who knows of as many values.
                    unsafe { $body }
                }
            )*
        };
    }

    memory! {
        fn load(from: *const u8) -> __m256i { _mm256_loadu_si256(from.cast()) }
        fn halves(from: *const u8) -> __m256 { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
        fn unsigned_bytes(from: *const u8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())))
        }
        fn signed_bytes(from: *const u8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())))
        }
        fn store(to: *mut u8, value: __m256i) { _mm256_storeu_si256(to.cast(), value) }
        fn load_floats(from: *const f32) -> __m256 { _mm256_loadu_ps(from) }
        fn store_floats(to: *mut f32, value: __m256) { _mm256_storeu_ps(to, value) }
    }
}
