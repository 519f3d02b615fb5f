//! Products with blocks in registers: one loop for every kernel set that has vectors, as `portable` defines them.
//!
//! Few rows read codes from the panel: they are taken apart in registers, four bits at a time, and multiplied at once. For many
//! rows, a run's codes are taken apart once, into bytes in the first-level cache ([`Unpacked`]).
//!
//! A set gives registers of i32 and f32 of as many lanes and the few instructions on them; the loop is compiled once for each
//! form of runs and number of rows. Activations come from memory as groups of four in every lane. i32 sums of a run stay in
//! registers, f32 sums of a row in the first-level cache: they are touched once a run.

use defrost_model::BlockKind;

use crate::blocks::{Form, RUN, form};
use crate::layout::PANEL;

/// A run of a panel, taken apart: a byte a code, and its scales and minima in f32.
#[repr(C, align(64))]
pub(super) struct Unpacked {
    codes: [u8; PANEL * RUN],
    /// Scales of the run, or of its first half; scales of the second half, or minima.
    vectors: [[f32; PANEL]; 2],
}

impl Unpacked {
    pub(super) const EMPTY: Self = Self { codes: [0; PANEL * RUN], vectors: [[0.0; PANEL]; 2] };

    /// Where vectors begin.
    pub(super) const VECTORS: usize = PANEL * RUN;
}

/// How a loop finds codes and scales: the kinds' runs as in panels, and [`Unpacked`] ones of kinds that differ in nothing else.
pub(super) const FORMS: [(Form, bool); 12] = {
    let mut forms = [(form(BlockKind::Q8_0), false); 12];
    let mut at = 0;
    while at < BlockKind::ALL.len() {
        forms[at].0 = form(BlockKind::ALL[at]);
        at += 1;
    }
    forms[8] = (form(BlockKind::Q4_0), true);
    forms[9] = (form(BlockKind::Q5_0), true);
    forms[10] = (form(BlockKind::Q5_K), true);
    forms[11] = (form(BlockKind::Q6_K), true);
    forms
};

/// Whether runs of a form have a second vector: scales of the second half, or minima.
pub(super) const fn has_second(at: usize) -> bool {
    FORMS[at].0.minima || FORMS[at].0.scales == 2
}

/// Calls `$tile` with two constants: the places in [`FORMS`] of the kind's runs, and of its unpacked ones (of 8-bit codes, which
/// need none, the same).
macro_rules! with_kind {
    ($kind:expr, $tile:ident; $($arg:expr),*) => {
        match $kind {
            BlockKind::Q8_0 => $tile::<0, 0>($($arg),*),
            BlockKind::Q4_0 => $tile::<1, 8>($($arg),*),
            BlockKind::Q5_0 => $tile::<2, 9>($($arg),*),
            BlockKind::Q4_1 => $tile::<3, 10>($($arg),*),
            BlockKind::Q5_1 => $tile::<4, 10>($($arg),*),
            BlockKind::Q4_K => $tile::<5, 10>($($arg),*),
            BlockKind::Q5_K => $tile::<6, 10>($($arg),*),
            BlockKind::Q6_K => $tile::<7, 11>($($arg),*),
        }
    };
}

const _: () = {
    use BlockKind::{Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
    assert!(matches!(BlockKind::ALL, [Q8_0, Q4_0, Q5_0, Q4_1, Q5_1, Q4_K, Q5_K, Q6_K]));
};

/// Defines `tile`, compiled for `$features`, with loops for 1, 2 and `$rows` rows at a time.
///
/// `$ops` is a module with `Int`, `Float`, `LANES`, `PARTS` (registers side by side in the loop) and the instructions; `$dot`
/// adds the products of unsigned codes by signed activations, groups of four in a lane.
macro_rules! block_tiles {
    (features: $features:literal, rows: $rows:literal, ops: $ops:ident, dot: $dot:ident) => {
        /// Sums of a panel, as `portable` defines them.
        #[target_feature(enable = $features)]
        pub(in crate::kernel) fn tile(operands: &BlockOperands<'_>, sums: &mut [RowOf<f32>]) {
            let sums = &mut sums[..operands.rows()];
            sums.fill([0.0; PANEL]);
            with_kind!(operands.kind(), of_kind; operands, sums);
        }

        /// Run after run, which all rows find in the first-level cache.
        #[target_feature(enable = $features)]
        fn of_kind<const KIND: usize, const UNPACKED: usize>(
            operands: &BlockOperands<'_>,
            sums: &mut [RowOf<f32>],
        ) {
            let form = const { FORMS[KIND].0 };
            let per_block = form.inputs() / RUN;
            let mut panel = operands.panel().as_ptr();
            let mut unpacked = Unpacked::EMPTY;
            for block in 0..operands.runs() / per_block {
                let head = panel;
                panel = panel.wrapping_add(form.head_bytes());
                for run in block * per_block..(block + 1) * per_block {
                    let places = [head, panel];
                    let (mut left, mut sums) = (*operands, &mut *sums);
                    // SAFETY: the panel has as many blocks, of such heads and runs, as the rows have runs.
                    unsafe {
                        if left.rows() >= $rows {
                            let whole = if KIND == UNPACKED {
                                places
                            } else {
                                unpack::<KIND>(places, &mut unpacked);
                                [(&raw const unpacked).cast(); 2]
                            };
                            while left.rows() >= $rows {
                                if form.scales == 1 {
                                    add_run::<UNPACKED, $rows>(&left, run, whole, sums);
                                } else {
                                    // With sums of two halves, half as many rows have registers.
                                    const HALF: usize = $rows / 2;
                                    add_run::<UNPACKED, HALF>(&left, run, whole, sums);
                                    let second = left.after(HALF);
                                    add_run::<UNPACKED, HALF>(&second, run, whole, &mut sums[HALF..]);
                                }
                                left = left.after($rows);
                                sums = &mut sums[$rows..];
                            }
                        }
                        while left.rows() >= 2 {
                            add_run::<KIND, 2>(&left, run, places, sums);
                            left = left.after(2);
                            sums = &mut sums[2..];
                        }
                        if left.rows() == 1 {
                            add_run::<KIND, 1>(&left, run, places, sums);
                        }
                    }
                    panel = panel.wrapping_add(form.run_bytes());
                }
            }
        }

        /// Takes a run of a panel apart.
        ///
        /// # Safety
        /// The pointers are those of a block's head and of one of its runs, whole, in a panel.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn unpack<const KIND: usize>(
            [head, panel]: [*const u8; 2],
            unpacked: &mut Unpacked,
        ) {
            let out: *mut u8 = (&raw mut *unpacked).cast();
            for first in (0..GROUP_BYTES).step_by($ops::LANES * INT8_GROUP) {
                let place = panel.wrapping_add(first);
                macro_rules! group {
                    ($group:literal) => {
                        // SAFETY: a register of each group and plane of a run; of each of as many groups of bytes.
                        unsafe {
                            let codes = codes_at::<KIND, $group>(place);
                            $ops::store(out.wrapping_add($group * GROUP_BYTES + first), codes);
                        }
                    };
                }
                group!(0);
                group!(1);
                group!(2);
                group!(3);
                group!(4);
                group!(5);
                group!(6);
                group!(7);
            }
            let vectors = out.wrapping_add(Unpacked::VECTORS).cast::<f32>();
            for channel in (0..PANEL).step_by($ops::LANES) {
                // SAFETY: passed on; registers of two vectors.
                unsafe {
                    let (first, second) = vectors_at::<KIND>([head, panel], channel);
                    $ops::store_floats(vectors.wrapping_add(channel), first);
                    if const { has_second(KIND) } {
                        $ops::store_floats(vectors.wrapping_add(PANEL + channel), second);
                    }
                }
            }
        }

        /// Adds the products of a run to the sums of the first `ROWS` rows.
        ///
        /// # Safety
        /// The pointers are those of a block's head and of one of its runs, whole, in a panel or unpacked as the form says; `run` is
        /// less than the operands' runs.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn add_run<const FORM: usize, const ROWS: usize>(
            operands: &BlockOperands<'_>,
            run: usize,
            places: [*const u8; 2],
            sums: &mut [RowOf<f32>],
        ) {
            let Some(sums) = sums.first_chunk_mut::<ROWS>() else { return };
            for first in (0..PANEL).step_by($ops::LANES * $ops::PARTS) {
                // SAFETY: passed on.
                unsafe { add_part::<FORM, ROWS>(operands, run, places, first, sums) }
            }
        }

        /// Adds the products of a run to the sums of the channels from `first` on.
        ///
        /// # Safety
        /// As for `add_run`; `first` is a multiple of the loop's width.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn add_part<const FORM: usize, const ROWS: usize>(
            operands: &BlockOperands<'_>,
            run: usize,
            [head, panel]: [*const u8; 2],
            first: usize,
            sums: &mut [RowOf<f32>; ROWS],
        ) {
            let form = const { FORMS[FORM].0 };
            let (x, of_x) = operands.first::<ROWS>();
            let (x, of_x) = (x.wrapping_add(run * RUN), of_x.wrapping_add(run));
            let (stride, runs) = (operands.stride(), operands.runs());
            // Sums of the run, or of its first half; and of its second. Two variables, because an array of both would not be
            // kept in registers.
            let mut acc = [[$ops::zero(); $ops::PARTS]; ROWS];
            let mut of_second = acc;
            if form.zero != 0 {
                for row in 0..ROWS {
                    // SAFETY: `ROWS` rows have scales, `runs` apart.
                    let sums = unsafe { (*of_x.wrapping_add(row * runs)).minus_sums };
                    let [all, first, second] = sums.map(|minus| minus * form.zero);
                    if form.scales == 1 {
                        acc[row] = [$ops::broadcast(all); $ops::PARTS];
                    } else {
                        acc[row] = [$ops::broadcast(first); $ops::PARTS];
                        of_second[row] = [$ops::broadcast(second); $ops::PARTS];
                    }
                }
            }
            let places = panel.wrapping_add(first * INT8_GROUP);
            macro_rules! add {
                ($sums:ident, $group:literal) => {
                    let mut codes = [$ops::zero(); $ops::PARTS];
                    for part in 0..$ops::PARTS {
                        let place = places.wrapping_add(part * $ops::LANES * INT8_GROUP);
                        // SAFETY: a register of each group and plane of a run.
                        codes[part] = unsafe { codes_at::<FORM, $group>(place) };
                    }
                    for row in 0..ROWS {
                        let x = x.wrapping_add(row * stride + $group * INT8_GROUP).cast::<i32>();
                        // SAFETY: four codes of the run of a row.
                        let x = $ops::broadcast(unsafe { x.read_unaligned() });
                        for part in 0..$ops::PARTS {
                            $sums[row][part] = $dot::<FORM>($sums[row][part], codes[part], x);
                        }
                    }
                };
            }
            add!(acc, 0);
            add!(acc, 1);
            add!(acc, 2);
            add!(acc, 3);
            if form.scales == 1 {
                add!(acc, 4);
                add!(acc, 5);
                add!(acc, 6);
                add!(acc, 7);
            } else {
                add!(of_second, 4);
                add!(of_second, 5);
                add!(of_second, 6);
                add!(of_second, 7);
            }
            for part in 0..$ops::PARTS {
                let channel = first + part * $ops::LANES;
                // SAFETY: passed on; a register of channels.
                let (scales, second) = unsafe { vectors_at::<FORM>([head, panel], channel) };
                for row in 0..ROWS {
                    // SAFETY: `ROWS` rows have scales, `runs` apart.
                    let of_x = unsafe { &*of_x.wrapping_add(row * runs) };
                    let mut value = $ops::mul($ops::to_float(acc[row][part]), scales);
                    if form.scales == 2 {
                        value = $ops::fma($ops::to_float(of_second[row][part]), second, value);
                    }
                    if form.minima {
                        let minus = $ops::to_float($ops::broadcast(of_x.minus_sums[0]));
                        value = $ops::fma(second, minus, value);
                    }
                    let target = &mut sums[row][channel..][..$ops::LANES];
                    // SAFETY: `LANES` values.
                    unsafe {
                        let sum = $ops::load_floats(target.as_ptr());
                        let sum = $ops::fma(value, $ops::broadcast_float(of_x.scale), sum);
                        $ops::store_floats(target.as_mut_ptr(), sum);
                    }
                }
            }
        }

        /// The codes of a group.
        ///
        /// # Safety
        /// From `place` on, and from 256 bytes after the other on, there is a register of each group and plane of a run.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn codes_at<const FORM: usize, const GROUP: usize>(place: *const u8) -> $ops::Int {
            let (form, unpacked) = const { FORMS[FORM] };
            // SAFETY: passed on from the caller, for one of the groups or planes.
            let load = |at: usize| unsafe { $ops::load(place.wrapping_add(at * GROUP_BYTES)) };
            if form.bits == 8 || unpacked {
                return load(GROUP);
            }
            let both = load(GROUP % 4);
            let codes =
                if GROUP < 4 { $ops::low_nibbles(both) } else { $ops::high_nibbles(both) };
            let planes = GROUPS / 2;
            match (form.bits, GROUP) {
                (5, 0) => $ops::with_bits::<4, 0x10>(codes, load(planes)),
                (5, 1) => $ops::with_bits::<3, 0x10>(codes, load(planes)),
                (5, 2) => $ops::with_bits::<2, 0x10>(codes, load(planes)),
                (5, 3) => $ops::with_bits::<1, 0x10>(codes, load(planes)),
                (5, 4) => $ops::with_bits::<0, 0x10>(codes, load(planes)),
                (5, 5) => $ops::with_bits::<-1, 0x10>(codes, load(planes)),
                (5, 6) => $ops::with_bits::<-2, 0x10>(codes, load(planes)),
                (5, _) => $ops::with_bits::<-3, 0x10>(codes, load(planes)),
                (6, 0 | 4) => $ops::with_bits::<4, 0x30>(codes, load(planes + GROUP / 4)),
                (6, 1 | 5) => $ops::with_bits::<2, 0x30>(codes, load(planes + GROUP / 4)),
                (6, 2 | 6) => $ops::with_bits::<0, 0x30>(codes, load(planes + GROUP / 4)),
                (6, _) => $ops::with_bits::<-2, 0x30>(codes, load(planes + GROUP / 4)),
                _ => codes,
            }
        }

        /// Of the channels from `channel` on: scales, and the scales of the second half or the minima, if there are such.
        ///
        /// # Safety
        /// The pointers are as for `add_run`; a register of channels begins at `channel`.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn vectors_at<const FORM: usize>(
            [head, run]: [*const u8; 2],
            channel: usize,
        ) -> ($ops::Float, $ops::Float) {
            let (form, unpacked) = const { FORMS[FORM] };
            let second = const { has_second(FORM) };
            // SAFETY: vectors of 64 values, of which a register is read: a run has one or two, and so has a head.
            unsafe {
                if unpacked {
                    let vectors = run.wrapping_add(Unpacked::VECTORS).cast::<f32>();
                    let of = |vector: usize| {
                        $ops::load_floats(vectors.wrapping_add(vector * PANEL + channel))
                    };
                    return (of(0), if second { of(1) } else { $ops::no_float() });
                }
                let vectors = run.wrapping_add(form.scales_at());
                let halves = |of: *const u8, vector: usize| {
                    $ops::halves(of.wrapping_add(2 * (vector * PANEL + channel)))
                };
                let bytes = |vector: usize| vectors.wrapping_add(vector * PANEL + channel);
                match (form.headed, form.minima) {
                    (false, false) => (halves(vectors, 0), $ops::no_float()),
                    (false, true) => (halves(vectors, 0), $ops::negative(halves(vectors, 1))),
                    (true, false) => {
                        let d = halves(head, 0);
                        let of = |vector: usize| $ops::mul(d, $ops::signed_bytes(bytes(vector)));
                        (of(0), of(1))
                    }
                    (true, true) => (
                        $ops::mul(halves(head, 0), $ops::unsigned_bytes(bytes(0))),
                        $ops::mul(halves(head, 1), $ops::unsigned_bytes(bytes(1))),
                    ),
                }
            }
        }
    };
}

pub(super) use {block_tiles, with_kind};
