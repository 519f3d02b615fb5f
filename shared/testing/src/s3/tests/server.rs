//! Counting, marks, shaping, files and the end of a server.

use std::sync::mpsc;
use std::time::Duration;

use super::*;

#[test]
fn what_is_counted() {
    let (server, _) = with_object();
    let mut client = Client::new(&server);
    client.get("/b/k", &["Range: bytes=0-9"]);
    client.get("/b/k", &["Range: bytes=990-1005"]);
    client.get("/b/none", &[]);
    client.request("PUT", "/b/new", &[], b"abc");
    Client::new(&server).get("/b/new", &[]);
    let stats = server.stats();
    assert_eq!((stats.requests, stats.gets, stats.connections), (5, 4, 2));
    assert_eq!((stats.body_bytes_sent, stats.body_bytes_received), (23, 3));
    assert_eq!(stats.peak_concurrent_gets, 1);
    assert_eq!(stats.ranges["b/k"], [0..10, 990..1000]);
    assert_eq!(stats.ranges["b/new"].first(), Some(&(0..3)));

    let json: serde_json::Value = serde_json::from_slice(&client.get("/_stats", &[]).body).unwrap();
    assert_eq!(json["body_bytes_sent"], 23);
    assert_eq!(json["ranges"]["b/k"][1]["start"], 990);
    assert_eq!(client.request("POST", "/_reset", &[], b"").status, 204);
    assert_eq!(server.stats(), super::super::Stats::default());
}

#[test]
fn concurrent_gets_are_seen() {
    let (server, _) = with_object();
    server.add_rule(always(Fault::StallAfter(1)));
    let (sent, marked) = mpsc::channel();
    server.at_body_bytes(3, move || sent.send(()).unwrap());
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = Client::new(&server);
            client.send("GET", "/b/k", &[], b"");
            client
        })
        .collect();
    marked.recv().unwrap();
    assert_eq!(server.stats().peak_concurrent_gets, 3);
    drop(clients);
}

#[test]
fn a_mark_is_met_at_its_byte() {
    let (server, bytes) = with_object();
    let (marked, at_mark) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    server.at_body_bytes(150, move || {
        marked.send(()).unwrap();
        wait.recv().unwrap();
    });
    let mut client = Client::new(&server);
    assert_eq!(client.get("/b/k", &["Range: bytes=0-99"]).body, bytes[..100]);
    client.send("GET", "/b/k", &["Range: bytes=100-199"], b"");
    at_mark.recv().unwrap();
    assert_eq!(server.stats().body_bytes_sent, 150);
    client.receive_until(&bytes[100..150]);
    client.stream.get_ref().set_nonblocking(true).unwrap();
    let err = client.stream.read(&mut [0]).unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::WouldBlock);
    client.stream.get_ref().set_nonblocking(false).unwrap();
    go_on.send(()).unwrap();
    let mut rest = vec![0; 50];
    client.stream.read_exact(&mut rest).unwrap();
    assert_eq!(rest, bytes[150..200]);
}

#[test]
fn a_mark_may_drop_the_server() {
    let (server, bytes) = with_object();
    let address = server.address();
    let server = std::sync::Arc::new(std::sync::Mutex::new(Some(server)));
    let held = std::sync::Arc::clone(&server);
    let drop_it = move || drop(held.lock().unwrap().take());
    server.lock().unwrap().as_ref().unwrap().at_body_bytes(10, drop_it);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /b/k HTTP/1.1\r\n\r\n").unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert!(received.ends_with(&bytes[..10]));
}

#[test]
fn a_shaped_server_sends_the_same_bytes() {
    let options = Options {
        rate_bytes_per_s: Some(100 << 20),
        connection_rate_bytes_per_s: Some(100 << 20),
        burst_bytes: 1 << 10,
        drip_bytes: 100,
        ..Options::default()
    };
    let server = S3Server::start(options).unwrap();
    server.put("b", "k", pattern(12_345));
    assert_eq!(Client::new(&server).get("/b/k", &[]).body, pattern(12_345));
}

#[test]
fn a_server_that_ends_does_not_wait_for_its_simulated_network() {
    let hours = Duration::from_hours(10);
    let slow = Options { rate_bytes_per_s: Some(1), drip_bytes: 1, ..Options::default() };
    let late = Options { first_byte_delay: hours, ..Options::default() };
    for options in [slow, late] {
        let server = S3Server::start(options).unwrap();
        server.put("b", "k", pattern(36_000));
        let mut client = Client::new(&server);
        client.send("GET", "/b/k", &[], b"");
        let mut idle = Client::new(&server);
        drop(server);
        idle.wait_for_end();
    }
}

#[test]
fn large_bodies_arrive_whole_on_every_connection() {
    let server = start();
    let bytes = pattern(5 << 20);
    server.put("b", "k", bytes.clone());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::new(&server);
                for _ in 0..2 {
                    assert!(client.get("/b/k", &[]).body == bytes);
                }
            });
        }
    });
    assert_eq!(server.stats().body_bytes_sent, 40 << 20);
}

#[test]
fn http_1_0_and_close() {
    let (server, _) = with_object();
    let mut client = Client::new(&server);
    assert_eq!(client.get("/b/k", &["Connection: close"]).header("connection"), Some("close"));
    assert!(client.at_end());
}

#[test]
fn files_below_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("b/deep/er")).unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    std::fs::write(dir.path().join("no-bucket"), "x").unwrap();
    std::fs::write(dir.path().join("b/top"), "top").unwrap();
    std::fs::write(dir.path().join("b/nothing"), "").unwrap();
    std::fs::write(dir.path().join("b/deep/er/key"), pattern(10_000)).unwrap();
    let server = start();
    server.serve_dir(dir.path()).unwrap();
    let mut client = Client::new(&server);
    assert_eq!(server.keys("b"), ["deep/er/key", "nothing", "top"]);
    assert_eq!(client.get("/b/deep/er/key", &[]).body, pattern(10_000));
    assert_eq!(client.request("HEAD", "/empty", &[], b"").status, 200);
    assert_eq!(client.get("/b/nothing", &[]).status, 200);
    assert!(server.serve_dir(&dir.path().join("none")).is_err());
}
