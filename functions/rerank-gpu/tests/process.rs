//! Exit codes and messages of the binary where there is no GPU, and of the settings that only GPUs have.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn run(args: &[&str], vars: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rerank-gpu"))
        .args(args)
        .env_clear()
        .envs(vars.iter().copied())
        .output()
        .expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_lists_the_settings_of_gpus_and_needs_none() {
    let output = run(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout);
    for part in
        ["rerank-gpu", "--device", "--gpu-memory-fraction", "GPU_MEMORY_UTILIZATION", "--use-fp16"]
    {
        assert!(help.contains(part), "{part} is not in {help}");
    }
}

/// Settings that no GPU has, each with the words that its line must hold.
#[test]
fn a_device_or_type_that_there_is_not_is_refused_with_what_there_is() {
    for (name, value, parts) in [
        (
            "DEVICE",
            "cpu",
            &["auto, cuda or cuda:N", "found \"cpu\"", "rerank-cpu-int8 runs without a GPU"][..],
        ),
        ("DEVICE", "mps", &["found \"mps\"", "rerank-cpu-int8"]),
        ("DEVICE", "cuda:-1", &["found \"cuda:-1\""]),
        ("DEVICE", "cuda:x", &["found \"cuda:x\""]),
        ("DEVICE", "emulated:0", &["found \"emulated:0\""]),
        ("DTYPE", "float64", &["expected auto or bf16", "or half or int8", "found \"float64\""]),
        ("DTYPE", "float32", &["found \"float32\""]),
        ("USE_FP16", "maybe", &["expected true or false"]),
        ("GPU_MEMORY_FRACTION", "0", &["above 0 and up to 1", "found \"0\""]),
        ("GPU_MEMORY_UTILIZATION", "1.5", &["GPU_MEMORY_FRACTION: ", "found \"1.5\""]),
        ("GPU_MEMORY_FRACTION", "NaN", &["found \"NaN\""]),
    ] {
        let output = run(&[], &[("MODEL", "m"), (name, value)]);
        assert_eq!(output.status.code(), Some(2), "{name}={value}");
        let text = stderr(&output);
        assert!(text.starts_with("rerank-gpu: ") && text.lines().count() == 1, "{text}");
        for part in parts {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    let output = run(&[], &[("MODEL", "m"), ("DTYPE", "bfloat16"), ("USE_FP16", "true")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("DTYPE=bf16, USE_FP16=true: set one of them"));
}

/// The names of other services mean what they mean there: the next mistake is met.
#[test]
fn types_have_the_names_of_other_services_too() {
    for dtype in ["auto", "bf16", "bfloat16", "f16", "fp16", "float16", "Half", "int8"] {
        let output = run(&[], &[("MODEL", "m"), ("DTYPE", dtype), ("PORT", "x")]);
        let text = stderr(&output);
        assert!(text.contains("PORT: ") && !text.contains("DTYPE"), "{text}");
    }
}

/// This machine may have a driver; then the test has nothing to look at, since what it would say depends on the card.
fn has_driver() -> bool {
    ["/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg"]
        .iter()
        .any(|path| std::path::Path::new(path).exists())
}

/// The least of some starts: how long others have the processor is not this binary's doing.
#[test]
fn without_a_driver_it_says_so_at_once() {
    if has_driver() {
        return;
    }
    let mut least = Duration::MAX;
    for _ in 0..20 {
        let begun = Instant::now();
        // The model is looked for only once there is a device.
        let output =
            run(&[], &[("MODEL", "/no/such/model"), ("PORT", "0"), ("LOG_LEVEL", "error")]);
        least = least.min(begun.elapsed());
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(
            text.starts_with("rerank-gpu: no NVIDIA driver: libcuda.so.1 cannot be opened"),
            "{text}"
        );
        assert!(
            text.contains("a driver is needed") && text.contains("container toolkit"),
            "{text}"
        );
        assert!(text.ends_with("; rerank-cpu-int8 runs without a GPU\n"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    println!("said after {least:?}");
}
