//! Each operation on an object or a bucket, and the errors it knows.

use super::*;

#[test]
fn get() {
    let (server, bytes) = with_object();
    let mut client = Client::new(&server);
    let whole = client.get("/b/k", &[]);
    assert_eq!((whole.status, &whole.body), (200, &bytes));
    assert_eq!(whole.header("content-length"), Some("1000"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("etag"), server.etag("b", "k").as_deref());
    assert_eq!(whole.header("content-range"), None);
    assert!(whole.header("last-modified").unwrap().ends_with(" GMT"));

    for (range, expected, content_range) in [
        ("bytes=0-99", 0..100, "bytes 0-99/1000"),
        ("bytes=990-2000", 990..1000, "bytes 990-999/1000"),
        ("bytes=999-", 999..1000, "bytes 999-999/1000"),
        ("bytes=-10", 990..1000, "bytes 990-999/1000"),
    ] {
        let part = client.get("/b/k?x-id=GetObject", &[&format!("Range: {range}")]);
        assert_eq!((part.status, &part.body[..]), (206, &bytes[expected]), "{range}");
        assert_eq!(part.header("content-range"), Some(content_range));
    }
    let beyond = client.get("/b/k", &["Range: bytes=1000-"]);
    assert_eq!(beyond.code(416), "InvalidRange");
    assert_eq!(beyond.header("content-range"), Some("bytes */1000"));
    assert_eq!(client.get("/b/none", &[]).code(404), "NoSuchKey");
    assert_eq!(client.get("/none/k", &[]).code(404), "NoSuchBucket");
    assert_eq!(client.get("/b/k?acl", &[]).code(501), "NotImplemented");
    assert_eq!(server.stats().connections, 1);
}

#[test]
fn empty_object() {
    let server = start();
    server.put("b", "k", "");
    let mut client = Client::new(&server);
    assert_eq!((client.get("/b/k", &[]).status, server.stats().body_bytes_sent), (200, 0));
    assert_eq!(client.get("/b/k", &["Range: bytes=0-"]).code(416), "InvalidRange");
}

#[test]
fn head() {
    let (server, _) = with_object();
    let mut client = Client::new(&server);
    let whole = client.request("HEAD", "/b/k", &[], b"");
    assert_eq!((whole.status, whole.header("content-length")), (200, Some("1000")));
    let part = client.request("HEAD", "/b/k", &["Range: bytes=0-9"], b"");
    assert_eq!((part.status, part.header("content-length")), (206, Some("10")));
    assert_eq!(client.request("HEAD", "/b/none", &[], b"").status, 404);
    assert_eq!(client.request("HEAD", "/b", &[], b"").status, 200);
    assert_eq!(client.request("HEAD", "/none", &[], b"").status, 404);
    assert_eq!((server.stats().gets, server.stats().body_bytes_sent), (0, 0));
    assert!(server.stats().ranges.is_empty());
}

#[test]
fn conditions_of_reads() {
    let (server, _) = with_object();
    let mut client = Client::new(&server);
    let etag = server.etag("b", "k").unwrap();
    let bare = etag.trim_matches('"');
    for (header, status) in [
        (format!("If-Match: {etag}"), 200),
        (format!("If-Match: {bare}"), 200),
        (format!("If-Match: \"other\", {etag}"), 200),
        ("If-Match: *".into(), 200),
        ("If-Match: \"other\"".into(), 412),
        (format!("If-None-Match: {etag}"), 304),
        ("If-None-Match: \"other\"".into(), 200),
    ] {
        assert_eq!(client.get("/b/k", &[&header]).status, status, "{header}");
    }
    let refused = client.get("/b/k", &["If-Match: \"other\"", "Range: bytes=0-9"]);
    assert_eq!(refused.code(412), "PreconditionFailed");
}

#[test]
fn put() {
    let server = start();
    let mut client = Client::new(&server);
    assert_eq!(client.request("PUT", "/b/k", &[], b"x").code(404), "NoSuchBucket");
    assert_eq!(client.request("PUT", "/b", &[], b"").status, 200);
    let headers = ["Content-Type: text/plain", "X-Amz-Meta-Note: hi", "If-None-Match: *"];
    let put = client.request("PUT", "/b/a%20b/c", &headers, b"first");
    assert_eq!((put.status, put.header("etag")), (200, server.etag("b", "a b/c").as_deref()));
    assert_eq!(client.request("PUT", "/b/a%20b/c", &headers, b"x").code(412), "PreconditionFailed");
    let got = client.get("/b/a%20b/c", &[]);
    assert_eq!((got.text(), got.header("content-type")), ("first", Some("text/plain")));
    assert_eq!(got.header("x-amz-meta-note"), Some("hi"));
    assert_eq!(server.get("b", "a b/c").unwrap(), "first");

    let matching = format!("If-Match: {}", server.etag("b", "a b/c").unwrap());
    assert_eq!(client.request("PUT", "/b/a%20b/c", &[&matching], b"second").status, 200);
    assert_eq!(client.request("PUT", "/b/a%20b/c", &[&matching], b"third").status, 412);
    assert_eq!(client.request("PUT", "/b/none", &[&matching], b"x").code(404), "NoSuchKey");
    let copy = client.request("PUT", "/b/copy", &["x-amz-copy-source: /b/k"], b"");
    assert_eq!(copy.code(501), "NotImplemented");
    assert_eq!(server.keys("b"), ["a b/c"]);
}

#[test]
fn put_in_chunks_with_a_trailer() {
    let server = start();
    server.create_bucket("b");
    let mut client = Client::new(&server);
    let body = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
    let mut headers = vec![
        "Content-Encoding: aws-chunked",
        "X-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "X-Amz-Trailer: x-amz-checksum-crc32",
        "X-Amz-Decoded-Content-Length: 11",
    ];
    assert_eq!(client.request("PUT", "/b/k", &headers, body).status, 200);
    assert_eq!(server.get("b", "k").unwrap(), "hello world");
    headers[3] = "X-Amz-Decoded-Content-Length: 12";
    assert_eq!(client.request("PUT", "/b/k", &headers, body).code(400), "IncompleteBody");
}

#[test]
fn put_that_waits_to_be_told_to_continue() {
    let server = start();
    server.create_bucket("b");
    let mut client = Client::new(&server);
    client.send("PUT", "/b/k", &["Expect: 100-continue", "Content-Length: 2"], b"");
    assert_eq!(client.receive(true).unwrap().status, 100);
    client.stream.get_mut().write_all(b"ok").unwrap();
    assert_eq!(client.receive(false).unwrap().status, 200);
    assert_eq!(server.get("b", "k").unwrap(), "ok");
}

#[test]
fn delete() {
    let (server, _) = with_object();
    let mut client = Client::new(&server);
    assert_eq!(client.request("DELETE", "/b", &[], b"").code(409), "BucketNotEmpty");
    assert_eq!(client.request("DELETE", "/b/k", &[], b"").status, 204);
    assert_eq!(client.request("DELETE", "/b/k", &[], b"").status, 204);
    assert_eq!(client.request("DELETE", "/none/k", &[], b"").code(404), "NoSuchBucket");
    assert!(server.keys("b").is_empty());
    assert_eq!(client.request("DELETE", "/b", &[], b"").status, 204);
    assert_eq!(client.request("DELETE", "/b", &[], b"").code(404), "NoSuchBucket");
}

#[test]
fn authorization_can_be_required() {
    let options = Options { require_auth: true, ..Options::default() };
    let server = S3Server::start(options).unwrap();
    server.put("b", "k", "x");
    let mut client = Client::new(&server);
    assert_eq!(client.get("/b/k", &[]).code(403), "AccessDenied");
    assert_eq!(client.get("/b/k", &["Authorization: AWS4-HMAC-SHA256 whatever"]).status, 200);
    assert_eq!(client.get("/b/k?X-Amz-Signature=00", &[]).status, 200);
}

#[test]
fn what_is_no_request_is_refused() {
    let server = start();
    let mut client = Client::new(&server);
    client.stream.get_mut().write_all(b"\x16\x03\x01\x00\r\n\r\n").unwrap();
    assert_eq!(client.receive(false).unwrap().code(400), "InvalidRequest");
    assert!(client.at_end());
    let mut client = Client::new(&server);
    assert_eq!(client.request("BREW", "/b/k", &[], b"").code(405), "MethodNotAllowed");
    assert_eq!(client.request("POST", "/", &[], b"").code(405), "MethodNotAllowed");
}
