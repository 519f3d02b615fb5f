//! Gathering on the emulator.

#![allow(clippy::cast_possible_truncation, reason = "shapes are small")]

mod emulated;

use defrost_gpu::kernels::Gather;
use emulated::Device;

fn check(width_bytes: usize, rows: usize, seed: u64) {
    let device = Device::new();
    let (from, row_of) = (values(width_bytes), (0..rows as u32).map(|row| row * 5 % 7));
    let row_of: Vec<u32> = row_of.collect();
    let out = device.room::<u8>(rows * width_bytes);
    let gather = Gather {
        rows: rows as u32,
        width_bytes: width_bytes as u32,
        from: device.put(&from),
        row_of: device.put(&row_of),
        out,
    };
    device.run(&gather.launch(), seed);
    let expected: Vec<u8> = row_of
        .iter()
        .flat_map(|&row| &from[row as usize * width_bytes..][..width_bytes])
        .copied()
        .collect();
    assert!(device.get::<u8>(out, rows * width_bytes) == expected, "{rows} of {width_bytes} bytes");
}

/// Seven rows of bytes.
fn values(width_bytes: usize) -> Vec<u8> {
    (0..7 * width_bytes).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn rows_of_every_width_arrive() {
    for width_bytes in [4, 12, 16, 36, 400, 1540, 4096, 4100, 8208] {
        check(width_bytes, 1, 1);
        check(width_bytes, 9, 2);
    }
}

/// Rows that begin between words of 16 bytes.
#[test]
fn an_address_of_four_bytes_will_do() {
    let device = Device::new();
    let from = values(32);
    let (to, out) = (device.put(&[0u8; 36]), device.put(&[0u8; 36]).plus(4));
    let gather = Gather {
        rows: 1,
        width_bytes: 32,
        from: device.put(&from),
        row_of: device.put(&[3u32]),
        out,
    };
    device.run(&gather.launch(), 1);
    assert_eq!(device.get::<u8>(out, 32), &from[96..128]);
    let gather = Gather { from: out, row_of: device.put(&[0u32]), out: to, ..gather };
    device.run(&gather.launch(), 1);
    assert_eq!(device.get::<u8>(to, 32), &from[96..128]);
}

#[test]
fn no_order_of_threads_changes_a_byte() {
    for seed in 0..200 {
        check(260, 5, seed);
    }
}
