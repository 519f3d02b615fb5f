//! What products with blocks are, to the bit, in every kernel set.
//!
//! For each run of 32 inputs in ascending order (of 16, for the kind whose scales are for 16), and each channel:
//!
//! ```text
//! i = sum of code * x, less zero * sum of x        exact in i32
//! t = i * scale                                    scale: d, or d * s, which is exact
//! t = fma(minimum, -sum of x, t)                   where there are minima: e * m, or -m; exact as well
//! sum = fma(t, scale of x, sum)
//! ```

use half::f16;

use crate::blocks::{Form, GROUP_BYTES, GROUPS, RUN, form};
use crate::kernel::operands::{BlockOperands, RowOf};
use crate::layout::{INT8_GROUP, PANEL};

/// Codes of a run: groups of four inputs of 64 channels.
type Codes = [[u8; GROUP_BYTES]; GROUPS];

/// What belongs to the channels of a run, or half of one.
struct Scales {
    scales: RowOf<f32>,
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
            let codes = unpack(form, bytes);
            let run = at * per_block + within;
            for half in 0..form.scales {
                let scales = scales(form, head, bytes, half);
                let groups = GROUPS / form.scales;
                let groups = half * groups..(half + 1) * groups;
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = &operands.row(row)[run * RUN..][..RUN];
                    let of_x = &operands.scales(row)[run];
                    let minus = of_x.minus_sums[if form.scales == 1 { 0 } else { 1 + half }];
                    let mut exact = [form.zero * minus; PANEL];
                    for group in groups.clone() {
                        add(&codes[group], &x[group * INT8_GROUP..][..INT8_GROUP], &mut exact);
                    }
                    for channel in 0..PANEL {
                        let mut value = exact[channel] as f32 * scales.scales[channel];
                        if form.minima {
                            value = scales.minima[channel].mul_add(minus as f32, value);
                        }
                        sums[channel] = value.mul_add(of_x.scale, sums[channel]);
                    }
                }
            }
        }
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

fn scales(form: Form, head: &[u8], run: &[u8], half: usize) -> Scales {
    let vectors = &run[form.scales_at()..];
    let halves = |bytes: &[u8], at: usize| -> RowOf<f32> {
        let bytes = &bytes[at * 2 * PANEL..][..2 * PANEL];
        std::array::from_fn(|channel| {
            f16::from_le_bytes([bytes[2 * channel], bytes[2 * channel + 1]]).to_f32()
        })
    };
    if !form.headed {
        let minima = if form.minima { halves(vectors, 1).map(|m| -m) } else { [0.0; PANEL] };
        return Scales { scales: halves(vectors, 0), minima };
    }
    let (d, s) = (halves(head, 0), &vectors[half * PANEL..][..PANEL]);
    if !form.minima {
        let scales = std::array::from_fn(|channel| d[channel] * f32::from(s[channel] as i8));
        return Scales { scales, minima: [0.0; PANEL] };
    }
    let (e, m) = (halves(head, 1), &vectors[PANEL..][..PANEL]);
    Scales {
        scales: std::array::from_fn(|channel| d[channel] * f32::from(s[channel])),
        minima: std::array::from_fn(|channel| e[channel] * f32::from(m[channel])),
    }
}
