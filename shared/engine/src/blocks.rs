//! Matrices of blocks: how they lie in snapshots.
//!
//! A GGUF file has rows of blocks: 32 or 256 weights that share scales ([`defrost_model::BlockKind`]). Kernels want 64
//! channels side by side, so a matrix of `n` channels by `k` inputs is stored as *panels* of 64 channels, each a chain of
//! blocks in the order in which they are read. One stream of memory, no byte of it for anything else:
//!
//! ```text
//! block of 32, or of 256 = head + 8 runs          a run: 32 inputs of 64 channels
//!   head  of K kinds: d, and e, f16 a channel       plane   of high bits, if there are any: 64 x 4 bytes
//!                                                   codes   64 x 32 bytes, or nibbles: 64 x 16 bytes
//!                                                   plane   the second, if there is one
//!                                                   scales  a channel each:  d, m as f16  |  s, m as bytes  |  s of two halves
//! ```
//!
//! Inputs come in groups of four, which one `VPDPBUSD` takes; group `g` of a run are its inputs `4g .. 4g+3`, and `(c, j)` is
//! input `j` of a group of channel `c`, at `4c + j`:
//!
//! * Codes of 8 bits are stored as `q + 128`, group after group: unsigned, as that instruction wants one operand.
//! * Low nibbles have the groups 0 to 3, high nibbles of the same bytes the groups 4 to 7.
//! * A fifth bit of `(c, j)` of group `g` is bit `g` of byte `(c, j)` of the plane. A fifth and sixth are bits `2 (g mod 4)` and
//!   the next of byte `(c, j)` of the plane `g / 4`.
//!
//! What a loop reads first lies first: with the plane after the codes, products of `q6_k` reached half of the memory's bandwidth, and
//! nine tenths with the plane before.
//!
//! The scales of K kinds, 6 bits in the file, are bytes here: 2.8 % more memory for `q4_k`, and nothing to take apart.
//! Channels that fill the last panel up are zeros. Values are the file's own, to the bit.

mod activations;
mod gguf;
mod quantize;

use defrost_model::BlockKind;
use half::f16;

pub(crate) use self::activations::{QuantizedRuns, RunScale};
pub use self::gguf::dequantize;
pub use self::quantize::quantize;
use crate::layout::{INT8_GROUP, PANEL};

/// Inputs of a run: what shares a scale, or two.
pub(crate) const RUN: usize = 32;
/// Groups of a run.
pub(crate) const GROUPS: usize = RUN / INT8_GROUP;
/// Bytes of one group of codes of a panel, or of one plane of high bits.
pub(crate) const GROUP_BYTES: usize = PANEL * INT8_GROUP;
/// The most inputs of a block.
const MOST: usize = 256;

/// What the layout tags of panels begin with; the kind follows.
pub const PANELS_OF: &str = "blocks64/";
/// What the layout tags of rows as GGUF files have them begin with; the kind follows.
pub const ROWS_OF: &str = "block-rows/";

/// What blocks of a kind are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Bits of a code: 8, or a nibble and planes.
    pub(crate) bits: u32,
    /// The code of zero, a power of two or 0.
    pub(crate) zero: i32,
    /// Whether there is something to add to (`m`) or subtract from (`e * m`) `d * q`.
    pub(crate) minima: bool,
    /// Whether eight runs share a head.
    pub(crate) headed: bool,
    /// Scales of a run: two are for 16 inputs each.
    pub(crate) scales: usize,
}

/// The form of a kind.
pub(crate) const fn form(kind: BlockKind) -> Form {
    let plain = Form { bits: 8, zero: 128, minima: false, headed: false, scales: 1 };
    match kind {
        BlockKind::Q8_0 => plain,
        BlockKind::Q4_0 => Form { bits: 4, zero: 8, ..plain },
        BlockKind::Q5_0 => Form { bits: 5, zero: 16, ..plain },
        BlockKind::Q4_1 => Form { bits: 4, zero: 0, minima: true, ..plain },
        BlockKind::Q5_1 => Form { bits: 5, zero: 0, minima: true, ..plain },
        BlockKind::Q4_K => Form { bits: 4, zero: 0, minima: true, headed: true, ..plain },
        BlockKind::Q5_K => Form { bits: 5, zero: 0, minima: true, headed: true, ..plain },
        BlockKind::Q6_K => Form { bits: 6, zero: 32, headed: true, scales: 2, ..plain },
    }
}

impl Form {
    /// Inputs of a block.
    pub(crate) const fn inputs(self) -> usize {
        if self.headed { MOST } else { RUN }
    }

    /// Bytes of the codes of a run of a panel, without the planes.
    pub(crate) const fn code_bytes(self) -> usize {
        if self.bits == 8 { PANEL * RUN } else { PANEL * RUN / 2 }
    }

    /// Planes of high bits.
    pub(crate) const fn planes(self) -> usize {
        if self.bits == 8 { 0 } else { self.bits as usize - 4 }
    }

    /// Where the codes of a run begin: after the first plane, for memory is fastest in the order in which it is read.
    pub(crate) const fn codes_at(self) -> usize {
        if self.planes() == 0 { 0 } else { GROUP_BYTES }
    }

    /// Where a plane begins.
    pub(crate) const fn plane_at(self, plane: usize) -> usize {
        if plane == 0 { 0 } else { self.codes_at() + self.code_bytes() }
    }

    /// Where the scales of a run begin.
    pub(crate) const fn scales_at(self) -> usize {
        self.code_bytes() + self.planes() * GROUP_BYTES
    }

    /// Vectors of a value a channel after the codes of a run.
    const fn vectors(self) -> usize {
        self.scales + self.minima as usize
    }

    /// Bytes of a run of a panel.
    pub(crate) const fn run_bytes(self) -> usize {
        self.scales_at() + self.vectors() * PANEL * if self.headed { 1 } else { 2 }
    }

    /// Bytes of the head of a block of a panel.
    pub(crate) const fn head_bytes(self) -> usize {
        if self.headed { 2 * PANEL * (1 + self.minima as usize) } else { 0 }
    }

    /// Bytes of a block of a panel.
    pub(crate) const fn block_bytes(self) -> usize {
        self.head_bytes() + self.inputs() / RUN * self.run_bytes()
    }

    /// Bytes of a panel of `k` inputs.
    pub(crate) const fn panel_bytes(self, k: usize) -> usize {
        k / self.inputs() * self.block_bytes()
    }
}

/// One channel of a block, its codes unsigned as in panels.
#[derive(Debug, Clone, Copy)]
struct Block {
    codes: [u8; MOST],
    /// `d`, and `e` or the plain kinds' `m`.
    factors: [f16; 2],
    /// Scales of K kinds in units of `d`, one a run or, of `q6_k`, half a run.
    scales: [u8; 16],
    /// Minima of K kinds in units of `e`.
    minima: [u8; 8],
}

impl Block {
    const ZERO: Self =
        Self { codes: [0; MOST], factors: [f16::ZERO; 2], scales: [0; 16], minima: [0; 8] };

    /// The values, as the table of [`BlockKind`] has them.
    fn values(&self, kind: BlockKind, out: &mut [f32]) {
        let form = form(kind);
        let [d, other] = self.factors.map(f16::to_f32);
        let part = RUN / form.scales;
        for (at, (out, codes)) in
            out.chunks_exact_mut(part).zip(self.codes.chunks_exact(part)).enumerate()
        {
            // Products of a K kind's d with a byte have 19 bits: exact, as is a scale of 1.
            let (scale, minimum) = match (form.headed, form.minima) {
                (false, false) => (d, 0.0),
                (false, true) => (d, other),
                (true, false) => (d * f32::from(self.scales[at] as i8), 0.0),
                (true, true) => {
                    (d * f32::from(self.scales[at]), other * f32::from(self.minima[at]))
                }
            };
            for (out, &code) in out.iter_mut().zip(codes) {
                let value = scale * (i32::from(code) - form.zero) as f32;
                *out = match (form.minima, form.headed) {
                    (false, _) => value,
                    (true, false) => value + minimum,
                    (true, true) => value - minimum,
                };
            }
        }
    }

    /// Writes the channel into a block of a panel.
    fn put(&self, kind: BlockKind, channel: usize, block: &mut [u8]) {
        let form = form(kind);
        let (head, runs) = block.split_at_mut(form.head_bytes());
        let factor = |at: usize| self.factors[at].to_le_bytes();
        for (at, vector) in head.chunks_exact_mut(2 * PANEL).enumerate() {
            vector[2 * channel..][..2].copy_from_slice(&factor(at));
        }
        for (run, (bytes, codes)) in
            runs.chunks_exact_mut(form.run_bytes()).zip(self.codes.chunks_exact(RUN)).enumerate()
        {
            let (packed, scales) = bytes.split_at_mut(form.scales_at());
            for (input, &code) in codes.iter().enumerate() {
                let place = Place::of(form, channel, input);
                packed[place.low] |= (code & place.mask) << place.shift;
                if let Some((at, shift)) = place.high {
                    packed[at] |= (code >> 4) << shift;
                }
            }
            if form.headed {
                for half in 0..form.scales {
                    scales[half * PANEL + channel] = self.scales[run * form.scales + half];
                }
                if form.minima {
                    scales[form.scales * PANEL + channel] = self.minima[run];
                }
            } else {
                for (at, vector) in scales.chunks_exact_mut(2 * PANEL).enumerate() {
                    vector[2 * channel..][..2].copy_from_slice(&factor(at));
                }
            }
        }
    }

    /// Reads a channel of a block of a panel.
    fn of_panel(kind: BlockKind, channel: usize, block: &[u8]) -> Self {
        let form = form(kind);
        let mut own = Self::ZERO;
        let factor =
            |vector: &[u8]| f16::from_le_bytes([vector[2 * channel], vector[2 * channel + 1]]);
        let (head, runs) = block.split_at(form.head_bytes());
        for (own, vector) in own.factors.iter_mut().zip(head.chunks_exact(2 * PANEL)) {
            *own = factor(vector);
        }
        for (run, bytes) in runs.chunks_exact(form.run_bytes()).enumerate() {
            let (packed, scales) = bytes.split_at(form.scales_at());
            for (input, code) in own.codes[run * RUN..][..RUN].iter_mut().enumerate() {
                let place = Place::of(form, channel, input);
                *code = packed[place.low] >> place.shift & place.mask;
                if let Some((at, shift)) = place.high {
                    *code |= (packed[at] >> shift & ((1 << form.planes()) - 1)) << 4;
                }
            }
            if form.headed {
                for half in 0..form.scales {
                    own.scales[run * form.scales + half] = scales[half * PANEL + channel];
                }
                if form.minima {
                    own.minima[run] = scales[form.scales * PANEL + channel];
                }
            } else {
                for (own, vector) in own.factors.iter_mut().zip(scales.chunks_exact(2 * PANEL)) {
                    *own = factor(vector);
                }
            }
        }
        own
    }
}

/// Where a code lies in the codes and planes of a run.
struct Place {
    /// The byte of its low bits, where in it they begin, and which they are.
    low: usize,
    shift: u32,
    mask: u8,
    /// The byte of its high bits and where in it they begin.
    high: Option<(usize, usize)>,
}

impl Place {
    fn of(form: Form, channel: usize, input: usize) -> Self {
        let (group, within) = (input / INT8_GROUP, channel * INT8_GROUP + input % INT8_GROUP);
        if form.bits == 8 {
            return Self { low: group * GROUP_BYTES + within, shift: 0, mask: 0xff, high: None };
        }
        let half = GROUPS / 2;
        let high = match form.planes() {
            0 => None,
            1 => Some((form.plane_at(0) + within, group)),
            _ => Some((form.plane_at(group / half) + within, 2 * (group % half))),
        };
        let shift = if group < half { 0 } else { 4 };
        Self { low: form.codes_at() + group % half * GROUP_BYTES + within, shift, mask: 0xf, high }
    }
}

/// Bytes of a matrix of `n` channels by `k` inputs in panels.
///
/// # Panics
/// If a row is no whole number of blocks.
pub fn panels_len(kind: BlockKind, n: usize, k: usize) -> usize {
    check(kind, k);
    n.div_ceil(PANEL) * form(kind).panel_bytes(k)
}

/// Bytes of a row of `k` weights in a GGUF file.
///
/// # Panics
/// If a row is no whole number of blocks.
pub fn row_len(kind: BlockKind, k: usize) -> usize {
    check(kind, k);
    let (weights, bytes) = kind.gguf_block();
    k / weights * bytes
}

fn check(kind: BlockKind, k: usize) {
    let (weights, _) = kind.gguf_block();
    assert!(
        k.is_multiple_of(weights),
        "rows of {k} weights are no whole blocks of {}: expected a multiple of {weights}",
        kind.name()
    );
}

/// Packs the rows of a GGUF file, `n` of `k` weights, into panels.
///
/// # Panics
/// If they have another length.
pub fn pack(kind: BlockKind, gguf_rows: &[u8], n: usize, k: usize) -> Vec<u8> {
    let row_len = row_len(kind, k);
    assert_eq!(gguf_rows.len(), n * row_len, "bytes of {n} rows of {k} in {}", kind.name());
    let form = form(kind);
    let mut packed = vec![0; panels_len(kind, n, k)];
    let (_, block_len) = kind.gguf_block();
    for (panel, rows) in packed
        .chunks_exact_mut(form.panel_bytes(k).max(1))
        .zip(gguf_rows.chunks(PANEL * row_len.max(1)))
    {
        for (channel, row) in rows.chunks_exact(row_len.max(1)).enumerate() {
            let blocks = panel.chunks_exact_mut(form.block_bytes());
            for (block, gguf) in blocks.zip(row.chunks_exact(block_len)) {
                gguf::read(kind, gguf).put(kind, channel, block);
            }
        }
    }
    packed
}

/// The values of one row of what [`pack`] has made.
///
/// # Panics
/// If there is no such row, `out` is no row, or the panels have another length.
pub fn unpack_row(kind: BlockKind, panels: &[u8], n: usize, k: usize, row: usize, out: &mut [f32]) {
    assert!(row < n, "row {row} of {n}");
    assert_eq!(out.len(), k, "values of a row");
    assert_eq!(panels.len(), panels_len(kind, n, k), "bytes of the panels");
    let form = form(kind);
    let panel = &panels[row / PANEL * form.panel_bytes(k)..][..form.panel_bytes(k)];
    let blocks = panel.chunks_exact(form.block_bytes());
    for (block, out) in blocks.zip(out.chunks_exact_mut(form.inputs())) {
        Block::of_panel(kind, row % PANEL, block).values(kind, out);
    }
}

#[cfg(test)]
mod tests;
