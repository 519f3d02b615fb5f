//! What products with blocks are, to the bit, in every kernel set.
//!
//! For each run of 32 inputs in ascending order, and each channel:
//!
//! ```text
//! i = sum of code * x, less zero * sum of x        exact in i32; of each half of the run, if these have scales of their own
//! t = i * scale                                    scale: d, or d * s, which is exact
//! t = fma(i of the second half, its scale, t)      where there are two
//! t = fma(minimum, -sum of x, t)                   where there are minima: e * m, or -m; exact as well
//! sum = fma(t, scale of x, sum)
//! ```

use half::f16;

use crate::blocks::{Form, GROUP_BYTES, GROUPS, RUN, RunScale, form};
use crate::kernel::operands::{BlockOperands, RowOf};
use crate::layout::{INT8_GROUP, PANEL};

/// Codes of a run: groups of four inputs of 64 channels.
type Codes = [[u8; GROUP_BYTES]; GROUPS];

/// What belongs to the channels of a run.
struct Scales {
    /// Of the run, or of its halves.
    scales: [RowOf<f32>; 2],
    minima: RowOf<f32>,
}

pub(super) fn tile(operands: &BlockOperands<'_>, sums: &mut [RowOf<f32>]) {
    let form = form(operands.kind());
    let sums = &mut sums[..operands.rows()];
    sums.fill([0.0; PANEL]);
    let per_block = form.inputs() / RUN;
    for (at, block) in operands.panel().chunks_exact(form.block_bytes()).enumerate() {
        let (head, runs) = block.split_at(form.head_bytes());
        for (within, bytes) in runs.chunks_exact(form.run_bytes()).enumerate() {
            let (codes, scales) = (unpack(form, bytes), scales(form, head, bytes));
            let run = at * per_block + within;
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = &operands.row(row)[run * RUN..][..RUN];
                add_run(form, &codes, &scales, x, &operands.scales(row)[run], sums);
            }
        }
    }
}

/// Adds a run's products with one row.
fn add_run(
    form: Form,
    codes: &Codes,
    scales: &Scales,
    x: &[i8],
    of_x: &RunScale,
    sums: &mut RowOf<f32>,
) {
    let [all, first, second] = of_x.minus_sums;
    let minus = if form.scales == 1 { [all, 0] } else { [first, second] };
    let mut exact = minus.map(|minus| [form.zero * minus; PANEL]);
    for (group, codes) in codes.iter().enumerate() {
        let half = group * form.scales / GROUPS;
        add(codes, &x[group * INT8_GROUP..][..INT8_GROUP], &mut exact[half]);
    }
    for channel in 0..PANEL {
        let mut value = exact[0][channel] as f32 * scales.scales[0][channel];
        if form.scales == 2 {
            value = (exact[1][channel] as f32).mul_add(scales.scales[1][channel], value);
        }
        if form.minima {
            value = scales.minima[channel].mul_add(all as f32, value);
        }
        sums[channel] = value.mul_add(of_x.scale, sums[channel]);
    }
}

/// Adds the products of a group's codes with its four inputs.
fn add(codes: &[u8; GROUP_BYTES], x: &[i8], exact: &mut RowOf<i32>) {
    for (sum, codes) in exact.iter_mut().zip(codes.chunks_exact(INT8_GROUP)) {
        for (&code, &x) in codes.iter().zip(x) {
            *sum += i32::from(code) * i32::from(x);
        }
    }
}

fn unpack(form: Form, run: &[u8]) -> Codes {
    let mut codes = [[0; GROUP_BYTES]; GROUPS];
    let (packed, planes) = run[..form.scales_at()].split_at(form.code_bytes());
    let packed = packed.as_chunks::<GROUP_BYTES>().0;
    let planes = planes.as_chunks::<GROUP_BYTES>().0;
    for (group, codes) in codes.iter_mut().enumerate() {
        if form.bits == 8 {
            *codes = packed[group];
            continue;
        }
        let (within, shift) = (group % packed.len(), if group < packed.len() { 0 } else { 4 });
        for (at, code) in codes.iter_mut().enumerate() {
            let high = match planes.len() {
                0 => 0,
                1 => planes[0][at] >> group & 1,
                _ => planes[group / 4][at] >> (2 * (group % 4)) & 3,
            };
            *code = packed[within][at] >> shift & 0xf | high << 4;
        }
    }
    codes
}

fn scales(form: Form, head: &[u8], run: &[u8]) -> Scales {
    const NONE: RowOf<f32> = [0.0; PANEL];
    let vectors = &run[form.scales_at()..];
    let halves = |bytes: &[u8], at: usize| -> RowOf<f32> {
        let bytes = &bytes[at * 2 * PANEL..][..2 * PANEL];
        std::array::from_fn(|channel| {
            f16::from_le_bytes([bytes[2 * channel], bytes[2 * channel + 1]]).to_f32()
        })
    };
    if !form.headed {
        let minima = if form.minima { halves(vectors, 1).map(|m| -m) } else { NONE };
        return Scales { scales: [halves(vectors, 0), NONE], minima };
    }
    let d = halves(head, 0);
    let bytes = |at: usize| &vectors[at * PANEL..][..PANEL];
    if !form.minima {
        let of = |s: &[u8]| std::array::from_fn(|channel| d[channel] * f32::from(s[channel] as i8));
        return Scales { scales: [of(bytes(0)), of(bytes(1))], minima: NONE };
    }
    let e = halves(head, 1);
    let of = |factor: RowOf<f32>, bytes: &[u8]| {
        std::array::from_fn(|channel| factor[channel] * f32::from(bytes[channel]))
    };
    Scales { scales: [of(d, bytes(0)), NONE], minima: of(e, bytes(1)) }
}
