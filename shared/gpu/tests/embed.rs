//! Embedding on the emulator, to the bit: sums of up to three f32 values have one answer.

#![allow(clippy::cast_possible_truncation, reason = "shapes are small")]

mod emulated;

use defrost_gpu::kernels::{Embed, Half, Table, TableKind};
use emulated::{Device, Random, bits, halved, widened};

const KINDS: [TableKind; 4] = [TableKind::F32, TableKind::Bf16, TableKind::F16, TableKind::Int8];

/// A table on the device, and its values as f32.
fn table(device: &Device, kind: TableKind, rows: usize, width: usize) -> (Table, Vec<f32>) {
    let values = Random::new(kind as u64 + 10).floats(rows * width);
    let of_half = |half| {
        let bits = halved(half, &values);
        (device.put(&bits), widened(half, &bits))
    };
    let mut scales = None;
    let (address, values) = match kind {
        TableKind::F32 => (device.put(&values), values),
        TableKind::Bf16 => of_half(Half::Bf16),
        TableKind::F16 => of_half(Half::F16),
        TableKind::Int8 => {
            let codes: Vec<i8> = values.iter().map(|value| (value * 63.0) as i8).collect();
            let own: Vec<f32> = (1..=rows).map(|row| row as f32 * 0.013).collect();
            scales = Some(device.put(&own));
            let scaled = codes.iter().enumerate();
            let values = scaled.map(|(at, &code)| f32::from(code) * own[at / width]).collect();
            (device.put(&codes), values)
        }
    };
    (Table { address, kind, scales }, values)
}

fn check(kinds: [Option<TableKind>; 3], width: usize, seed: u64) {
    let device = Device::new();
    let rows = 7;
    let sizes = [50, 2, 9];
    let ids: [Vec<u32>; 3] =
        sizes.map(|size| (0..rows as u32).map(|row| (row * 13 + size - 1) % size).collect());
    let mut expected = vec![0.0f32; rows * width];
    // Words, types, positions: the order in which they are added.
    let mut tables = [None; 3];
    for (at, kind) in kinds.into_iter().enumerate() {
        let Some(kind) = kind else { continue };
        let (table, values) = table(&device, kind, sizes[at] as usize, width);
        tables[at] = Some((device.put(&ids[at]), table));
        for (row, &id) in ids[at].iter().enumerate() {
            let added = &values[id as usize * width..][..width];
            for (sum, value) in expected[row * width..][..width].iter_mut().zip(added) {
                *sum += value;
            }
        }
    }
    let out = device.room::<f32>(rows * width);
    let [words, types, positions] = tables;
    let (ids, words) = words.expect("every model has words");
    let embed = Embed { rows: rows as u32, width: width as u32, ids, words, positions, types, out };
    device.run(&embed.launch(), seed);
    assert_eq!(bits(&device.get(out, rows * width)), bits(&expected), "{kinds:?}, {width} wide");
}

#[test]
fn rows_of_tables_are_added() {
    for (number, words) in KINDS.into_iter().enumerate() {
        for (others, width) in [[None, None], [Some(KINDS[number]), None], [None, Some(words)]]
            .into_iter()
            .chain(KINDS.map(|kind| [Some(kind), Some(words)]))
            .zip([1, 31, 64, 100, 256, 384, 1025])
        {
            check([Some(words), others[0], others[1]], width, 1);
        }
    }
}

#[test]
fn no_order_of_threads_changes_a_bit() {
    for seed in 0..200 {
        check([Some(TableKind::Int8), Some(TableKind::F32), Some(TableKind::F16)], 65, seed);
    }
}
