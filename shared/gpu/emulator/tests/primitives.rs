//! Each primitive of the kernels against what CUDA and PTX say of it, computed here from their words.

mod common;

use common::{Numbers, floats, params, read_floats, read_words, words};
use defrost_gpu_emulator::{Emulator, kernels};
use half::{bf16, f16};

const LANES: usize = 32;

/// PTX, `shfl.sync`: which lane is read, with the operand `c` that CUDA's functions make of `width`.
fn shuffled_from(kind: u32, lane: u32, argument: u32, width: u32) -> u32 {
    let mask = 32 - width;
    let limit = if kind == 1 { 0 } else { 31 };
    let last = (lane & mask) | (limit & !mask);
    let first = lane & mask;
    let b = i64::from(argument & 31);
    let (from, inside) = match kind {
        0 => {
            let j = i64::from(first) | (b & !i64::from(mask));
            (j, j <= i64::from(last))
        }
        1 => {
            let j = i64::from(lane) - b;
            (j, j >= i64::from(last))
        }
        2 => {
            let j = i64::from(lane) + b;
            (j, j <= i64::from(last))
        }
        _ => {
            let j = i64::from(lane) ^ b;
            (j, j <= i64::from(last))
        }
    };
    if inside { u32::try_from(from).expect("a lane") } else { lane }
}

#[test]
fn shuffles_read_the_lanes_that_ptx_names() {
    let emulator = Emulator::new();
    let values: Vec<u32> = (0..64).map(|i| 1000 + i * 7).collect();
    let from = words(&emulator, &values);
    for kind in 0..4_u32 {
        for width in [2, 4, 8, 16, 32_u32] {
            for argument in 0..32_u32 {
                let (out, wide) = (words(&emulator, &[0; 64]), words(&emulator, &[0; 128]));
                let params = params(&[from, out, wide], &[kind, argument, width, u32::MAX]);
                emulator
                    .launch("test_shuffle", [1, 1, 1], 64, 0, &params, u64::from(argument))
                    .unwrap();
                let wanted: Vec<usize> = (0..64_u32)
                    .map(|i| i / 32 * 32 + shuffled_from(kind, i % 32, argument, width))
                    .map(|i| i as usize)
                    .collect();
                let narrow: Vec<u32> = wanted.iter().map(|&i| values[i]).collect();
                assert_eq!(read_words(&emulator, out, 64), narrow, "{kind} {width} {argument}");
                let pairs: Vec<u32> =
                    wanted.iter().flat_map(|&i| [u32::try_from(i).unwrap(), values[i]]).collect();
                assert_eq!(read_words(&emulator, wide, 128), pairs, "{kind} {width} {argument}");
                emulator.release(out);
                emulator.release(wide);
            }
        }
    }
}

#[test]
fn parts_of_a_warp_shuffle_by_themselves() {
    let emulator = Emulator::new();
    let values: Vec<u32> = (0..32).collect();
    let from = words(&emulator, &values);
    for mask in [0x0000_00ff_u32, 0xffff_0000, 0x0f0f_0f0f] {
        let (out, wide) = (words(&emulator, &[77; 32]), words(&emulator, &[77; 64]));
        let params = params(&[from, out, wide], &[3, 1, 32, mask]);
        for seed in 0..20 {
            emulator.launch("test_shuffle", [1, 1, 1], 32, 0, &params, seed).unwrap();
        }
        let wanted: Vec<u32> =
            (0..32).map(|i| if mask >> i & 1 == 1 { i ^ 1 } else { 77 }).collect();
        assert_eq!(read_words(&emulator, out, 32), wanted);
    }
}

#[test]
fn votes_and_sums_of_integers_count_the_lanes_of_the_mask() {
    let emulator = Emulator::new();
    let mut numbers = Numbers::new(1);
    for round in 0..30_u64 {
        let values: Vec<u32> = (0..64)
            .map(|_| match round % 3 {
                0 => numbers.next(),
                1 => numbers.next() | 1,
                _ => numbers.next() & !1,
            })
            .collect();
        let mask = if round < 3 { u32::MAX } else { numbers.next() | 1 };
        let (from, out) = (words(&emulator, &values), words(&emulator, &[9; 9 * 64]));
        emulator
            .launch("test_votes", [1, 1, 1], 64, 0, &params(&[from, out], &[mask]), round)
            .unwrap();
        let all = read_words(&emulator, out, 9 * 64);
        let odd = values.iter().filter(|&&x| x % 2 == 1).count();
        for (i, found) in all.chunks_exact(9).enumerate() {
            let block = [u32::from(odd > 0), u32::from(odd == 64), u32::try_from(odd).unwrap()];
            assert_eq!(found[..3], block);
            let own = &values[i / 32 * 32..][..32];
            let named = (0..32).filter(|lane| mask >> lane & 1 == 1);
            let of: Vec<u32> = named.clone().map(|lane| own[lane]).collect();
            let ballot: u32 = named.map(|lane| (own[lane] & 1) << lane).sum();
            let warp = [
                ballot,
                u32::from(ballot != 0),
                u32::from(ballot == mask),
                of.iter().fold(0, |sum: u32, x| sum.wrapping_add(*x)),
                *of.iter().max().unwrap(),
                *of.iter().min().unwrap(),
            ];
            let wanted = if mask >> (i % 32) & 1 == 1 { warp } else { [9; 6] };
            assert_eq!(found[3..], wanted);
        }
    }
}

/// PTX, "Matrix Fragments for mma.m16n8k16 with floating point type": row and column of element `i` of A, of B, of C
/// and D.
mod m16n8k16 {
    pub(crate) fn a(lane: usize, i: usize) -> (usize, usize) {
        let (group, thread) = (lane >> 2, lane % 4);
        let row = if i < 2 || (4..6).contains(&i) { group } else { group + 8 };
        let column = thread * 2 + (i & 1) + if i < 4 { 0 } else { 8 };
        (row, column)
    }

    pub(crate) fn b(lane: usize, i: usize) -> (usize, usize) {
        let (group, thread) = (lane >> 2, lane % 4);
        (thread * 2 + (i & 1) + if i < 2 { 0 } else { 8 }, group)
    }
}

/// PTX, "Matrix Fragments for mma.m16n8k32", of s8.
mod m16n8k32 {
    pub(crate) fn a(lane: usize, i: usize) -> (usize, usize) {
        let (group, thread) = (lane >> 2, lane % 4);
        let row = if i < 4 || (8..12).contains(&i) { group } else { group + 8 };
        let column = thread * 4 + (i & 3) + if i < 8 { 0 } else { 16 };
        (row, column)
    }

    pub(crate) fn b(lane: usize, i: usize) -> (usize, usize) {
        let (group, thread) = (lane >> 2, lane % 4);
        (thread * 4 + (i & 3) + if i < 4 { 0 } else { 16 }, group)
    }
}

/// Row and column of element `i` of C and D, of both shapes.
fn accumulator(lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1))
}

#[test]
fn products_of_16_bits_take_their_elements_from_the_places_that_ptx_names() {
    let emulator = Emulator::new();
    let mut numbers = Numbers::new(2);
    for (kind, seed) in (0..40).map(|i| (i % 2, u64::from(i))) {
        // Small integers: every sum is exact, in whatever order.
        let mut matrix = |rows: usize, columns: usize| -> Vec<Vec<f32>> {
            (0..rows)
                .map(|_| (0..columns).map(|_| numbers.below(31) as f32 - 15.0).collect())
                .collect()
        };
        let (a, b, c) = (matrix(16, 16), matrix(16, 8), matrix(16, 8));
        let bits = |x: f32| -> u32 {
            u32::from(if kind == 0 {
                bf16::from_f32(x).to_bits()
            } else {
                f16::from_f32(x).to_bits()
            })
        };
        let pack = |word: usize, at: &dyn Fn(usize) -> f32| {
            bits(at(word * 2)) | bits(at(word * 2 + 1)) << 16
        };
        let mut fragments = (Vec::new(), Vec::new(), Vec::new());
        for lane in 0..LANES {
            for word in 0..4 {
                let at = |i| {
                    let (row, column) = m16n8k16::a(lane, i);
                    a[row][column]
                };
                fragments.0.push(pack(word, &at));
            }
            for word in 0..2 {
                let at = |i| {
                    let (row, column) = m16n8k16::b(lane, i);
                    b[row][column]
                };
                fragments.1.push(pack(word, &at));
            }
            for i in 0..4 {
                let (row, column) = accumulator(lane, i);
                fragments.2.push(c[row][column]);
            }
        }
        let d = floats(&emulator, &fragments.2);
        let sums = words(&emulator, &[0; 128]);
        let addresses = [words(&emulator, &fragments.0), words(&emulator, &fragments.1), d, sums];
        emulator.launch("test_mma", [1, 1, 1], 32, 0, &params(&addresses, &[kind]), seed).unwrap();
        let found = read_floats(&emulator, d, 128);
        for lane in 0..LANES {
            for i in 0..4 {
                let (row, column) = accumulator(lane, i);
                let wanted: f32 =
                    c[row][column] + (0..16).map(|k| a[row][k] * b[k][column]).sum::<f32>();
                assert_eq!(found[lane * 4 + i].to_bits(), wanted.to_bits(), "{kind} {lane} {i}");
            }
        }
    }
}

#[test]
fn products_of_int8_are_exact_and_take_their_elements_from_the_places_that_ptx_names() {
    let emulator = Emulator::new();
    let mut numbers = Numbers::new(3);
    for seed in 0..20 {
        let mut number = || {
            let bits = numbers.next();
            // The ends of the range often.
            match bits >> 8 & 7 {
                0 => -128_i8,
                1 => 127,
                _ => i8::from_le_bytes([bits.to_le_bytes()[0]]),
            }
        };
        let a: Vec<[i8; 32]> = (0..16).map(|_| std::array::from_fn(|_| number())).collect();
        let b: Vec<[i8; 8]> = (0..32).map(|_| std::array::from_fn(|_| number())).collect();
        let c: Vec<[i32; 8]> = (0..16)
            .map(|_| {
                std::array::from_fn(|_| {
                    i32::from(number()) * if seed == 0 { 16_777_216 } else { 1 }
                })
            })
            .collect();
        let mut fragments = (Vec::new(), Vec::new(), Vec::new());
        for lane in 0..LANES {
            for word in 0..4 {
                fragments.0.push(
                    i32::from_le_bytes(std::array::from_fn(|i| {
                        let (row, column) = m16n8k32::a(lane, word * 4 + i);
                        a[row][column].to_le_bytes()[0]
                    }))
                    .cast_unsigned(),
                );
            }
            for word in 0..2 {
                fragments.1.push(
                    i32::from_le_bytes(std::array::from_fn(|i| {
                        let (row, column) = m16n8k32::b(lane, word * 4 + i);
                        b[row][column].to_le_bytes()[0]
                    }))
                    .cast_unsigned(),
                );
            }
            for i in 0..4 {
                let (row, column) = accumulator(lane, i);
                fragments.2.push(c[row][column].cast_unsigned());
            }
        }
        let sums = words(&emulator, &fragments.2);
        let d = words(&emulator, &[0; 128]);
        let addresses = [words(&emulator, &fragments.0), words(&emulator, &fragments.1), d, sums];
        emulator.launch("test_mma", [1, 1, 1], 32, 0, &params(&addresses, &[2]), seed).unwrap();
        let found = read_words(&emulator, sums, 128);
        for lane in 0..LANES {
            for i in 0..4 {
                let (row, column) = accumulator(lane, i);
                let wanted = (0..32).fold(c[row][column], |sum, k| {
                    sum.wrapping_add(i32::from(a[row][k]) * i32::from(b[k][column]))
                });
                assert_eq!(found[lane * 4 + i].cast_signed(), wanted, "{lane} {i}");
            }
        }
    }
}

#[test]
fn ldmatrix_hands_out_rows_or_columns() {
    let emulator = Emulator::new();
    let mut numbers = Numbers::new(4);
    let count = 64 * 8;
    let tile: Vec<u16> = (0..count).map(|_| (numbers.next() & 0xffff) as u16).collect();
    let bytes: Vec<u8> = tile.iter().flat_map(|x| x.to_le_bytes()).collect();
    let from = emulator.allocate(bytes.len());
    emulator.write(from, &bytes);
    for seed in 0..20 {
        let transposed = u32::from(seed % 2 == 1);
        let starts: Vec<u32> = (0..32).map(|_| numbers.below(64) * 8).collect();
        let (at, out) = (words(&emulator, &starts), words(&emulator, &[0; 128]));
        let params = params(&[from, at, out], &[u32::try_from(count).unwrap(), transposed]);
        emulator.launch("test_ldmatrix", [1, 1, 1], 32, 256 + 1024, &params, seed).unwrap();
        let found = read_words(&emulator, out, 128);
        for lane in 0..32 {
            for matrix in 0..4 {
                // PTX, "ldmatrix": a thread receives two neighbours of row lane / 4, of the matrix or of the
                // transposed one.
                let element = |row: usize, column: usize| -> u32 {
                    let (row, column) = if transposed == 1 { (column, row) } else { (row, column) };
                    u32::from(tile[starts[matrix * 8 + row] as usize + column])
                };
                let (row, column) = (lane / 4, lane % 4 * 2);
                let wanted = element(row, column) | element(row, column + 1) << 16;
                assert_eq!(found[lane * 4 + matrix], wanted, "{transposed} {lane} {matrix}");
            }
        }
    }
}

#[test]
fn bank_conflicts_of_ldmatrix_are_counted() {
    let emulator = Emulator::new();
    let tile = emulator.allocate(32 * 128);
    let out = words(&emulator, &[0; 128]);
    let count = |start: &dyn Fn(u32) -> u32| {
        let starts = words(&emulator, &(0..32).map(start).collect::<Vec<_>>());
        let before = emulator.bank_conflicts();
        let params = params(&[tile, starts, out], &[32 * 64, 0]);
        emulator.launch("test_ldmatrix", [1, 1, 1], 32, 256 + 32 * 128, &params, 1).unwrap();
        emulator.bank_conflicts() - before
    };
    // Rows of 128 bytes one below the other are all in the same banks; of 16 bytes, or swizzled, in different ones;
    // and the same row for all lanes is read once.
    assert_eq!(count(&|lane| lane * 64), 4 * 7);
    assert_eq!(count(&|lane| lane * 8), 0);
    assert_eq!(count(&|lane| lane * 64 + (lane % 8) * 8), 0);
    assert_eq!(count(&|lane| lane * 32), 4 * 3);
    assert_eq!(count(&|_| 0), 0);
}

#[test]
fn asynchronous_copies_land_group_by_group_and_fill_with_zeros() {
    let emulator = Emulator::new();
    let bytes: Vec<u8> = (0..3 * 16 * 64_u32).map(|i| (i * 7 % 251 + 1).to_le_bytes()[0]).collect();
    let from = emulator.allocate(bytes.len());
    emulator.write(from, &bytes);
    let to = emulator.allocate(bytes.len());
    for valid in 0..=16_u32 {
        for seed in 0..10 {
            // With nothing to read, an address that is nowhere will do.
            let source = if valid == 0 { 0 } else { from };
            emulator
                .launch(
                    "test_copy",
                    [1, 1, 1],
                    64,
                    3 * 16 * 64,
                    &params(&[source, to], &[valid]),
                    seed,
                )
                .unwrap();
            let mut found = vec![0; bytes.len()];
            emulator.read(to, &mut found);
            for (i, byte) in found.iter().enumerate() {
                let (stage, thread, place) = (i / 1024, i / 16 % 64, i % 16);
                let source = bytes[stage * 1024 + (thread + 1) % 64 * 16 + place];
                assert_eq!(*byte, if place < valid as usize { source } else { 0 }, "{valid} {i}");
            }
        }
    }
}

/// A half's number as the kernel takes it, its widening and its narrowing.
type Conversion = (u32, fn(u16) -> f32, fn(f32) -> u16);

/// Values around each of 16 bits: itself, the middle between it and the next, and what lies beside the middle.
fn around(bits: u16, widen: fn(u16) -> f32) -> [f32; 6] {
    let (here, next) = (widen(bits), widen(bits.wrapping_add(1)));
    let middle = f32::midpoint(here, next);
    let beside = |step: i32| f32::from_bits(middle.to_bits().wrapping_add_signed(step));
    [here, middle, beside(1), beside(-1), -middle, f32::from_bits(here.to_bits() ^ 1)]
}

#[test]
fn conversions_are_those_of_half_for_every_pattern() {
    let emulator = Emulator::new();
    let kinds: [Conversion; 2] = [
        (0, |x| bf16::from_bits(x).to_f32(), |x| bf16::from_f32(x).to_bits()),
        (1, |x| f16::from_bits(x).to_f32(), |x| f16::from_f32(x).to_bits()),
    ];
    let count = 1 << 16;
    for (half, widen, narrow) in kinds {
        for which in 0..6 {
            let values: Vec<f32> = (0..=u16::MAX).map(|bits| around(bits, widen)[which]).collect();
            let from = floats(&emulator, &values);
            let (widened, narrowed, pairs) = (
                emulator.allocate(count * 4),
                emulator.allocate(count * 2),
                emulator.allocate(count * 4),
            );
            emulator
                .launch(
                    "test_convert",
                    [64, 1, 1],
                    1024,
                    0,
                    &params(&[from, widened, narrowed, pairs], &[1 << 16, half]),
                    1,
                )
                .unwrap();
            let widened = read_floats(&emulator, widened, count);
            let narrowed = read_words(&emulator, narrowed, count / 2);
            let pairs = read_words(&emulator, pairs, count);
            // PTX, `cvt`: a NaN becomes the one NaN 0x7fff.
            let wanted = |x: f32| if x.is_nan() { 0x7fff } else { u32::from(narrow(x)) };
            for (i, &x) in values.iter().enumerate() {
                let exact = widen(u16::try_from(i).unwrap());
                assert!(
                    widened[i].to_bits() == exact.to_bits()
                        || (exact.is_nan() && widened[i].is_nan()),
                    "{half} {i:#x}: {} for {exact}",
                    widened[i]
                );
                assert_eq!(narrowed[i / 2] >> (i % 2 * 16) & 0xffff, wanted(x), "{half} {x}");
                assert_eq!(pairs[i], wanted(x) | wanted(-x) << 16, "{half} {x}");
            }
        }
    }
}

#[test]
fn views_reach_elements_structs_and_vectors() {
    let emulator = Emulator::new();
    let records: Vec<u32> =
        (0..32_u32).flat_map(|i| [i, (i as f32 * 0.25).to_bits(), 0, 0, 0, 0, 0, 0]).collect();
    let values: Vec<u32> = (0..256).map(|i| i * 0x0101).collect();
    let (at, out, data) =
        (words(&emulator, &records), words(&emulator, &[0; 128]), words(&emulator, &values));
    emulator
        .launch("test_views", [1, 1, 1], 32, 128 + 1024, &params(&[at, out, 0, data], &[]), 3)
        .unwrap();
    let floats = read_floats(&emulator, out, 128);
    let data = read_words(&emulator, data, 256);
    for i in 0..32 {
        let (second, first) = (i as f32 * 0.25, i as f32 + 0.5);
        assert_eq!(
            floats[i * 4..][..4],
            [second, first, first * 2.0 - 1.0, second.max(first * 2.0 - 1.0)]
        );
        let old = &values[i * 8..][..8];
        let low = old[0] & !0xff | (old[0] + 1) & 0xff;
        assert_eq!(
            data[i * 8..][..8],
            [low, old[1], old[2], old[3], old[7], old[6], old[5], old[4]]
        );
    }
}

#[test]
fn sums_and_maxima_reach_all_lanes_and_threads() {
    let emulator = Emulator::new();
    for threads in [32, 96, 1024_usize] {
        let values: Vec<f32> = (0..threads).map(|i| ((i * 37 % 101) as f32) - 50.0).collect();
        let (from, out) = (floats(&emulator, &values), emulator.allocate(threads * 24));
        for seed in 0..5 {
            emulator
                .launch(
                    "test_sums",
                    [1, 1, 1],
                    u32::try_from(threads).unwrap(),
                    128,
                    &params(&[from, out], &[]),
                    seed,
                )
                .unwrap();
        }
        let sum = |x: &[f32]| x.iter().sum::<f32>();
        let max = |x: &[f32]| x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for (i, found) in read_floats(&emulator, out, threads * 6).chunks_exact(6).enumerate() {
            let run = |width: usize| &values[i / width * width..][..width];
            let wanted =
                [sum(run(32)), max(run(32)), sum(run(4)), max(run(8)), sum(&values), max(&values)];
            assert_eq!(found, wanted);
        }
    }
}

#[test]
fn every_block_and_thread_runs_once_with_its_indices() {
    let emulator = Emulator::new();
    let out = words(&emulator, &[0; 3 * 4 * 5 * 64]);
    for seed in 0..50 {
        emulator.launch("test_indices", [3, 4, 5], 64, 0, &params(&[out], &[]), seed).unwrap();
        let found = read_words(&emulator, out, 3 * 4 * 5 * 64);
        for (i, word) in found.iter().enumerate() {
            let (thread, block) = (i % 64, i / 64);
            let [x, y, z] = [block % 3, block / 3 % 4, block / 12];
            let wanted = x | (y << 8) | (z << 16) | (thread << 24);
            assert_eq!(*word as usize, wanted);
        }
    }
}

#[test]
fn what_is_ordered_is_no_fault_and_answers_do_not_depend_on_the_order() {
    let emulator = Emulator::new();
    let out = emulator.allocate(3 * 96 * 4);
    let mut answers = (0..200).map(|seed| {
        emulator
            .launch("test_allowed", [3, 1, 1], 96, 1024 + 96 * 4, &params(&[out], &[3]), seed)
            .unwrap_or_else(|fault| panic!("{fault}"));
        read_words(&emulator, out, 3 * 96)
    });
    let first = answers.next().unwrap();
    assert!(answers.all(|answer| answer == first));
}

#[test]
fn launches_on_several_threads_do_not_disturb_each_other() {
    let emulator = Emulator::new();
    let values: Vec<f32> = (0..256_u16).map(f32::from).collect();
    let from = floats(&emulator, &values);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let emulator = emulator.clone();
            scope.spawn(move || {
                let out = emulator.allocate(256 * 24);
                for round in 0..20 {
                    emulator
                        .launch(
                            "test_sums",
                            [1, 1, 1],
                            256,
                            128,
                            &params(&[from, out], &[]),
                            seed * 100 + round,
                        )
                        .unwrap();
                    assert_eq!(read_floats(&emulator, out, 5)[4].to_bits(), 32640.0_f32.to_bits());
                }
            });
        }
    });
}

#[test]
fn kernels_are_known_by_name() {
    let names = kernels();
    for name in ["test_mma", "test_copy", "planted_missing_barrier"] {
        assert!(names.iter().any(|known| known == name), "{name} is not among {names:?}");
    }
}
