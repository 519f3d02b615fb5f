//! Each fault, as a client sees it.

use super::*;

/// GETs bytes 100 to 199 of `/b/k`.
fn range(client: &mut Client) -> Reply {
    client.get("/b/k", &["Range: bytes=100-199"])
}

#[test]
fn errors_in_place_of_an_answer() {
    for (fault, status, code) in [
        (Fault::Status(500), 500, "InternalError"),
        (Fault::Status(503), 503, "ServiceUnavailable"),
        (Fault::Status(429), 429, "TooManyRequests"),
        (Fault::SlowDown, 503, "SlowDown"),
        (Fault::Denied, 403, "AccessDenied"),
        (Fault::Missing, 404, "NoSuchKey"),
    ] {
        let (server, bytes) = with_object();
        let rule = server.add_rule(always(fault));
        let mut client = Client::new(&server);
        assert_eq!(range(&mut client).code(status), code);
        assert_eq!(client.request("PUT", "/b/new", &[], b"x").code(status), code);
        assert_eq!(server.keys("b"), ["k"], "the operation was not done");
        assert_eq!(server.fired(rule), 2);
        let stats = server.stats();
        assert_eq!(stats.body_bytes_sent, 0);
        assert_eq!(stats.throttled, if status == 503 { 2 } else { 0 });
        server.clear_rules();
        assert_eq!(range(&mut client).body, bytes[100..200]);
    }
}

#[test]
fn redirect_to_the_same_place() {
    let (server, _) = with_object();
    server.add_rule(always(Fault::Redirect307));
    let mut client = Client::new(&server);
    let reply = range(&mut client);
    assert_eq!((reply.status, reply.header("location")), (307, Some("http://localhost/b/k")));
}

#[test]
fn stalls_last_until_the_client_or_the_server_ends() {
    for (fault, sent) in [(Fault::Stall, 0), (Fault::StallAfter(30), 30)] {
        let (server, bytes) = with_object();
        server.add_rule(always(fault));
        let mut gives_up = Client::new(&server);
        gives_up.send("GET", "/b/k", &[], b"");
        drop(gives_up);
        let mut waits = Client::new(&server);
        waits.send("GET", "/b/k", &[], b"");
        waits.receive_until(&bytes[..sent]);
        drop(server);
        waits.wait_for_end();
    }
}

#[test]
fn connections_that_end_early() {
    let (server, bytes) = with_object();
    for (fault, end) in [(Fault::ShortBody(30), End::Closed), (Fault::Reset(30), End::Reset)] {
        server.clear_rules();
        server.reset_stats();
        server.add_rule(always(fault));
        let reply = range(&mut Client::new(&server));
        assert_eq!((reply.status, reply.header("content-length")), (206, Some("100")));
        assert_eq!((&reply.body[..], reply.end), (&bytes[100..130], end));
        assert_eq!(server.stats().body_bytes_sent, 30);
    }
    server.clear_rules();
    server.add_rule(always(Fault::ShortBody(0)));
    assert_eq!(range(&mut Client::new(&server)).end, End::Closed);

    server.clear_rules();
    server.add_rule(always(Fault::Hangup));
    let mut client = Client::new(&server);
    client.send("PUT", "/b/new", &[], b"done all the same");
    assert!(client.receive(false).is_none());
    assert_eq!(server.get("b", "new").unwrap(), "done all the same");

    server.clear_rules();
    server.add_rule(always(Fault::Garbage));
    let mut client = Client::new(&server);
    client.send("GET", "/b/k", &[], b"");
    let mut received = Vec::new();
    client.stream.read_to_end(&mut received).unwrap();
    assert!(!received.starts_with(b"HTTP") && !received.is_empty());
}

#[test]
fn bodies_and_headers_that_do_not_fit() {
    let (server, bytes) = with_object();
    let right = Some("bytes 100-199/1000");
    let mut flipped = bytes[100..200].to_vec();
    flipped[50] ^= 1;
    for (fault, status, body, content_range) in [
        (Fault::ShortLength(1), 206, &bytes[100..199], right),
        (Fault::ShortLength(1000), 206, &[], right),
        (Fault::Whole200, 200, &bytes[..], None),
        (Fault::WrongRange, 206, &bytes[..100], Some("bytes 0-99/1000")),
        (Fault::WrongContentRangeHeader, 206, &bytes[100..200], Some("bytes 101-200/1001")),
        (Fault::NoContentRange, 206, &bytes[100..200], None),
        (Fault::FlipBit { at: 150 }, 206, &flipped, right),
    ] {
        server.clear_rules();
        server.reset_stats();
        let rule = server.add_rule(always(fault));
        let mut client = Client::new(&server);
        let reply = range(&mut client);
        assert_eq!((reply.status, &reply.body[..]), (status, body), "{fault:?}");
        assert_eq!(reply.header("content-range"), content_range, "{fault:?}");
        assert_eq!(reply.end, End::Whole, "{fault:?}");
        assert_eq!(reply.header("etag"), server.etag("b", "k").as_deref(), "{fault:?}");
        assert_eq!(server.stats().body_bytes_sent, body.len() as u64, "{fault:?}");
        assert_eq!(server.fired(rule), 1, "{fault:?}");
        assert_eq!(client.get("/b/none", &[]).status, 404);
        assert_eq!(server.fired(rule), 1, "nothing to do it to: {fault:?}");
    }
}

#[test]
fn wrong_ranges_are_other_ranges_of_the_same_length() {
    let (server, bytes) = with_object();
    let rule = server.add_rule(always(Fault::WrongRange));
    let mut client = Client::new(&server);
    for (asked, sent) in [
        ("0-99", Some(100..200)),
        ("900-999", Some(800..900)),
        ("0-599", Some(400..1000)),
        ("400-999", Some(0..600)),
        ("1-999", Some(0..999)),
        ("0-998", Some(1..1000)),
        ("0-999", None),
    ] {
        let reply = client.get("/b/k", &[&format!("Range: bytes={asked}")]);
        let expected = sent.clone().unwrap_or(0..1000);
        assert_eq!(reply.body, bytes[expected.clone()], "{asked}");
        let header = format!("bytes {}-{}/1000", expected.start, expected.end - 1);
        assert_eq!(reply.header("content-range"), Some(header.as_str()));
    }
    assert_eq!(server.fired(rule), 6);
}

#[test]
fn a_bit_that_was_not_asked_for_is_not_flipped() {
    let (server, bytes) = with_object();
    let rule = server.add_rule(always(Fault::FlipBit { at: 200 }));
    let mut client = Client::new(&server);
    assert_eq!(range(&mut client).body, bytes[100..200]);
    assert_eq!(server.fired(rule), 0);
    for at in [0, 999] {
        server.clear_rules();
        server.add_rule(always(Fault::FlipBit { at }));
        let mut expected = bytes.clone();
        expected[usize::try_from(at).unwrap()] ^= 1;
        assert_eq!(client.get("/b/k", &[]).body, expected);
    }
}

#[test]
fn new_versions() {
    for (fault, second) in [(Fault::NewVersion, 412), (Fault::SilentNewVersion, 206)] {
        let (server, bytes) = with_object();
        let rule = server.add_rule(Rule { on: Which::RangedGets, when: When::Nth(2), fault });
        let mut client = Client::new(&server);
        let etag = server.etag("b", "k").unwrap();
        let headers = ["Range: bytes=100-199", &format!("If-Match: {etag}")];
        assert_eq!(client.get("/b/k", &headers).body, bytes[100..200]);
        for _ in 0..2 {
            let changed = client.get("/b/k", &headers);
            assert_eq!(changed.status, second);
            if changed.status == 206 {
                assert!(changed.body.iter().zip(&bytes[100..200]).all(|(new, old)| new != old));
                assert_ne!(changed.header("etag"), Some(etag.as_str()));
            }
        }
        assert_eq!(server.fired(rule), 1);
        let now = client.get("/b/k", &[]);
        assert_eq!((now.status, now.body.len()), (200, 1000));
        assert_ne!(now.header("etag"), Some(etag.as_str()));
    }
}

#[test]
fn the_second_attempt_of_a_range() {
    let (server, bytes) = with_object();
    let when = When::FirstAttempts(1);
    server.add_rule(Rule { on: Which::GetsFrom(100), when, fault: Fault::SlowDown });
    let mut client = Client::new(&server);
    assert_eq!(client.get("/b/k", &["Range: bytes=0-99"]).status, 206);
    assert_eq!(range(&mut client).status, 503);
    assert_eq!(range(&mut client).body, bytes[100..200]);
    assert_eq!(client.get("/b/k", &["Range: bytes=200-"]).status, 503);
}
