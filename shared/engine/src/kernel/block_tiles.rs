//! Products with blocks in registers: one loop for every kernel set that has vectors, as `portable` defines them.
//!
//! A set gives registers of i32 and f32 of as many lanes and the few instructions on them; the loop is compiled once for each
//! kind of blocks and number of rows. Codes are taken apart in registers, four bits at a time, and multiplied at once with the
//! rows' activations, which come from memory as groups of four in every lane. i32 sums of a run stay in registers, f32 sums
//! of a row in the first-level cache: they are touched once a run.

use defrost_model::BlockKind;

/// Calls `$tile` with the kind, its place in [`BlockKind::ALL`], as a constant.
macro_rules! with_kind {
    ($kind:expr, $tile:ident; $($arg:expr),*) => {
        match $kind {
            BlockKind::Q8_0 => $tile::<0>($($arg),*),
            BlockKind::Q4_0 => $tile::<1>($($arg),*),
            BlockKind::Q5_0 => $tile::<2>($($arg),*),
            BlockKind::Q4_1 => $tile::<3>($($arg),*),
            BlockKind::Q5_1 => $tile::<4>($($arg),*),
            BlockKind::Q4_K => $tile::<5>($($arg),*),
            BlockKind::Q5_K => $tile::<6>($($arg),*),
            BlockKind::Q6_K => $tile::<7>($($arg),*),
        }
    };
}

const _: () = {
    use BlockKind::{Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
    assert!(matches!(BlockKind::ALL, [Q8_0, Q4_0, Q5_0, Q4_1, Q5_1, Q4_K, Q5_K, Q6_K]));
};

/// Defines `tile`, compiled for `$features`, with loops for 1, 2, 4 and `$rows` rows.
///
/// `$ops` is a module with `Int`, `Float`, `LANES`, `PARTS` (registers side by side in the loop) and the instructions; `$dot`
/// adds the products of unsigned codes by signed activations, groups of four in a lane.
macro_rules! block_tiles {
    (features: $features:literal, rows: $rows:literal, ops: $ops:ident, dot: $dot:ident) => {
        /// Sums of a panel, as `portable` defines them.
        #[target_feature(enable = $features)]
        pub(in crate::kernel) fn tile(operands: &BlockOperands<'_>, sums: &mut [RowOf<f32>]) {
            with_kind!(operands.kind(), of_kind; operands, sums);
        }

        /// Few numbers of rows have loops of their own; others take two.
        #[target_feature(enable = $features)]
        fn of_kind<const KIND: usize>(operands: &BlockOperands<'_>, sums: &mut [RowOf<f32>]) {
            let (mut left, mut sums) = (*operands, &mut sums[..operands.rows()]);
            while left.rows() > 0 {
                let taken = match left.rows() {
                    1 => of_rows::<KIND, 1>(&left, sums),
                    2 | 3 => of_rows::<KIND, 2>(&left, sums),
                    rows if rows < $rows => of_rows::<KIND, 4>(&left, sums),
                    _ => of_rows::<KIND, $rows>(&left, sums),
                };
                left = left.after(taken);
                sums = &mut sums[taken..];
            }
        }

        /// The first `ROWS` rows; returns how many they are.
        #[target_feature(enable = $features)]
        fn of_rows<const KIND: usize, const ROWS: usize>(
            operands: &BlockOperands<'_>,
            sums: &mut [RowOf<f32>],
        ) -> usize {
            let form = const { form(BlockKind::ALL[KIND]) };
            let sums = &mut sums[..ROWS];
            sums.fill([0.0; PANEL]);
            let per_block = form.inputs() / RUN;
            let mut panel = operands.panel().as_ptr();
            for block in 0..operands.runs() / per_block {
                let head = panel;
                panel = panel.wrapping_add(form.head_bytes());
                for run in block * per_block..(block + 1) * per_block {
                    for first in (0..PANEL).step_by($ops::LANES * $ops::PARTS) {
                        for half in 0..form.scales {
                            // SAFETY: the panel has as many blocks, of such heads and runs, as the rows have runs.
                            unsafe {
                                add_run::<KIND, ROWS>(operands, run, [head, panel], half, first, sums);
                            }
                        }
                    }
                    panel = panel.wrapping_add(form.run_bytes());
                }
            }
            ROWS
        }

        /// Adds the products of run `run`, or of half of it if it has two scales, to the sums of the channels from `first` on.
        ///
        /// # Safety
        /// The pointers are those of a block's head and of one of its runs, whole, in a panel; `run` is less than the
        /// operands' runs, and `first` a multiple of the loop's width.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn add_run<const KIND: usize, const ROWS: usize>(
            operands: &BlockOperands<'_>,
            run: usize,
            [head, panel]: [*const u8; 2],
            half: usize,
            first: usize,
            sums: &mut [RowOf<f32>],
        ) {
            let form = const { form(BlockKind::ALL[KIND]) };
            let (x, of_x) = operands.first::<ROWS>();
            let (x, of_x) = (x.wrapping_add(run * RUN), of_x.wrapping_add(run));
            let (stride, runs) = (operands.stride(), operands.runs());
            let which = if form.scales == 1 { 0 } else { 1 + half };
            let mut acc = [[$ops::zero(); $ops::PARTS]; ROWS];
            if form.zero != 0 {
                for row in 0..ROWS {
                    // SAFETY: `ROWS` rows have scales, `runs` apart.
                    let minus = unsafe { (*of_x.wrapping_add(row * runs)).minus_sums[which] };
                    acc[row] = [$ops::broadcast(minus * form.zero); $ops::PARTS];
                }
            }
            let places = panel.wrapping_add(first * INT8_GROUP);
            macro_rules! add {
                ($group:literal) => {
                    let mut codes = [$ops::zero(); $ops::PARTS];
                    for part in 0..$ops::PARTS {
                        let place = places.wrapping_add(part * $ops::LANES * INT8_GROUP);
                        // SAFETY: a register of each group and plane of a run.
                        codes[part] = unsafe { codes_at::<KIND, $group>(place) };
                    }
                    for row in 0..ROWS {
                        let x = x.wrapping_add(row * stride + $group * INT8_GROUP).cast::<i32>();
                        // SAFETY: four codes of the run of a row.
                        let x = $ops::broadcast(unsafe { x.read_unaligned() });
                        for part in 0..$ops::PARTS {
                            acc[row][part] = $dot::<KIND>(acc[row][part], codes[part], x);
                        }
                    }
                };
            }
            if half == 0 {
                add!(0);
                add!(1);
                add!(2);
                add!(3);
            }
            if half + 1 == form.scales {
                add!(4);
                add!(5);
                add!(6);
                add!(7);
            }
            for part in 0..$ops::PARTS {
                let channel = first + part * $ops::LANES;
                // SAFETY: passed on; a register of channels.
                let (scales, minima) = unsafe { scales_at::<KIND>([head, panel], half, channel) };
                for row in 0..ROWS {
                    // SAFETY: `ROWS` rows have scales, `runs` apart.
                    let of_x = unsafe { &*of_x.wrapping_add(row * runs) };
                    let mut value = $ops::mul($ops::to_float(acc[row][part]), scales);
                    if form.minima {
                        let minus = $ops::to_float($ops::broadcast(of_x.minus_sums[which]));
                        value = $ops::fma(minima, minus, value);
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
        unsafe fn codes_at<const KIND: usize, const GROUP: usize>(place: *const u8) -> $ops::Int {
            let form = const { form(BlockKind::ALL[KIND]) };
            // SAFETY: passed on from the caller, for one of the groups or planes.
            let load = |at: usize| unsafe { $ops::load(place.wrapping_add(at * GROUP_BYTES)) };
            if form.bits == 8 {
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

        /// Scales and minima of the channels from `channel` on; something for minima that there are not.
        ///
        /// # Safety
        /// The pointers are those of a block's head and of one of its runs, whole; a register of channels begins at `channel`.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn scales_at<const KIND: usize>(
            [head, run]: [*const u8; 2],
            half: usize,
            channel: usize,
        ) -> ($ops::Float, $ops::Float) {
            let form = const { form(BlockKind::ALL[KIND]) };
            let vectors = run.wrapping_add(form.scales_at());
            // SAFETY: vectors of 64 values, of which a register is read; a head has one or two, and so has a run.
            unsafe {
                let halves = |of: *const u8, vector: usize| {
                    $ops::halves(of.wrapping_add(2 * (vector * PANEL + channel)))
                };
                let bytes = |vector: usize| vectors.wrapping_add(vector * PANEL + channel);
                match (form.headed, form.minima) {
                    (false, false) => (halves(vectors, 0), $ops::no_float()),
                    (false, true) => (halves(vectors, 0), $ops::negative(halves(vectors, 1))),
                    (true, false) => {
                        let scales = $ops::mul(halves(head, 0), $ops::signed_bytes(bytes(half)));
                        (scales, $ops::no_float())
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
