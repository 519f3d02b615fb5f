//! The binary as its users run it, on the emulated device: a process, a snapshot, a socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "../../../shared/testing/support/driver.rs"]
mod driver;
#[path = "../../../shared/testing/support/running.rs"]
#[allow(dead_code, reason = "what packs for processors is for other functions")]
mod running;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;

use defrost_gpu::arena::ArenaPlan;
use defrost_loader::Dtype;
use defrost_model::Precision;
use defrost_model::spec::Description;
use defrost_testing::golden::{self, PAIR_MODELS};
use serde_json::{Value, json};

use running::{Running, fails, function, portable as snapshot};

/// The promise on scores in f16, of weights that the snapshot has as the checkpoint has them.
const TOLERANCE: f64 = 2e-2;
/// Of tiny random models in bf16, which has three bits fewer: theirs are spread over a few tenths, those of real ones over ten.
const IN_BF16: f64 = 5e-2;

/// The models whose checkpoints are in f16; the others are in bf16.
const IN_F16: [&str; 3] = ["bert-classifier", "roberta-classifier", "distilbert-classifier"];

const BODY: &str = r#"{"query": "who?", "documents": ["Harper Lee", "Herman Melville"]}"#;

fn command(model: &Path) -> Command {
    let mut command = function(env!("CARGO_BIN_EXE_rerank-gpu"), model);
    command.env("DEVICE", "emulated");
    command
}

/// The raw score that a function gives a golden case.
fn score(function: &Running, case: &golden::Case) -> f64 {
    let body = json!({
        "query": case.query, "documents": [case.document],
        "instruction": case.instruction, "raw_scores": true,
    });
    let (status, answer) = function.ask("POST", "/v1/rerank", &body.to_string());
    assert_eq!(status, 200, "{}: {answer}", case.name);
    assert_eq!(answer["usage"]["total_tokens"], case.ids.len());
    answer["results"][0]["relevance_score"].as_f64().unwrap()
}

/// Short cases: a thread of the CPU is slow at being a card.
fn cases(golden: &golden::Golden) -> impl Iterator<Item = &golden::Case> {
    let is_short = |case: &&golden::Case| !case.query.trim().is_empty() && case.ids.len() <= 160;
    golden.cases.iter().filter(is_short).take(4)
}

#[test]
fn scores_over_http_are_those_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    for model in PAIR_MODELS {
        let golden = golden::read(model);
        let own = if IN_F16.contains(&model) { Precision::F16 } else { Precision::Bf16 };
        let mut command = command(&snapshot(dir.path(), model, own));
        command.env("MAX_LENGTH", golden.max_length.to_string()).env("DTYPE", "f16");
        let function = Running::start(command);
        let scores: Vec<(f64, f64)> = cases(&golden)
            // The first request arrives while the model loads and is answered all the same.
            .map(|case| (score(&function, case), f64::from(case.raw)))
            .collect();
        assert!(scores.len() > 1, "{model}");
        for &(found, expected) in &scores {
            assert!((found - expected).abs() <= TOLERANCE, "{model}: {found} for {expected}");
            for &(other, lower) in &scores {
                assert!(
                    expected - lower <= 2.0 * TOLERANCE || found > other,
                    "{model}: {scores:?}"
                );
            }
        }
        let (status, health) = function.ask("GET", "/health", "");
        assert_eq!((status, &health["status"]), (200, &json!("ok")));
    }
}

/// In bf16, as most checkpoints are, and with no setting: what clients get is within the promise, and pairs that are
/// further apart than it are in the same order.
#[test]
fn scores_in_bf16_are_those_of_transformers_as_clients_get_them() {
    let dir = tempfile::tempdir().unwrap();
    for model in PAIR_MODELS {
        let golden = golden::read(model);
        let mut command = command(&snapshot(dir.path(), model, Precision::Bf16));
        command.env("MAX_LENGTH", golden.max_length.to_string());
        let function = Running::start(command);
        let scores: Vec<(f64, f64)> = cases(&golden)
            .map(|case| {
                let body = json!({
                    "query": case.query, "documents": [case.document],
                    "instruction": case.instruction, "normalize": true,
                });
                let (status, answer) = function.ask("POST", "/v1/rerank", &body.to_string());
                assert_eq!(status, 200, "{}: {answer}", case.name);
                assert_eq!(answer["score_type"], "sigmoid");
                let found = answer["results"][0]["relevance_score"].as_f64().unwrap();
                (found, 1.0 / (1.0 + (-f64::from(case.raw)).exp()))
            })
            .collect();
        for &(found, expected) in &scores {
            assert!((found - expected).abs() <= TOLERANCE, "{model}: {found} for {expected}");
            for &(other, lower) in &scores {
                assert!(expected - lower <= TOLERANCE || found > other, "{model}: {scores:?}");
            }
        }
    }
}

/// Snapshots in one float, computed in another; and int8, which stay what they are.
#[test]
fn a_type_can_be_chosen_where_the_snapshot_leaves_a_choice() {
    let dir = tempfile::tempdir().unwrap();
    let model = "bert-classifier";
    let golden = golden::read(model);
    for (precision, setting, kernel) in [
        (Precision::F16, ("DTYPE", "auto"), "cuda-f16"),
        (Precision::Bf16, ("DTYPE", "half"), "cuda-f16"),
        (Precision::F16, ("DTYPE", "bfloat16"), "cuda-bf16"),
        (Precision::F32, ("USE_FP16", "true"), "cuda-f16"),
        (Precision::Int8, ("DTYPE", "int8"), "cuda-bf16"),
    ] {
        let mut command = command(&snapshot(dir.path(), model, precision));
        command.env("MAX_LENGTH", golden.max_length.to_string()).env(setting.0, setting.1);
        let function = Running::start(command);
        let case = cases(&golden).next().unwrap();
        let found = score(&function, case);
        let tolerance = match precision {
            // Not of weights that packing has rounded.
            Precision::F16 | Precision::F32 if kernel == "cuda-f16" => TOLERANCE,
            // Tiny random models lose more in int8 than real ones.
            Precision::Int8 => 0.2,
            _ => IN_BF16,
        };
        assert!(
            (found - f64::from(case.raw)).abs() <= tolerance,
            "{setting:?}: {found} for {}",
            case.raw
        );
        let (_, info) = function.ask("GET", "/info", "");
        assert_eq!((&info["backend"], &info["kernel"]), (&json!("gpu"), &json!(kernel)), "{info}");
    }
    for (precision, dtype) in [(Precision::Int8, "bf16"), (Precision::Bf16, "int8")] {
        let mut command = command(&snapshot(dir.path(), model, precision));
        let (code, line) = fails(command.env("DTYPE", dtype));
        assert_eq!(code, Some(1));
        let found = precision.name();
        assert!(
            line.contains(&format!("DTYPE={dtype}: snapshot"))
                && line.contains(&format!("packed in {found}")),
            "{line}"
        );
    }
}

/// A31: the numbers of the card under the names that benchmarks look for; the phases of a boot on a device.
#[test]
fn metrics_and_health_tell_of_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let model = snapshot(dir.path(), "bert-classifier", Precision::Bf16);
    let function = Running::start(command(&model));
    let (status, answer) = function.ask("POST", "/v1/rerank", BODY);
    assert_eq!(status, 200, "{answer}");
    let (head, metrics) = function.get("/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let metrics = String::from_utf8(metrics).unwrap();
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{")));
        let line = line.unwrap_or_else(|| panic!("{name} is not in {metrics}"));
        assert!(line.contains("gpu=\"0\""), "{line}");
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert!((0.0..=100.0).contains(&value("nvml_gpu_utilization")));
    assert!(value("nvml_memory_used_bytes") > 10_000.0);
    let (_, health) = function.ask("GET", "/health", "");
    let phases = &health["boot"]["phases"];
    for phase in
        ["exec", "restore", "tokenizer", "engine", "context", "module", "upload", "first_score"]
    {
        assert!(phases[phase].as_f64().is_some(), "{phase} is missing from {health}");
        let line = format!("defrost_boot_phase_seconds{{phase=\"{phase}\"}}");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
}

/// The bytes that a model's weights take on the device.
fn arena(path: &Path) -> usize {
    let linked = &[&defrost_gpu::RUNTIME as &dyn defrost_model::Runtime];
    let snapshot =
        defrost_tasks::restore(linked, &path.into(), &defrost_tasks::RestoreOptions::default())
            .unwrap();
    let Description::Parts(spec) = Description::of(&snapshot).unwrap() else { panic!("parts") };
    ArenaPlan::new(&snapshot, &spec.config, Dtype::Bf16).unwrap().bytes()
}

/// What does not fit at once is run in halves; a pair that does not fit by itself is refused, and the next is answered.
#[test]
fn out_of_memory_is_503_for_what_does_not_fit_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot(dir.path(), "bert-classifier", Precision::Bf16);
    let mut command = command(&path);
    // Room for a short pair, and not for one of hundreds of tokens.
    command
        .env("EMULATED_MEMORY", (arena(&path) + (80 << 10)).to_string())
        .env("GPU_MEMORY_FRACTION", "1");
    let function = Running::start(command);
    let many: Vec<String> = (0..40).map(|at| format!("document {at}")).collect();
    let many = json!({"query": "who?", "documents": many}).to_string();
    let long = json!({"query": "who?", "documents": ["far too long ".repeat(100)]}).to_string();
    for _ in 0..2 {
        let (status, answer) = function.ask("POST", "/v1/rerank", &many);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["results"].as_array().unwrap().len(), 40);
        let (status, answer) = function.ask("POST", "/v1/rerank", &long);
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("out_of_memory")), "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("out of memory") && message.contains("shorter texts"),
            "{message}"
        );
        let (status, answer) = function.ask("POST", "/v1/rerank", BODY);
        assert_eq!(status, 200, "{answer}");
    }
}

/// What there is no memory to compile with is served as it is.
#[test]
fn a_compiled_start_without_memory_for_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot(dir.path(), "bert-classifier", Precision::Bf16);
    let mut command = command(&path);
    command
        .env("EMULATED_MEMORY", (arena(&path) + (80 << 10)).to_string())
        .env("GPU_MEMORY_FRACTION", "1")
        .env("FAST_BOOT", "false");
    let function = Running::start(command);
    let (status, answer) = function.ask("POST", "/v1/rerank", BODY);
    assert_eq!(status, 200, "{answer}");
}

/// A model that the card cannot hold is refused at the start.
#[test]
fn a_model_that_does_not_fit_is_refused_with_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(&snapshot(dir.path(), "bert-classifier", Precision::Bf16));
    let (code, line) = fails(command.env("EMULATED_MEMORY", "65536"));
    assert_eq!(code, Some(1));
    for part in ["KiB on the GPU", "GPU_MEMORY_FRACTION=0.9", "rerank-cpu-int8"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

/// A device that is lost ends the process with its reason, so that the platform starts another.
#[test]
fn a_lost_device_ends_the_process_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(&snapshot(dir.path(), "bert-classifier", Precision::Bf16));
    let mut child = command.env("EMULATED_LOST_AFTER", "5").spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    let address = loop {
        let from = said.len();
        assert!(log.read_line(&mut said).unwrap() > 0, "ended before it listened: {said}");
        if let Some((_, address)) = said[from..].split_once("listening on http://") {
            break address.trim().parse().unwrap();
        }
    };
    let mut function = Running { child, address };
    let (status, answer) = function.ask("POST", "/v1/rerank", BODY);
    assert!((500..600).contains(&status), "{status}: {answer}");
    // To its end, which is the process's.
    log.read_to_string(&mut said).unwrap();
    assert_eq!(function.child.wait().unwrap().code(), Some(1));
    let line = said.lines().find(|line| line.starts_with("rerank-gpu: "));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("the device is lost") && line.contains("EMULATED_LOST_AFTER"), "{line}");
}

/// Snapshots that lie as processors read them are for these.
#[test]
fn a_snapshot_for_processors_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = running::snapshot(dir.path(), "bert-classifier", Precision::Bf16);
    let (code, line) = fails(&mut command(&path));
    assert_eq!(code, Some(1));
    assert!(line.contains("--isa portable"), "{line}");
}

/// Documents of one request run together, and each score is that of the document alone.
#[test]
fn a_ranking_is_that_of_its_scores() {
    let dir = tempfile::tempdir().unwrap();
    let function = Running::start(command(&snapshot(dir.path(), "qwen2-mxbai", Precision::Int8)));
    let documents = ["Harper Lee", "Herman Melville", "中文 😀", ""];
    let body = json!({"query": "who?", "documents": documents, "return_documents": true});
    let (status, answer) = function.ask("POST", "/v1/rerank", &body.to_string());
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    let scores: Vec<f64> =
        results.iter().map(|result| result["relevance_score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 4 && scores.is_sorted_by(|a, b| a >= b), "{answer}");
    for result in results {
        let index = usize::try_from(result["index"].as_u64().unwrap()).unwrap();
        assert_eq!(result["document"]["text"], documents[index]);
        let alone = json!({"query": "who?", "documents": [documents[index]]}).to_string();
        let (_, alone): (u16, Value) = function.ask("POST", "/v1/rerank", &alone);
        assert_eq!(alone["results"][0]["relevance_score"], result["relevance_score"]);
    }
}

/// What can be wrong with a driver and its cards, each said in one line.
#[test]
fn a_driver_or_card_that_will_not_do_is_told_with_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let model = snapshot(dir.path(), "bert-classifier", Precision::Bf16);
    let library = driver::compiled(env!("CARGO_TARGET_TMPDIR"));
    let folder = library.parent().unwrap();
    for (vars, parts) in [
        (
            &[("FAKE_VERSION", "11040")][..],
            &["driver is too old", "for CUDA 11.4", "need one for CUDA 1"][..],
        ),
        (&[("FAKE_INIT", "100")], &["the NVIDIA driver finds no card"]),
        (&[("FAKE_INIT", "34")], &["the toolkit's stub, not a driver"]),
        (&[("FAKE_INIT", "803")], &["the NVIDIA driver does not start: some error (error 803)"]),
        (&[("FAKE_CARDS", "0")], &["the NVIDIA driver finds no card"]),
        (
            &[("FAKE_CARDS", "2"), ("CUDA_VISIBLE_DEVICES", "4,7"), ("DEVICE", "cuda:5")],
            &["no card 5: 2 are visible, counted from 0", "CUDA_VISIBLE_DEVICES=\"4,7\""],
        ),
        (
            &[("FAKE_CAPABILITY", "75")],
            &["Fake 0 of 0 has compute capability 7.5, at least 8.0 is needed"],
        ),
        // Only the chosen card is visible to the driver, as the first.
        (
            &[
                ("FAKE_CAPABILITY", "75"),
                ("FAKE_CARDS", "2"),
                ("CUDA_VISIBLE_DEVICES", "4,7"),
                ("DEVICE", "cuda:1"),
            ],
            &["Fake 0 of 7 has compute capability 7.5"],
        ),
        // There is no such card, whatever kernels the binary has.
        (&[("FAKE_CAPABILITY", "199")], &["build it"]),
    ] {
        let mut command = function(env!("CARGO_BIN_EXE_rerank-gpu"), &model);
        command.env("LD_LIBRARY_PATH", folder).envs(vars.iter().copied());
        let (code, text) = fails(&mut command);
        assert_eq!(code, Some(1), "{vars:?}");
        assert!(text.ends_with("; rerank-cpu-int8 runs without a GPU"), "{text}");
        for part in parts {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
