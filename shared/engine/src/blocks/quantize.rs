//! Floats to blocks of a GGUF file.
//!
//! The plain kinds round as `gguf`'s reference does, to the bit. K kinds take the scale that reaches from the smallest to the
//! largest of 32 (of 16, of magnitudes, in `q6_k`), without the search for the least error that files in circulation were made
//! with: good enough for models that are packed from floats, and the same on every processor.

use defrost_model::BlockKind;
use half::f16;

use super::{RUN, check};

/// Blocks of row-major values, rows of `k`.
///
/// # Panics
/// If a row is no whole number of blocks.
pub fn quantize(kind: BlockKind, rows: &[f32], k: usize) -> Vec<u8> {
    check(kind, k);
    assert!(k == 0 || rows.len().is_multiple_of(k), "rows of {k}");
    let (weights, bytes) = kind.gguf_block();
    let mut out = Vec::with_capacity(rows.len() / weights * bytes);
    for block in rows.chunks_exact(weights) {
        match kind {
            BlockKind::Q8_0 => q8_0(block, &mut out),
            BlockKind::Q4_0 => symmetric(block, 8, &mut out),
            BlockKind::Q5_0 => symmetric(block, 16, &mut out),
            BlockKind::Q4_1 => from_minimum(block, 15, &mut out),
            BlockKind::Q5_1 => from_minimum(block, 31, &mut out),
            BlockKind::Q4_K => with_minima(block, 15, &mut out),
            BlockKind::Q5_K => with_minima(block, 31, &mut out),
            BlockKind::Q6_K => q6_k(block, &mut out),
        }
    }
    out
}

fn push(out: &mut Vec<u8>, factor: f32) {
    out.extend(f16::from_f32(factor).to_le_bytes());
}

/// 1 / d, or 0.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn q8_0(block: &[f32], out: &mut Vec<u8>) {
    let d = block.iter().fold(0f32, |max, value| max.max(value.abs())) / 127.0;
    let inverse = inverse(d);
    push(out, d);
    // Half away from zero.
    out.extend(block.iter().map(|value| (value * inverse).round() as i8 as u8));
}

/// Appends nibbles, after the fifth bits if codes have such.
fn push_codes(codes: &[u8], fifth: bool, out: &mut Vec<u8>) {
    if fifth {
        let bits = codes
            .iter()
            .enumerate()
            .fold(0, |bits, (at, &code)| bits | u32::from(code >> 4 & 1) << at);
        out.extend(bits.to_le_bytes());
    }
    let (first, second) = codes.split_at(codes.len() / 2);
    out.extend(first.iter().zip(second).map(|(first, second)| first & 0xf | second << 4));
}

/// `d (q - zero)`, where the value of largest magnitude has the code 0.
fn symmetric(block: &[f32], zero: u8, out: &mut Vec<u8>) {
    let largest =
        block.iter().fold(0f32, |max, &value| if value.abs() > max.abs() { value } else { max });
    let d = largest / -f32::from(zero);
    let inverse = f64::from(inverse(d));
    let codes: Vec<u8> = block
        .iter()
        .map(|&value| {
            let code = f64::from(value) * inverse + f64::from(zero) + 0.5;
            (code as u8).min(2 * zero - 1)
        })
        .collect();
    push(out, d);
    push_codes(&codes, zero == 16, out);
}

/// `d q + m`.
fn from_minimum(block: &[f32], most: u8, out: &mut Vec<u8>) {
    let (least, largest) = range(block);
    let d = (largest - least) / f32::from(most);
    let inverse = inverse(d);
    let codes: Vec<u8> =
        block.iter().map(|&value| (((value - least) * inverse + 0.5) as u8).min(most)).collect();
    push(out, d);
    push(out, least);
    push_codes(&codes, most == 31, out);
}

fn range(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, largest), &value| {
        (least.min(value), largest.max(value))
    })
}

/// `(d s) q - (e m)`.
fn with_minima(block: &[f32], most: u8, out: &mut Vec<u8>) {
    let wanted: Vec<(f32, f32)> = block
        .chunks_exact(RUN)
        .map(|run| {
            let (least, largest) = range(run);
            let minimum = (-least).max(0.0);
            ((largest + minimum).max(0.0) / f32::from(most), minimum)
        })
        .collect();
    let unit = |of: fn(&(f32, f32)) -> f32| {
        f16::from_f32(wanted.iter().map(of).fold(0f32, f32::max) / 63.0)
    };
    let (d, e) = (unit(|wanted| wanted.0), unit(|wanted| wanted.1));
    let six_bits = |value: f32, unit: f16| ((value * inverse(unit.to_f32())).round() as u8).min(63);
    let scales: Vec<u8> = wanted.iter().map(|wanted| six_bits(wanted.0, d)).collect();
    let minima: Vec<u8> = wanted.iter().map(|wanted| six_bits(wanted.1, e)).collect();
    let mut codes = Vec::with_capacity(block.len());
    for (run, (&scale, &minimum)) in block.chunks_exact(RUN).zip(scales.iter().zip(&minima)) {
        let inverse = inverse(d.to_f32() * f32::from(scale));
        let minimum = e.to_f32() * f32::from(minimum);
        codes
            .extend(run.iter().map(|&value| (((value + minimum) * inverse + 0.5) as u8).min(most)));
    }
    out.extend(d.to_le_bytes());
    out.extend(e.to_le_bytes());
    let high = |at: usize, of: &[u8]| of[at + 4] >> 4 << 6;
    out.extend((0..4).map(|at| scales[at] | high(at, &scales)));
    out.extend((0..4).map(|at| minima[at] | high(at, &minima)));
    out.extend((0..4).map(|at| scales[at + 4] & 0xf | minima[at + 4] << 4));
    if most == 31 {
        out.extend((0..RUN).map(|input| {
            (0..8).fold(0, |bits, run| bits | (codes[run * RUN + input] >> 4) << run)
        }));
    }
    codes.chunks_exact(2 * RUN).for_each(|codes| push_codes(codes, false, out));
}

/// `(d s) (q - 32)`.
fn q6_k(block: &[f32], out: &mut Vec<u8>) {
    let wanted: Vec<f32> = block
        .chunks_exact(RUN / 2)
        .map(|part| part.iter().fold(0f32, |max, value| max.max(value.abs())) / 31.0)
        .collect();
    let d = f16::from_f32(wanted.iter().copied().fold(0f32, f32::max) / 127.0);
    let scales: Vec<i8> =
        wanted.iter().map(|scale| (scale * inverse(d.to_f32())).round() as i8).collect();
    let mut codes = Vec::with_capacity(block.len());
    for (part, &scale) in block.chunks_exact(RUN / 2).zip(&scales) {
        let inverse = inverse(d.to_f32() * f32::from(scale));
        codes.extend(
            part.iter().map(|value| ((value * inverse).round().clamp(-32.0, 31.0) + 32.0) as u8),
        );
    }
    codes.chunks_exact(128).for_each(|codes| push_codes(codes, false, out));
    for codes in codes.chunks_exact(128) {
        out.extend((0..RUN).map(|input| {
            (0..4).fold(0, |bits, quarter| {
                bits | (codes[quarter * RUN + input] >> 4) << (2 * quarter)
            })
        }));
    }
    out.extend(scales.iter().map(|&scale| scale as u8));
    out.extend(d.to_le_bytes());
}
