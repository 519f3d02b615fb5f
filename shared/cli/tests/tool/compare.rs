//! `defrost bench throughput` and `bench accuracy` on tiny models.

use std::fs;

use defrost_testing::golden::{checkpoint, repository};

use super::support::run;

#[test]
fn throughput_of_a_model_and_a_peer_in_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let model = checkpoint("bert-classifier");
    let model = model.to_str().unwrap();
    for (precision, out) in [("int8", "int8.snap"), ("f32", "f32.snap")] {
        run(dir.path(), &["pack", model, "--precision", precision, "--out", out]).text();
    }
    let compared =
        ["bench", "throughput", "--model", "int8.snap", "--peer", "f32.snap", "--runs", "2"];
    let shapes = ["--documents", "3", "--lengths", "8,40", "--batch-tokens", "1,64", "--json"];
    let plot = ["--plot", "plot.svg"];
    let rows = run(dir.path(), &[&compared[..], &shapes, &plot].concat()).json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 8, "two models, two lengths, two budgets");
    assert!(rows.iter().all(|row| row["tokens_per_s"].as_f64().unwrap() > 0.0), "{rows:?}");
    assert_eq!(rows[7]["model"], "f32 (engine f32)");
    assert!(
        fs::read_to_string(dir.path().join("plot.svg")).unwrap().contains("int8 (engine int8)")
    );

    fs::write(dir.path().join("ids.json"), "[[2,7,3],[2,8,9,3]]").unwrap();
    let ids = run(dir.path(), &[&compared[..], &["--ids", "ids.json"]].concat()).text();
    assert!(ids.contains("tokens/s") && ids.contains("f32 (engine f32)"), "{ids}");
    fs::write(dir.path().join("ids.json"), "[1]").unwrap();
    let wrong = run(dir.path(), &[&compared[..], &["--ids", "ids.json"]].concat());
    assert!(wrong.failure().contains("expected a list of lists of token ids"), "{wrong:?}");
    let long = run(dir.path(), &[&compared[..], &["--lengths", "100000"]].concat());
    assert!(long.failure().contains("takes at most 512"), "{long:?}");
}

#[test]
fn accuracy_of_a_peer_against_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let model = checkpoint("bert-classifier");
    let model = model.to_str().unwrap();
    for (precision, out) in [("int8", "int8.snap"), ("f32", "f32.snap")] {
        run(dir.path(), &["pack", model, "--precision", precision, "--out", out]).text();
    }
    let beir = repository("data/scifact-mini");
    let compared = ["bench", "accuracy", "--model", "f32.snap", "--peer", "int8.snap", "--beir"];
    let few = [beir.to_str().unwrap(), "--queries", "3", "--candidates", "6"];
    let rows = run(dir.path(), &[&compared[..], &few, &["--json"]].concat()).json();
    assert_eq!(rows[0]["pairs"], 18);
    assert_eq!((rows[0]["largest"].as_f64(), rows[0]["tau"].as_f64()), (Some(0.0), Some(1.0)));
    let largest = rows[1]["largest"].as_f64().unwrap();
    assert!(largest > 0.0 && largest < 0.5, "{rows}");
    let table = run(dir.path(), &[&compared[..], &few].concat()).text();
    assert!(table.contains("nDCG@10") && table.contains("int8 (engine int8)"), "{table}");
}
