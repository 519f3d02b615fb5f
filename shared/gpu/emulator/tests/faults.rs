//! Planted faults: each is found, whatever the order of threads.

use defrost_gpu_emulator::{Emulator, FaultKind};

fn floats(emulator: &Emulator, values: &[f32]) -> u64 {
    let address = emulator.allocate(values.len() * 4);
    emulator.write(address, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    address
}

#[test]
fn a_missing_barrier_is_found() {
    let emulator = Emulator::new();
    let from = floats(&emulator, &[1.0; 128]);
    let to = emulator.allocate(512);
    let params: Vec<u8> = [from, to].iter().flat_map(|x| x.to_le_bytes()).collect();
    for seed in 0..200 {
        let fault = emulator
            .launch("planted_missing_barrier", [2, 1, 1], 64, 256, &params, seed)
            .unwrap_err();
        if seed < 5 {
            eprintln!("{fault}");
        }
        assert_eq!(fault.kind(), FaultKind::Race);
    }
}
