//! Prints how fast snapshots are hashed and opened here: `cargo run --release --example restore_speed [MiB] [dir]`.
//!
//! The page cache is warm (the file was just written), so this shows the processor's part of a restore. Best of five.
#![allow(clippy::print_stdout, reason = "printing is its purpose")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use defrost_loader::{
    Dtype, Error, OpenOptions, Plan, SegmentPlan, Snapshot, SnapshotWriter, TensorPlan, VerifyMode,
    verify,
};

const MIB: usize = 1024 * 1024;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let mib = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(512);
    let dir = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let path = dir.join(format!("restore-speed-{}.snap", std::process::id()));
    let tensor: Vec<u8> =
        (0..8 * MIB).map(|i| ((i * 2_654_435_761) >> 11).to_le_bytes()[0]).collect();

    let chunk = &tensor[..2 * MIB];
    show(
        "xxh3, one chunk in cache",
        chunk.len(),
        best(|| {
            black_box(twox_hash::XxHash3_64::oneshot(black_box(chunk)));
        }),
    );
    show(
        "blake3, one chunk in cache",
        chunk.len(),
        best(|| {
            black_box(blake3::hash(black_box(chunk)));
        }),
    );

    let begun = Instant::now();
    let root = write(&path, &tensor, mib / 8)?;
    show("write", mib * MIB, begun.elapsed());

    for (mode, threads) in [
        (VerifyMode::Eager, 1),
        (VerifyMode::Eager, 2),
        (VerifyMode::OnTheFly, 2),
        (VerifyMode::Stamped, 1),
    ] {
        let mut options = OpenOptions::new(["portable"], 1);
        (options.verify, options.threads) = (mode, threads);
        let mut opened = Ok(());
        let open = best(|| opened = Snapshot::open(&path, &options).map(drop));
        opened?;
        show(&format!("open {mode}, {threads} threads"), mib * MIB, open);
    }
    let mut verified = Ok(root);
    show("verify (both hashes)", mib * MIB, best(|| verified = verify(&path, &mut |_, _| ())));
    verified?;
    for leftover in [path.clone(), dir.join(format!("{root}.ok"))] {
        // Left behind at worst in a temporary directory.
        let _ = std::fs::remove_file(leftover);
    }
    Ok(())
}

fn write(path: &Path, tensor: &[u8], count: usize) -> Result<defrost_loader::Root, Error> {
    let tensors = (0..count).map(|i| TensorPlan {
        name: format!("w{i}"),
        dtype: Dtype::U8,
        layout: "row-major".to_owned(),
        shape: vec![tensor.len()],
        len: tensor.len(),
    });
    let segments =
        vec![SegmentPlan { name: "all".to_owned(), sparse: false, tensors: tensors.collect() }];
    let plan = Plan { isa: "portable".to_owned(), layout_abi: 1, segments, ..Plan::default() };
    let mut writer = SnapshotWriter::create(path, plan)?;
    for i in 0..count {
        writer.write(&format!("w{i}"), tensor)?;
    }
    writer.finish()
}

fn best(mut work: impl FnMut()) -> Duration {
    let times = (0..5).map(|_| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    });
    times.min().unwrap_or_default()
}

fn show(what: &str, bytes: usize, time: Duration) {
    let rate = bytes as f64 / time.as_secs_f64() / 1e9;
    println!("{what:32} {:9.3} ms {rate:8.2} GB/s", time.as_secs_f64() * 1e3);
}
