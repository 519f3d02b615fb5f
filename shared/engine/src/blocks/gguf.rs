//! Blocks as GGUF files have them.
//!
//! ```text
//! q8_0   d            32 bytes                          q4_k   d e  12 bytes of scales             128 of nibbles
//! q4_0   d            16 of nibbles                     q5_k   d e  12 bytes of scales  32 of high 128 of nibbles
//! q4_1   d m          16 of nibbles                     q6_k   128 of nibbles  64 of high bits  16 scales  d
//! q5_0   d    4 of high bits  16 of nibbles
//! q5_1   d m  4 of high bits  16 of nibbles
//! ```
//!
//! Low nibbles of a run of bytes have the first half of what it stands for, high nibbles the second: of 32 weights, of 64 in K
//! kinds, of 128 in `q6_k`.

use defrost_model::BlockKind;
use half::f16;

use super::{Block, check};

/// The values of blocks of a GGUF file, as `gguf` itself has them, to the bit.
///
/// # Panics
/// If the bytes are no whole blocks, or `out` is not as long as they say.
pub fn dequantize(kind: BlockKind, gguf: &[u8], out: &mut [f32]) {
    let (weights, bytes) = kind.gguf_block();
    check(kind, out.len());
    assert_eq!(gguf.len(), out.len() / weights * bytes, "bytes of {} weights", out.len());
    for (block, out) in gguf.chunks_exact(bytes).zip(out.chunks_exact_mut(weights)) {
        read(kind, block).values(kind, out);
    }
}

/// A block of a file.
pub(super) fn read(kind: BlockKind, block: &[u8]) -> Block {
    let mut own = Block::ZERO;
    let codes = &mut own.codes;
    let factor = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]);
    own.factors[0] = factor(if kind == BlockKind::Q6_K { 208 } else { 0 });
    match kind {
        BlockKind::Q8_0 => {
            for (code, &q) in codes.iter_mut().zip(&block[2..34]) {
                *code = q ^ 0x80;
            }
        }
        BlockKind::Q4_0 => nibbles(&block[2..18], &mut codes[..32]),
        BlockKind::Q4_1 => {
            own.factors[1] = factor(2);
            nibbles(&block[4..20], &mut codes[..32]);
        }
        BlockKind::Q5_0 => {
            nibbles(&block[6..22], &mut codes[..32]);
            fifth_bits(&block[2..6], &mut codes[..32]);
        }
        BlockKind::Q5_1 => {
            own.factors[1] = factor(2);
            nibbles(&block[8..24], &mut codes[..32]);
            fifth_bits(&block[4..8], &mut codes[..32]);
        }
        BlockKind::Q4_K | BlockKind::Q5_K => {
            own.factors[1] = factor(2);
            (own.scales, own.minima) = six_bits(&block[4..16]);
            let high = &block[16..block.len() - 128];
            let pairs = block[block.len() - 128..].chunks_exact(32).zip(codes.chunks_exact_mut(64));
            for (at, (bytes, codes)) in pairs.enumerate() {
                nibbles(bytes, codes);
                let (first, second) = codes.split_at_mut(32);
                for (input, &bits) in high.iter().enumerate() {
                    first[input] |= (bits >> (2 * at) & 1) << 4;
                    second[input] |= (bits >> (2 * at + 1) & 1) << 4;
                }
            }
        }
        BlockKind::Q6_K => {
            own.scales.copy_from_slice(&block[192..208]);
            let halves = block[..128].chunks_exact(64).zip(block[128..192].chunks_exact(32));
            for ((low, high), codes) in halves.zip(codes.chunks_exact_mut(128)) {
                nibbles(low, codes);
                for (quarter, codes) in codes.chunks_exact_mut(32).enumerate() {
                    for (code, &bits) in codes.iter_mut().zip(high) {
                        *code |= (bits >> (2 * quarter) & 3) << 4;
                    }
                }
            }
        }
    }
    own
}

/// Low nibbles to the first half of the codes, high ones to the second.
fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (first, second) = codes.split_at_mut(bytes.len());
    for ((first, second), &byte) in first.iter_mut().zip(second).zip(bytes) {
        (*first, *second) = (byte & 0xf, byte >> 4);
    }
}

/// Bit `i` of four bytes to code `i`.
fn fifth_bits(bytes: &[u8], codes: &mut [u8]) {
    for (at, code) in codes.iter_mut().enumerate() {
        *code |= (bytes[at / 8] >> (at % 8) & 1) << 4;
    }
}

/// Eight scales and eight minima of six bits: the first four of each in bytes 0 to 7, of the others the low four bits in bytes
/// 8 to 11 and the high two above the former.
fn six_bits(bytes: &[u8]) -> ([u8; 16], [u8; 8]) {
    let (mut scales, mut minima) = ([0; 16], [0; 8]);
    for at in 0..4 {
        scales[at] = bytes[at] & 63;
        minima[at] = bytes[at + 4] & 63;
        scales[at + 4] = bytes[at + 8] & 0xf | bytes[at] >> 6 << 4;
        minima[at + 4] = bytes[at + 8] >> 4 | bytes[at + 4] >> 6 << 4;
    }
    (scales, minima)
}
