//! health and rerank over HTTPS, with a key; what stands in for the function has a certificate of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use super::server::{Answer, Server};
use super::support::{Done, command, finish};

const KEY: &str = "sk-very-secret";

/// What listens, the head of every request, and its certificate as a file of authorities.
struct Https {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    authority: String,
}

impl Https {
    fn start() -> Self {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key.into())
            .unwrap();
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(connection, socket));
                let mut head = String::new();
                while stream.read_line(&mut head).is_ok_and(|read| read > 2) {}
                if head.is_empty() {
                    continue;
                }
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                });
                let mut body = vec![0; length.unwrap_or(0)];
                stream.read_exact(&mut body).unwrap();
                let body = if head.starts_with("POST") {
                    let result = json!({"index": 0, "relevance_score": 0.5});
                    json!({"score_type": "sigmoid", "results": [result]}).to_string()
                } else {
                    json!({"status": "ok", "model_name": "tiny/model"}).to_string()
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                );
                seen.lock().unwrap().push(head);
                let stream = stream.get_mut();
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        Self { port, heads, authority: pem(pair.cert.der()) }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut self.heads.lock().unwrap())
    }
}

/// As files of authorities hold it.
fn pem(certificate: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Runs the tool with these authorities to trust, and this key in the environment.
fn run(dir: &Path, args: &[&str], trust: Option<&str>, key: Option<&str>) -> Done {
    let mut command = command(dir, args);
    if let Some(authority) = trust {
        fs::write(dir.join("authorities.pem"), authority).unwrap();
        command.env("SSL_CERT_FILE", dir.join("authorities.pem"));
    }
    if let Some(key) = key {
        command.env("DEFROST_API_KEY", key);
    }
    finish(command)
}

fn authorization(head: &str) -> Option<&str> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then_some(value)
    })
}

#[test]
fn a_function_behind_https_is_asked_with_a_key() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("docs.json"), r#"["one"]"#).unwrap();
    let server = Https::start();
    let trust = Some(server.authority.as_str());
    let health = ["health", "--url", &server.url()];
    assert!(run(dir.path(), &health, trust, None).text().starts_with("ok (200)  tiny/model"));
    let [head] = &server.heads()[..] else { panic!() };
    assert!(head.starts_with("GET /health HTTP/1.1\r\n"), "{head}");
    assert_eq!(authorization(head), None);

    run(dir.path(), &health, trust, Some(KEY)).text();
    let heads = server.heads();
    assert_eq!(authorization(&heads[0]), Some(&*format!("Bearer {KEY}")));

    // Behind a path, as gateways have it; what is said goes before what the environment says.
    let url = format!("{}/stage/", server.url());
    let rerank = ["rerank", "--url", &url, "--query", "q", "--docs-file", "docs.json"];
    run(dir.path(), &[&rerank[..], &["--api-key", "other"]].concat(), trust, Some(KEY)).text();
    let heads = server.heads();
    assert!(heads[0].starts_with("POST /stage/v1/rerank HTTP/1.1\r\n"), "{heads:?}");
    assert_eq!(authorization(&heads[0]), Some("Bearer other"));
}

#[test]
fn a_certificate_that_is_not_trusted_is_told_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let server = Https::start();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = pem(other.cert.der());
    let health = ["health", "--url", &server.url()];
    let done = run(dir.path(), &health, Some(&other), Some(KEY));
    let line = done.failure();
    assert!(line.contains("certificate") && line.contains("SSL_CERT_FILE"), "{line}");
    assert!(server.heads().is_empty(), "nothing was sent");
    // For another name than it was made for.
    let url = format!("https://127.0.0.1:{}", server.port);
    let done = run(dir.path(), &["health", "--url", &url], Some(&server.authority), Some(KEY));
    assert!(done.failure().contains("certificate"), "{done:?}");
}

#[test]
fn a_key_is_in_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let refusing = Server::start(|request| match request.path.as_str() {
        "/moved/health" => {
            let mut answer = Answer::new(307, "");
            answer.headers.push(("location", "https://elsewhere/health".to_owned()));
            answer
        }
        _ => Answer::new(401, r#"{"message": "no key"}"#),
    });
    let (url, moved) = (refusing.url(), format!("{}/moved", refusing.url()));
    let in_address = format!("http://user:{KEY}@localhost:1");
    let in_query = format!("http://localhost:1?key={KEY}");
    let broken = format!("{KEY}\nx");
    for (url, key, says) in [
        (url.as_str(), Some(KEY), "the key was not taken"),
        (&url, None, "--api-key or DEFROST_API_KEY"),
        (&moved, Some(KEY), "it is at https://elsewhere/health"),
        ("http://127.0.0.1:1", Some(KEY), "no answer from"),
        (&in_address, None, "--url holds a user or a key"),
        (&in_query, None, "--url holds more than an address"),
        (&url, Some(&broken), "has characters that no header can hold"),
    ] {
        let done = run(dir.path(), &["health", "--url", url], None, key);
        assert!(done.failure().contains(says), "{done:?}");
        assert!(!done.err.contains(KEY), "{done:?}");
    }
    let help = run(dir.path(), &["health", "--help"], None, Some(KEY)).text();
    assert!(help.contains("DEFROST_API_KEY") && !help.contains(KEY), "{help}");
    // A redirection is not followed, and no other server gets the key.
    assert_eq!(refusing.seen().len(), 3);
}
