//! Uploads in parts.

use super::*;
use crate::s3::xml;

fn small_parts() -> S3Server {
    let options = Options { min_part_bytes: 4, ..Options::default() };
    let server = S3Server::start(options).unwrap();
    server.create_bucket("b");
    server
}

fn begin(client: &mut Client) -> String {
    let begun = client.request("POST", "/b/k?uploads", &["Content-Type: text/plain"], b"");
    assert_eq!(begun.status, 200);
    xml::contents(begun.text(), "UploadId")[0].to_owned()
}

fn part(client: &mut Client, id: &str, number: u32, body: &[u8]) -> String {
    let target = format!("/b/k?partNumber={number}&uploadId={id}");
    let part = client.request("PUT", &target, &[], body);
    assert_eq!(part.status, 200, "{}", part.text());
    part.header("etag").unwrap().to_owned()
}

fn complete(client: &mut Client, id: &str, parts: &[(u32, &str)]) -> Reply {
    complete_if(client, id, parts, &[])
}

fn complete_if(client: &mut Client, id: &str, parts: &[(u32, &str)], headers: &[&str]) -> Reply {
    let parts = parts.iter().fold(String::new(), |listed, (number, etag)| {
        let etag = xml::escape(etag);
        listed + &format!("<Part><ETag>{etag}</ETag><PartNumber>{number}</PartNumber></Part>")
    });
    let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    client.request("POST", &format!("/b/k?uploadId={id}"), headers, body.as_bytes())
}

#[test]
fn parts_become_an_object() {
    let server = small_parts();
    let mut client = Client::new(&server);
    let id = begin(&mut client);
    let last = part(&mut client, &id, 7, b"!");
    part(&mut client, &id, 2, b"thrown away");
    let first = part(&mut client, &id, 2, b"hello");
    assert_eq!((server.get("b", "k"), server.open_uploads()), (None, 1));
    let done = complete(&mut client, &id, &[(2, &first), (7, &last)]);
    assert_eq!(done.status, 200, "{}", done.text());
    let etag = server.etag("b", "k").unwrap();
    assert!(etag.ends_with("-2\""), "{etag}");
    assert_eq!(xml::unescape(xml::contents(done.text(), "ETag")[0]), etag);
    let got = client.get("/b/k", &[]);
    assert_eq!((got.text(), got.header("content-type")), ("hello!", Some("text/plain")));
    assert_eq!(server.open_uploads(), 0);
    assert_eq!(complete(&mut client, &id, &[(2, &first)]).code(404), "NoSuchUpload");
}

#[test]
fn what_cannot_be_completed() {
    let server = small_parts();
    let mut client = Client::new(&server);
    let id = begin(&mut client);
    let tiny = part(&mut client, &id, 1, b"abc");
    let large = part(&mut client, &id, 2, b"defg");
    for (parts, code) in [
        (vec![(2, large.as_str()), (1, tiny.as_str())], "InvalidPartOrder"),
        (vec![(2, large.as_str()), (2, large.as_str())], "InvalidPartOrder"),
        (vec![(1, tiny.as_str()), (2, large.as_str())], "EntityTooSmall"),
        (vec![(2, tiny.as_str())], "InvalidPart"),
        (vec![(3, tiny.as_str())], "InvalidPart"),
        (vec![], "MalformedXML"),
    ] {
        assert_eq!(complete(&mut client, &id, &parts).code(400), code);
    }
    server.put("b", "k", "there");
    let parts = [(2, large.as_str())];
    let exists = complete_if(&mut client, &id, &parts, &["If-None-Match: *"]);
    assert_eq!(exists.code(412), "PreconditionFailed");
    assert_eq!((server.get("b", "k").unwrap(), server.open_uploads()), ("there".into(), 1));
    assert_eq!(complete(&mut client, &id, &parts).status, 200);
}

#[test]
fn aborted() {
    let server = small_parts();
    let mut client = Client::new(&server);
    let id = begin(&mut client);
    let target = format!("/b/k?uploadId={id}");
    assert_eq!(client.request("DELETE", &target, &[], b"").status, 204);
    assert_eq!(server.open_uploads(), 0);
    assert_eq!(client.request("DELETE", &target, &[], b"").code(404), "NoSuchUpload");
    let late = client.request("PUT", &format!("{target}&partNumber=1"), &[], b"x");
    assert_eq!(late.code(404), "NoSuchUpload");
}

#[test]
fn part_numbers_and_keys_are_checked() {
    let server = small_parts();
    let mut client = Client::new(&server);
    let id = begin(&mut client);
    for number in ["0", "10001", "-1", ""] {
        let target = format!("/b/k?uploadId={id}&partNumber={number}");
        assert_eq!(client.request("PUT", &target, &[], b"x").code(400), "InvalidArgument");
    }
    let other = format!("/b/other?uploadId={id}&partNumber=1");
    assert_eq!(client.request("PUT", &other, &[], b"x").code(404), "NoSuchUpload");
    assert_eq!(client.request("POST", "/none/k?uploads", &[], b"").code(404), "NoSuchBucket");
}
