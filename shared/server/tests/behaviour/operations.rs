//! Probes, metrics, headers, keys and browsers.

use std::sync::mpsc;

use axum::body::Body;
use axum::http::Request;
use defrost_server::{BootError, router};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::toy::{Answer, Toy, config, get, parse, post, post_request, ready, send, start_with};

#[tokio::test]
async fn probes_while_loading_and_after() {
    let (release, gate) = mpsc::channel::<()>();
    let app = start_with(&[], move || {
        let _ = gate.recv();
        Ok(Toy::new())
    });
    let router = router(app.clone());
    for path in ["/health", "/ready", "/ping", "/v1/models", "/info"] {
        let answer = get(&router, path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.header("retry-after"), "1", "{path}");
        assert!(answer.json()["detail"].is_string(), "{path}");
    }
    assert_eq!(get(&router, "/health").await.json()["status"], "loading");
    for path in ["/", "/live", "/version", "/metrics"] {
        assert_eq!(get(&router, path).await.status, 200, "{path}");
    }
    release.send(()).expect("the loader waits");
    app.booted().await;
    for path in ["/", "/health", "/ready", "/ping", "/v1/models", "/models", "/info", "/live"] {
        assert_eq!(get(&router, path).await.status, 200, "{path}");
    }
    let health = get(&router, "/health").await.json();
    for key in [
        "status",
        "model_loaded",
        "model_status",
        "model_name",
        "device",
        "version",
        "embedding_dim",
        "dimensions",
        "memory_usage_mb",
        "uptime_seconds",
        "timestamp",
        "unix",
    ] {
        assert!(!health[key].is_null(), "{key}");
    }
    assert_eq!((&health["status"], &health["model_loaded"]), (&json!("ok"), &json!(true)));
    assert!(health["boot"]["phases"]["exec"].is_f64());
    assert!(health["boot"]["first_score_seconds"].is_null());
    post(&router, "/rerank", &json!({"query": "a", "documents": ["a"]})).await;
    let health = get(&router, "/health").await.json();
    assert!(health["boot"]["first_score_seconds"].is_f64());
    assert!(health["boot"]["phases"]["first_score"].is_f64());
}

#[tokio::test]
async fn a_failed_boot_is_told_without_its_reason() {
    let app = start_with(&[], || Err(BootError::new("/secret/snapshot is broken")));
    assert_eq!(app.failed().await, "/secret/snapshot is broken");
    let router = router(app);
    for answer in [
        get(&router, "/health").await,
        get(&router, "/info").await,
        post(&router, "/rerank", &json!({"query": "a", "documents": ["a"]})).await,
    ] {
        assert_eq!(answer.status, 503);
        assert!(!answer.text.contains("secret"), "{}", answer.text);
    }
}

#[tokio::test]
async fn slow_boot_warms_up_first() {
    let router = ready(&[("FAST_BOOT", "false")]).await;
    let health = get(&router, "/health").await.json();
    assert!(health["boot"]["phases"]["warmup"].is_f64());
    assert!(health["boot"]["phases"]["first_score"].is_null(), "a warm-up is no answer");
    let broken = || Ok(Toy::with_hook(|| Err(defrost_tasks::Error::Cancelled)));
    let app = start_with(&[("FAST_BOOT", "false")], broken);
    assert!(app.failed().await.starts_with("the warm-up (FAST_BOOT=false) failed"));
}

#[tokio::test]
async fn service_info() {
    let router = ready(&[]).await;
    let root = get(&router, "/").await.json();
    for key in ["service", "model", "version", "backend", "endpoints"] {
        assert!(!root[key].is_null(), "{key}");
    }
    assert_eq!(get(&router, "/version").await.json(), json!({"version": "1.2.3"}));
    let models = get(&router, "/v1/models").await.json();
    assert_eq!(models["object"], "list");
    assert_eq!(models["data"][0]["id"], "toy/words");
    assert_eq!(models["default_model"], "toy/words");
    let info = get(&router, "/info").await.json();
    assert_eq!((&info["model_dtype"], &info["kernel"]), (&json!("int8"), &json!("portable")));
}

#[tokio::test]
async fn metrics_count() {
    let router = ready(&[]).await;
    post(&router, "/v1/rerank", &json!({"query": "a", "documents": ["a", "a b c d e f g h i"]}))
        .await;
    get(&router, "/nowhere/1").await;
    get(&router, "/nowhere/2").await;
    let answer = get(&router, "/metrics").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    for line in [
        r#"defrost_requests_total{route="/v1/rerank",code="200"} 1"#,
        r#"defrost_requests_total{route="unmatched",code="404"} 2"#,
        r#"defrost_tokens_total{model="toy/words",kind="prompt"} 10"#,
        r#"defrost_truncated_total{model="toy/words"} 1"#,
        r#"defrost_batch_items_sum{model="toy/words"} 2.0"#,
        r#"defrost_batch_tokens_sum{model="toy/words"} 10.0"#,
        r#"defrost_queue_duration_seconds_count{model="toy/words"} 1"#,
        r#"defrost_inference_duration_seconds_count{model="toy/words"} 1"#,
        r#"defrost_request_duration_seconds_count{route="/v1/rerank"} 1"#,
        "defrost_queue_depth 0",
        "defrost_inflight 1",
        "defrost_ready 1",
        r#"defrost_build_info{function="toy",version="1.2.3",backend="none"} 1"#,
        "defrost_model_info{model=\"toy/words\"",
        r#"defrost_boot_phase_seconds{phase="exec"}"#,
        r#"defrost_boot_phase_seconds{phase="first_score"}"#,
        "defrost_cold_start_seconds ",
        "defrost_model_load_seconds ",
        "# EOF",
    ] {
        assert!(
            answer.text.lines().any(|found| found.starts_with(line)),
            "{line} in\n{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn headers_of_every_answer() {
    let router = ready(&[]).await;
    let mut request =
        post_request("/v1/rerank", json!({"query": "a", "documents": ["a"]}).to_string());
    request.headers_mut().insert("x-request-id", "abc-7".parse().expect("a value"));
    let first = send(&router, request).await;
    assert_eq!(first.header("x-request-id"), "abc-7");
    assert_eq!(first.json()["id"], "rerank-abc-7");
    assert!(first.header("x-process-time").parse::<f64>().is_ok());
    let timing = first.header("server-timing");
    for part in ["queue;dur=", "inference;dur=", "boot_exec;dur=", "boot_first_score;dur="] {
        assert!(timing.contains(part), "{part} in {timing}");
    }
    let second = post(&router, "/v1/rerank", &json!({"query": "a", "documents": ["a"]})).await;
    assert!(!second.header("server-timing").contains("boot_"), "boot is told once");
    assert_eq!(second.header("x-request-id").len(), 32);
    assert_eq!(get(&router, "/nowhere").await.header("x-request-id").len(), 32);
}

async fn with_header(router: &axum::Router, name: &str, value: &str) -> Answer {
    let mut request =
        post_request("/v1/rerank", json!({"query": "a", "documents": ["a"]}).to_string());
    let name: axum::http::HeaderName = name.parse().expect("a name");
    request.headers_mut().insert(name, value.parse().expect("a value"));
    send(router, request).await
}

#[tokio::test]
async fn keys() {
    let router = ready(&[("API_KEYS", "k1, k2")]).await;
    for (name, value) in
        [("authorization", "Bearer k1"), ("authorization", "k2"), ("x-api-key", "k1")]
    {
        assert_eq!(with_header(&router, name, value).await.status, 200, "{name}: {value}");
    }
    for (name, value) in
        [("authorization", "Bearer k"), ("authorization", ""), ("x-api-key", "k1k")]
    {
        let answer = with_header(&router, name, value).await;
        assert_eq!(answer.status, 401, "{name}: {value}");
        assert_eq!(answer.json()["error"]["type"], "authentication_error");
    }
    for path in ["/health", "/ready", "/live", "/ping", "/metrics"] {
        assert_eq!(get(&router, path).await.status, 200, "{path}");
    }
    assert_eq!(get(&router, "/v1/models").await.status, 401);
    let open = ready(&[]).await;
    assert_eq!(
        with_header(&open, "authorization", "").await.status,
        200,
        "Dify sends an empty header"
    );
    assert_eq!(with_header(&open, "authorization", "Bearer any").await.status, 200);
}

async fn preflight(vars: &[(&str, &str)], origin: &str) -> Answer {
    let request = Request::options("/v1/rerank")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type");
    send(&ready(vars).await, request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn browsers() {
    let any = preflight(&[("API_KEYS", "k")], "https://a.example").await;
    assert_eq!((any.status.as_u16(), any.header("access-control-allow-origin")), (200, "*"));
    let listed = [("CORS_ORIGINS", "https://a.example,https://b.example")];
    let allowed = preflight(&listed, "https://b.example").await;
    assert_eq!(allowed.header("access-control-allow-origin"), "https://b.example");
    assert_eq!(
        preflight(&listed, "https://c.example").await.header("access-control-allow-origin"),
        ""
    );
    // By the Fetch standard `*` does not stand for authorization, and for nothing at all in
    // requests with credentials.
    let headers = any.header("access-control-allow-headers").to_ascii_lowercase();
    let headers: Vec<&str> = headers.split(',').map(str::trim).collect();
    for name in [
        "authorization",
        "api-key",
        "x-api-key",
        "content-type",
        "x-request-id",
        "x-request-timeout",
        "x-envoy-expected-rq-timeout-ms",
        "*",
    ] {
        assert!(headers.contains(&name), "{name} in {headers:?}");
    }
    let none = preflight(&[("CORS_ORIGINS", "none")], "https://a.example").await;
    assert_eq!(none.header("access-control-allow-origin"), "");
    let root: Value = get(&ready(&[]).await, "/").await.json();
    assert_eq!(root["status"], "ok");
}

/// D19: what every Prometheus client library tells of its process, under the usual names. A request
/// is not over while its client takes the answer.
#[tokio::test]
async fn a_request_is_at_hand_until_its_answer_is_taken_or_left() {
    let router = ready(&[]).await;
    let at_hand = async || {
        let text = get(&router, "/metrics").await.text;
        let line = text.lines().find_map(|line| line.strip_prefix("defrost_inflight "));
        line.expect("a gauge").parse::<usize>().expect("a number") - 1
    };
    let body = json!({"query": "a", "documents": ["a"]}).to_string();
    let ask = async || {
        let request = post_request("/v1/rerank", body.clone());
        router.clone().oneshot(request).await.expect("an answer")
    };
    let (taken, left) = (ask().await, ask().await);
    assert!(taken.headers().contains_key("x-request-id"));
    assert_eq!(at_hand().await, 2);
    taken.into_body().collect().await.expect("the whole answer");
    assert_eq!(at_hand().await, 1);
    drop(left);
    assert_eq!(at_hand().await, 0);
}

#[tokio::test]
async fn metrics_come_in_the_older_format_for_who_takes_no_other() {
    let router = ready(&[]).await;
    let body = json!({"query": "a", "documents": ["a"]});
    assert_eq!(post(&router, "/v1/rerank", &body).await.status, 200);
    let accepting = async |accept: &str| {
        let request = Request::get("/metrics").header("accept", accept);
        send(&router, request.body(Body::empty()).expect("a request")).await
    };
    // What Prometheus 3 sends, and what older ones and curl do.
    let both =
        "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (accept, kind) in [
        (both, "application/openmetrics-text"),
        ("*/*", "application/openmetrics-text"),
        ("text/plain;version=0.0.4;q=1,*/*;q=0.1", "text/plain; version=0.0.4"),
    ] {
        let answer = accepting(accept).await;
        assert!(answer.header("content-type").starts_with(kind), "{accept}");
    }
    let open = accepting("*/*").await.text;
    let plain = accepting("text/plain").await.text;
    assert!(open.contains("# TYPE defrost_requests counter") && open.ends_with("# EOF\n"));
    assert!(
        plain.contains("# TYPE defrost_requests_total counter\ndefrost_requests_total{"),
        "{plain}"
    );
    assert!(plain.contains("# HELP defrost_requests_total ") && !plain.contains("# EOF"));
    assert!(!plain.contains("# UNIT"));
    // Every sample belongs to the declaration before it.
    let mut declared = "";
    for line in plain.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ") {
            declared = name.split(' ').next().expect("a name");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().expect("a name");
            let rest = name.strip_prefix(declared);
            assert!(
                rest.is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest)),
                "{line} after {declared}"
            );
        }
    }
}

#[tokio::test]
async fn metrics_of_the_process() {
    let router = ready(&[]).await;
    let text = get(&router, "/metrics").await.text;
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        let value =
            line.and_then(|line| line.split(' ').nth(1)).and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("{name} in\n{text}"))
    };
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
    assert!(
        value("process_open_fds") >= 3.0 && value("process_open_fds") < value("process_max_fds")
    );
    assert!(value("process_threads") >= 2.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later");
    let age = now.as_secs_f64() - value("process_start_time_seconds");
    assert!((-1.0..3600.0).contains(&age), "started {age} s ago");
    assert!(!text.contains("defrost_process"), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1);
    for kind in ["# TYPE process_cpu_seconds counter", "# TYPE process_open_fds gauge"] {
        assert!(text.contains(kind), "{kind} in\n{text}");
    }
}

/// Nothing is told that the page does not explain, and the page explains nothing that is not there.
#[tokio::test]
async fn every_metric_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let page = std::fs::read_to_string(path).expect("the page");
    // Those of generation are another test's.
    let page = page.split("Functions that chat").next().unwrap_or_default();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut documented: Vec<(&str, &str)> = rows
        .flat_map(|row| {
            let mut cells = row.split('|').map(str::trim).skip(1);
            let (names, kind) =
                (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
            names.split(", ").map(move |name| (name.trim_matches('`'), kind))
        })
        .collect();
    let router = ready(&[]).await;
    // Without one, there is nothing to tell of requests.
    post(&router, "/v1/rerank", &json!({"query": "a", "documents": ["a"]})).await;
    post(&router, "/v1/rerank", &json!({"query": "a", "documents": []})).await;
    let text = get(&router, "/metrics").await.text;
    let mut found: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    documented.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, documented);
}

/// D19: fast requests are told apart, models too, and what came from the kept answers is counted.
#[tokio::test]
async fn metrics_tell_models_and_kept_answers_apart() {
    let router = ready(&[("ENABLE_CACHE", "true")]).await;
    let body = json!({"query": "a", "documents": ["a"]});
    for _ in 0..3 {
        assert_eq!(post(&router, "/v1/rerank", &body).await.status, 200);
    }
    let text = get(&router, "/metrics").await.text;
    for line in [
        "defrost_cache_hits_total 2",
        "defrost_cache_misses_total 1",
        r#"defrost_inference_duration_seconds_count{model="toy/words"} 1"#,
        r#"defrost_inference_duration_seconds_bucket{le="0.00005",model="toy/words"}"#,
        r#"defrost_request_duration_seconds_bucket{le="0.00005",route="/v1/rerank"}"#,
        r#"defrost_queue_duration_seconds_bucket{le="52.4288",model="toy/words"} 1"#,
        r#"defrost_tokens_total{model="toy/words",kind="prompt"}"#,
        r#"defrost_batch_items_sum{model="toy/words"} 1.0"#,
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line} in\n{text}");
    }
}

/// D5: JSON for clients that ask for it.
#[tokio::test]
async fn metrics_are_json_on_request() {
    let router = ready(&[]).await;
    post(&router, "/v1/rerank", &json!({"query": "a", "documents": ["a"]})).await;
    let json = get(&router, "/metrics?format=json").await.json();
    let requests = &json["defrost_requests_total"][0];
    assert_eq!(requests["labels"], json!({"route": "/v1/rerank", "code": "200"}));
    assert_eq!(requests["value"], 1.0);
    let asked = Request::get("/metrics").header("accept", "application/json");
    let answer = send(&router, asked.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let usual = get(&router, "/metrics").await;
    assert!(usual.header("content-type").starts_with("application/openmetrics-text"));
}

/// C23, N16: equal questions get the answer that was given, others do not.
#[tokio::test]
async fn answers_are_kept_on_request() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache_dir = dir.path().display().to_string();
    let vars = [
        ("ENABLE_CACHE", "true"),
        ("CACHE_PERSIST_TO_DISK", "true"),
        ("CACHE_DIR", cache_dir.as_str()),
    ];
    let router = ready(&vars).await;
    let body = json!({"query": "a", "documents": ["a b c d e f g h i", "b"]});
    let first = post(&router, "/v1/rerank", &body).await;
    assert_eq!((first.status.as_u16(), first.header("x-cache")), (200, "miss"));
    let again = post(&router, "/v1/rerank", &body).await;
    assert_eq!((again.status.as_u16(), again.header("x-cache")), (200, "hit"));
    assert_eq!(again.text, first.text);
    assert_eq!(again.header("x-truncated-documents"), "1");
    assert_eq!(again.header("content-type"), "application/json");
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    assert_eq!(post(&router, "/rerank", &body).await.header("x-cache"), "miss", "another path");
    let other = json!({"query": "a", "documents": ["a b c d e f g h i", "c"]});
    assert_eq!(post(&router, "/v1/rerank", &other).await.header("x-cache"), "miss");
    let bad = json!({"query": "a"});
    for _ in 0..2 {
        let refused = post(&router, "/v1/rerank", &bad).await;
        assert_eq!((refused.status.as_u16(), refused.header("x-cache")), (400, ""));
    }
    let metrics = get(&router, "/metrics").await.text;
    let count = r#"defrost_inference_duration_seconds_count{model="toy/words"} 3"#;
    assert!(metrics.contains(count), "{metrics}");
    // Written in the background; a later process finds it.
    let responses = dir.path().join("responses");
    while std::fs::read_dir(&responses).map_or(0, |files| {
        files
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|end| end == "answer"))
            .count()
    }) < 3
    {
        tokio::task::yield_now().await;
    }
    let later = ready(&vars).await;
    let found = post(&later, "/v1/rerank", &body).await;
    assert_eq!((found.header("x-cache"), &found.text), ("hit", &first.text));
    // Under other settings it would be another answer.
    let raw = ready(&[&vars[..], &[("NORMALIZATION", "raw")]].concat()).await;
    assert_eq!(post(&raw, "/v1/rerank", &body).await.header("x-cache"), "miss");
    let elsewhere = ready(&[&vars[..], &[("PORT", "9"), ("LOG_LEVEL", "warn")]].concat()).await;
    assert_eq!(post(&elsewhere, "/v1/rerank", &body).await.header("x-cache"), "hit");
    let off = ready(&[]).await;
    assert_eq!(post(&off, "/v1/rerank", &body).await.header("x-cache"), "");
}

/// N15: a client that says how long it waits gets an answer in that time, and its work is dropped.
#[tokio::test(start_paused = true)]
async fn deadlines_are_kept() {
    let app = start_with(&[("REQUEST_TIMEOUT", "60")], || {
        // The model never comes; the paused clock goes on when everything waits.
        loop {
            std::thread::park();
        }
    });
    let router = router(app);
    let ask = |header: Option<(&str, &str)>| {
        let mut request = post_request("/v1/rerank", r#"{"query": "a", "documents": ["a"]}"#);
        if let Some((name, value)) = header {
            let name: axum::http::HeaderName = name.parse().expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        request
    };
    for (header, seconds) in [
        (Some(("x-request-timeout", "1.5")), "1.5"),
        (Some(("x-envoy-expected-rq-timeout-ms", "250")), "0.25"),
        (Some(("x-request-timeout", "600")), "60"),
        (None, "60"),
    ] {
        let answer = send(&router, ask(header)).await;
        assert_eq!(answer.status, 504);
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "deadline_exceeded");
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| text.contains(&format!("within {seconds} s")))
        );
    }
    let bad = send(&router, ask(Some(("x-request-timeout", "soon")))).await;
    assert_eq!(
        (bad.status.as_u16(), &bad.json()["error"]["param"]),
        (400, &json!("x-request-timeout"))
    );
}

#[test]
fn keys_come_from_a_file_too() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "from-file\n\n other \n").expect("written");
    let path = file.path().display().to_string();
    let keys = config(&[("API_KEYS", "one"), ("API_KEYS_FILE", &path)]).api_keys;
    assert_eq!(keys, ["one", "from-file", "other"]);
    std::fs::write(file.path(), "\n").expect("written");
    let refused = parse(&[], &[("MODEL", "toy"), ("API_KEYS_FILE", &path)]);
    assert!(refused.is_err_and(|error| error.to_string().contains("holds no key")));
}
