//! Arguments that mean nothing beside --url, or without it: each is refused by name.

use super::server::{Answer, Server};
use super::support::{command, finish, run};

/// What says where a model is and how it is loaded, with a value.
const OF_A_MODEL: [(&str, &str); 8] = [
    ("--model", "m.snap"),
    ("--num-threads", "1"),
    ("--backend", "engine"),
    ("--verify", "eager"),
    ("--cache-dir", "c"),
    ("--cache-max-bytes", "1"),
    ("--restore-timeout", "1"),
    ("--restore-connections", "1"),
];

#[test]
fn what_is_about_a_model_here_is_refused_beside_a_url() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("docs.json"), r#"{"query": "q", "documents": ["d"]}"#).unwrap();
    let server = Server::start(|_| Answer::new(500, ""));
    let url = server.url();
    let rerank = ["rerank", "--url", &url, "--docs-file", "docs.json"];
    for (flag, value) in OF_A_MODEL {
        let done = run(dir.path(), &[&rerank[..], &[flag, value]].concat());
        let expected = format!("{flag} is about a model that this process loads");
        assert!(done.usage().contains(&expected), "{flag}: {done:?}");
    }
    let done = run(dir.path(), &[&rerank[..], &["--max-length", "9"]].concat());
    assert!(done.usage().contains("start it with MAX_LENGTH"), "{done:?}");
    let embed = ["embed", "--url", &url, "--in", "docs.json", "--out", "o.jsonl"];
    for (flag, value) in
        OF_A_MODEL.into_iter().chain([("--batch-tokens", "9"), ("--dtype", "int8")])
    {
        let done = run(dir.path(), &[&embed[..], &[flag, value]].concat());
        let expected = format!("{flag} is about a model that this process loads");
        assert!(done.usage().contains(&expected), "{flag}: {done:?}");
    }
    for (more, setting) in
        [(&["--max-length", "9"][..], "MAX_LENGTH"), (&["--allow-non-mrl"], "ALLOW_NON_MRL")]
    {
        let done = run(dir.path(), &[&embed[..], more].concat());
        assert!(done.usage().contains(&format!("start it with {setting}")), "{done:?}");
    }
    assert!(server.seen().is_empty(), "nothing was asked");
}

#[test]
fn what_the_environment_says_is_for_other_commands_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("docs.json"), r#"{"query": "q", "documents": ["d"]}"#).unwrap();
    let body = r#"{"score_type": "sigmoid", "results": [{"index": 0, "relevance_score": 0.5}]}"#;
    let server = Server::start(move |_| Answer::new(200, body));
    let url = server.url();
    let mut command = command(dir.path(), &["rerank", "--url", &url, "--docs-file", "docs.json"]);
    for (name, value) in [
        ("MODEL", "m.snap"),
        ("NUM_THREADS", "1"),
        ("BACKEND", "engine"),
        ("VERIFY", "eager"),
        ("CACHE_DIR", "c"),
        ("CACHE_MAX_BYTES", "1"),
        ("RESTORE_TIMEOUT", "1"),
        ("RESTORE_CONNECTIONS", "1"),
    ] {
        command.env(name, value);
    }
    finish(command).text();
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn what_is_about_files_or_a_function_is_refused_without_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("docs.json"), r#"{"query": "q", "documents": ["d"]}"#).unwrap();
    let rerank = ["rerank", "--model", "m.snap", "--docs-file", "docs.json"];
    for more in [
        &["--query-field", "q"][..],
        &["--documents-field", "d"],
        &["--part-tokens", "5"],
        &["--out", "o.jsonl"],
        &["--id-field", "id"],
        &["--skip-bad"],
        &["--shard", "0/2"],
        &["--join"],
        &["--remove-parts"],
        &["--force"],
        &["--api-key", "key"],
    ] {
        let done = run(dir.path(), &[&rerank[..], more].concat());
        let says = if more[0] == "--api-key" { "there is no --url" } else { "there is no --in" };
        assert!(done.usage().contains(says), "{more:?}: {done:?}");
    }
}
