//! Planted faults (`planted/*.cu`): each is found, with every order of threads, and the message says what and where.

mod common;

use common::{floats, params, read_floats, words};
use defrost_gpu_emulator::{Emulator, Fault, FaultKind};

/// Orders of threads that each fault is looked for in.
const SEEDS: u64 = 200;

/// Runs a kernel of `addresses` and `numbers` in every order, and returns the faults; there is one each time.
fn faults(
    emulator: &Emulator,
    kernel: &str,
    grid: u32,
    block: u32,
    addresses: &[u64],
    numbers: &[u32],
) -> Vec<Fault> {
    (0..SEEDS)
        .map(|seed| {
            emulator
                .launch(kernel, [grid, 1, 1], block, 4096, &params(addresses, numbers), seed)
                .expect_err(kernel)
        })
        .collect()
}

/// Each fault is of one of the kinds, names the kernel, and says one of the texts.
fn assert_found(kernel: &str, faults: &[Fault], kinds: &[FaultKind], texts: &[&str]) {
    for (seed, fault) in faults.iter().enumerate() {
        let text = fault.to_string();
        assert!(kinds.contains(&fault.kind()), "{kernel} {seed}: {:?}: {text}", fault.kind());
        assert!(text.starts_with(&format!("kernel {kernel}, block (")), "{seed}: {text}");
        assert!(texts.iter().any(|wanted| text.contains(wanted)), "{kernel} {seed}: {text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn a_missing_barrier_is_found() {
    let emulator = Emulator::new();
    let (from, to) = (floats(&emulator, &[1.0; 64]), emulator.allocate(256));
    for (kernel, remedy) in [
        ("planted_missing_barrier", "no __syncthreads is between"),
        ("planted_missing_second_barrier", "between"),
        ("planted_missing_syncwarp", "no __syncwarp or __syncthreads is between"),
        ("planted_syncwarp_for_syncthreads", "no __syncthreads is between"),
    ] {
        let found = faults(&emulator, kernel, 1, 64, &[from, to], &[]);
        assert_found(kernel, &found, &[FaultKind::Race], &[remedy]);
    }
}

#[test]
fn a_barrier_that_not_all_threads_come_to_is_found() {
    let emulator = Emulator::new();
    let (from, to) = (floats(&emulator, &[1.0; 64]), emulator.allocate(256));
    let found = faults(&emulator, "planted_early_return", 1, 64, &[from, to], &[]);
    assert_found(
        "planted_early_return",
        &found,
        &[FaultKind::Deadlock],
        &["thread 63: has ended, and thread"],
    );
    let found = faults(&emulator, "planted_two_barriers", 1, 64, &[from, to], &[]);
    assert_found(
        "planted_two_barriers",
        &found,
        &[FaultKind::Lanes],
        &["all threads must come to the same"],
    );
}

#[test]
fn an_access_beside_an_allocation_is_found() {
    let emulator = Emulator::new();
    let (from, to) = (floats(&emulator, &[1.0; 100]), emulator.allocate(400));
    let found = faults(&emulator, "planted_global_off_by_one", 2, 64, &[from, to], &[100]);
    let end = from + 400;
    assert_found(
        "planted_global_off_by_one",
        &found,
        &[FaultKind::OutOfBounds],
        &[&format!(
            "block (1, 0, 0), thread 35: reads 4 bytes at {end:#x}, 0 bytes past the end of the allocation of 400 bytes"
        )],
    );
    let found = faults(&emulator, "planted_global_write_off_by_one", 1, 128, &[from, to], &[100]);
    assert_found(
        "planted_global_write_off_by_one",
        &found,
        &[FaultKind::OutOfBounds],
        &["thread 100: writes 4 bytes"],
    );
    let found = faults(&emulator, "planted_shared_off_by_one", 1, 64, &[from, to], &[100]);
    assert_found(
        "planted_shared_off_by_one",
        &found,
        &[FaultKind::OutOfBounds],
        &[
            "thread 63, after bounds.cu:32: reads 4 bytes at byte 256 of shared memory, outside of its part, 0 to 256",
        ],
    );
    let found = faults(&emulator, "planted_shared_too_large", 1, 64, &[from, to], &[1025]);
    assert_found(
        "planted_shared_too_large",
        &found,
        &[FaultKind::OutOfBounds],
        &["takes the bytes 0 to 4100 of shared memory, and the launch gives 4096"],
    );
}

#[test]
fn an_access_to_released_memory_is_found() {
    let emulator = Emulator::new();
    let (from, to) = (floats(&emulator, &[1.0; 64]), emulator.allocate(256));
    emulator.release(from);
    let found = faults(&emulator, "planted_missing_barrier", 1, 64, &[from, to], &[]);
    assert_found(
        "planted_missing_barrier",
        &found,
        &[FaultKind::OutOfBounds],
        &["in an allocation of 256 bytes that was released"],
    );
    let found = faults(&emulator, "planted_missing_barrier", 1, 64, &[0, to], &[]);
    assert_found(
        "planted_missing_barrier",
        &found,
        &[FaultKind::OutOfBounds],
        &["an absent argument", "in no allocation"],
    );
}

#[test]
fn a_misaligned_vector_is_found() {
    let emulator = Emulator::new();
    let (from, to) = (floats(&emulator, &[1.0; 512]), emulator.allocate(2048));
    let found = faults(&emulator, "planted_misaligned", 1, 64, &[from, to], &[0]);
    assert_found(
        "planted_misaligned",
        &found,
        &[FaultKind::Misaligned],
        &["which is no multiple of 16"],
    );
    let found = faults(&emulator, "planted_misaligned_shared", 1, 32, &[from, to], &[0]);
    assert_found(
        "planted_misaligned_shared",
        &found,
        &[FaultKind::Misaligned],
        &["which is no multiple of 16"],
    );
}

#[test]
fn a_lane_that_does_not_come_is_found() {
    let emulator = Emulator::new();
    let to = emulator.allocate(256);
    let found = faults(&emulator, "planted_lane_has_left", 1, 64, &[to], &[13]);
    assert_found(
        "planted_lane_has_left",
        &found,
        &[FaultKind::Deadlock],
        &["thread 13: has ended, and thread", "thread 45: has ended, and thread"],
    );
    let found = faults(&emulator, "planted_lane_is_elsewhere", 1, 64, &[to], &[13]);
    assert_found(
        "planted_lane_is_elsewhere",
        &found,
        &[FaultKind::Deadlock],
        &[
            "thread 13 waits at the __syncthreads of lanes.cu:",
            "thread 45 waits at the __syncthreads of lanes.cu:",
        ],
    );
}

#[test]
fn a_wrong_lane_or_mask_is_found() {
    let emulator = Emulator::new();
    let to = emulator.allocate(256);
    for (kernel, text) in [
        ("planted_wrong_mask", "waits at the __"),
        ("planted_own_lane_missing", "in which its own lane"),
        ("planted_lane_left_out", "which the mask 0x"),
        ("planted_different_collectives", "waits at the "),
    ] {
        let found = faults(&emulator, kernel, 1, 64, &[to], &[13]);
        assert_found(kernel, &found, &[FaultKind::Lanes], &[text]);
    }
}

#[test]
fn an_asynchronous_copy_that_is_not_awaited_is_found() {
    let emulator = Emulator::new();
    let (from, to) = (floats(&emulator, &[1.0; 256]), emulator.allocate(1024));
    for kernel in ["planted_forgotten_wait", "planted_forgotten_commit", "planted_short_wait"] {
        let found = faults(&emulator, kernel, 1, 64, &[from, to], &[0]);
        assert_found(
            kernel,
            &found,
            &[FaultKind::InFlight],
            &["has not landed: no copy_wait of that thread is between"],
        );
    }
    for (kernel, rounds) in [("planted_wait_without_barrier", 0), ("planted_stage_in_use", 4)] {
        let found = faults(&emulator, kernel, 1, 64, &[from, to], &[rounds]);
        assert_found(kernel, &found, &[FaultKind::Race, FaultKind::InFlight], &["between"]);
    }
}

#[test]
fn blocks_and_threads_that_write_one_place_are_found() {
    let emulator = Emulator::new();
    let to = floats(&emulator, &[0.0; 128]);
    for kernel in ["planted_blocks_collide", "planted_blocks_pass_on"] {
        let found = faults(&emulator, kernel, 2, 64, &[to, to], &[]);
        assert_found(
            kernel,
            &found,
            &[FaultKind::Race],
            &["of block (1, 0, 0)", "of block (0, 0, 0)"],
        );
    }
    let found = faults(&emulator, "planted_threads_collide", 1, 64, &[to, to], &[]);
    assert_found("planted_threads_collide", &found, &[FaultKind::Race], &["of global memory"]);
    let found = faults(&emulator, "planted_read_only_after_write", 1, 64, &[to, to], &[]);
    assert_found(
        "planted_read_only_after_write",
        &found,
        &[FaultKind::ReadOnly],
        &["has written there in the same launch"],
    );
}

#[test]
fn a_launch_that_no_card_takes_is_refused() {
    let emulator = Emulator::with_limits(1 << 20, 48 << 10);
    let to = emulator.allocate(256);
    let good = params(&[to, to], &[]);
    let launch = |kernel: &str, grid, block, shared, params: &[u8]| {
        let fault = emulator.launch(kernel, grid, block, shared, params, 0).unwrap_err();
        assert_eq!(fault.kind(), FaultKind::Launch);
        fault.to_string()
    };
    let kernel = "planted_blocks_collide";
    assert!(launch("nothing", [1; 3], 32, 0, &good).contains("no kernel is called nothing"));
    assert!(launch(kernel, [1; 3], 32, 0, &good[8..]).contains("take 16 bytes, and 8 are given"));
    assert!(launch(kernel, [1, 0, 1], 32, 0, &good).contains("a grid of 1 x 0 x 1 blocks"));
    assert!(launch(kernel, [1, 1 << 16, 1], 32, 0, &good).contains("y and z at most 65535"));
    assert!(launch(kernel, [1; 3], 48, 0, &good).contains("a multiple of 32 up to 1024"));
    assert!(launch(kernel, [1; 3], 0, 0, &good).contains("a multiple of 32 up to 1024"));
    assert!(
        launch("test_indices", [1; 3], 96, 0, &good[..8]).contains("a multiple of 32 up to 64")
    );
    assert!(launch(kernel, [1; 3], 32, 49153, &good).contains("the device has 49152 for a block"));
}

#[test]
fn memory_is_finite_and_given_back_once() {
    let emulator = Emulator::with_limits(1024, 0);
    let first = emulator.allocate(1000);
    let fault = emulator.try_allocate(25).unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Memory);
    assert_eq!(fault.to_string(), "out of memory: 25 bytes wanted, 1000 of 1024 in use");
    assert_eq!(emulator.try_allocate(0).unwrap_err().kind(), FaultKind::Memory);
    emulator.release(first);
    assert_eq!(emulator.in_use(), 0);
    assert!(emulator.try_release(first).unwrap_err().to_string().contains("released before"));
    assert!(
        emulator.try_release(5).unwrap_err().to_string().contains("no allocation begins there")
    );
    let second = emulator.allocate(1024);
    assert_ne!(first, second);
    assert_eq!(second % 256, 0);
    let mut fresh = [0; 1024];
    emulator.read(second, &mut fresh);
    assert_eq!(fresh, [0xff; 1024]);
}

#[test]
fn the_host_reaches_allocations_only() {
    let emulator = Emulator::new();
    let at = emulator.allocate(8);
    emulator.write(at + 4, &[1, 2, 3, 4]);
    let mut all = [0; 8];
    emulator.read(at, &mut all);
    assert_eq!(all, [0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]);
    let fault = emulator.try_write(at + 5, &[0; 4]).unwrap_err();
    assert_eq!(fault.kind(), FaultKind::OutOfBounds);
    assert!(fault.to_string().contains("of which 1 lie past the end of the allocation of 8 bytes"));
    assert!(emulator.try_read(at - 1, &mut all).is_err());
    emulator.try_write(at + 8, &[]).unwrap();
}

#[test]
fn a_fault_leaves_the_emulator_as_it_was() {
    let emulator = Emulator::new();
    let (from, to) = (floats(&emulator, &[1.0; 64]), words(&emulator, &[0; 64 * 6]));
    for seed in 0..20 {
        let wrong = params(&[from, to], &[]);
        emulator.launch("planted_missing_barrier", [1, 1, 1], 64, 256, &wrong, seed).unwrap_err();
        emulator.launch("test_sums", [1, 1, 1], 64, 128, &params(&[from, to], &[]), seed).unwrap();
        assert_eq!(read_floats(&emulator, to, 64 * 6)[4].to_bits(), 64.0_f32.to_bits());
    }
}

/// The lines between a kernel's head and the end of its body on which it waits for others or for copies.
fn waits(source: &str, kernel: &str) -> Vec<usize> {
    let lines = source.lines().enumerate();
    lines
        .skip_while(|(_, line)| !line.contains(kernel))
        .take_while(|(_, line)| *line != "}")
        .filter(|(_, line)| {
            ["__syncthreads()", "__syncwarp(", "copy_wait<"].iter().any(|name| line.contains(name))
        })
        .map(|(i, _)| i + 1)
        .collect()
}

#[test]
fn every_barrier_of_a_right_kernel_is_missed_when_it_is_left_out() {
    let emulator = Emulator::new();
    let (from, to) = (emulator.allocate(3 * 16 * 64), emulator.allocate(3 * 16 * 64));
    let kernels = include_str!("kernels/primitives.cu");
    let header = include_str!("../../kernels/defrost.cuh");
    let sums = params(&[from, to], &[]);
    let cases = [
        ("test_copy", "primitives.cu", waits(kernels, "test_copy"), params(&[from, to], &[16])),
        ("test_allowed", "primitives.cu", waits(kernels, "test_allowed"), params(&[to], &[2])),
        ("test_sums", "defrost.cuh", waits(header, "block_sum(float"), sums.clone()),
        ("test_sums", "defrost.cuh", waits(header, "block_max(float"), sums),
    ];
    assert_eq!(cases.each_ref().map(|case| case.2.len()), [4, 5, 2, 2]);
    for (kernel, file, lines, params) in cases {
        emulator.launch(kernel, [1, 1, 1], 64, 4096, &params, 0).unwrap();
        for line in lines {
            let emulator = emulator.without(file, line);
            let mut missed = 0;
            for seed in 0..SEEDS {
                let fault = emulator.launch(kernel, [1, 1, 1], 64, 4096, &params, seed);
                missed += u64::from(fault.is_err());
            }
            assert!(emulator.times_planted() > 0, "{kernel} does not come to {file}:{line}");
            assert_eq!(missed, SEEDS, "{kernel} without {file}:{line}");
        }
    }
}
