//! Lists of objects.

use super::*;
use crate::s3::xml;

fn list(client: &mut Client, query: &str) -> Reply {
    let listed = client.get(&format!("/b?list-type=2{query}"), &[]);
    assert_eq!(listed.status, 200, "{}", listed.text());
    listed
}

/// Keys, then common prefixes.
fn names(listed: &Reply) -> Vec<String> {
    ["Key", "CommonPrefixes"]
        .iter()
        .flat_map(|name| xml::contents(listed.text(), name))
        .map(|name| {
            xml::unescape(name.trim_start_matches("<Prefix>").trim_end_matches("</Prefix>"))
        })
        .collect()
}

fn with_keys() -> S3Server {
    let server = start();
    for key in ["a", "m/1", "m/2", "m/sub/3", "m<&>\"", "z"] {
        server.put("b", key, key.to_owned());
    }
    server
}

#[test]
fn prefixes_and_delimiters() {
    let server = with_keys();
    let mut client = Client::new(&server);
    for (query, expected) in [
        ("", vec!["a", "m/1", "m/2", "m/sub/3", "m<&>\"", "z"]),
        ("&prefix=m/", vec!["m/1", "m/2", "m/sub/3"]),
        ("&prefix=m%2F&delimiter=%2F", vec!["m/1", "m/2", "m/sub/"]),
        ("&delimiter=/", vec!["a", "m<&>\"", "z", "m/"]),
        ("&start-after=m/2", vec!["m/sub/3", "m<&>\"", "z"]),
        ("&prefix=m/&start-after=a", vec!["m/1", "m/2", "m/sub/3"]),
        ("&prefix=m/&start-after=n", vec![]),
        ("&max-keys=0", vec![]),
    ] {
        let listed = list(&mut client, query);
        assert_eq!(names(&listed), expected, "{query}");
        assert_eq!(xml::contents(listed.text(), "KeyCount"), [expected.len().to_string()]);
        assert_eq!(xml::contents(listed.text(), "IsTruncated"), ["false"]);
    }
    let entry = list(&mut client, "&prefix=z");
    assert_eq!(xml::contents(entry.text(), "Size"), ["1"]);
    let etag = xml::unescape(xml::contents(entry.text(), "ETag")[0]);
    assert_eq!(Some(etag), server.etag("b", "z"));
}

#[test]
fn pages() {
    let server = with_keys();
    let mut client = Client::new(&server);
    for (query, expected) in [
        ("&prefix=m", vec!["m/1", "m/2", "m/sub/3", "m<&>\""]),
        ("&delimiter=/", vec!["a", "m/", "m<&>\"", "z"]),
    ] {
        for size in 1..6 {
            let (mut found, mut token) = (Vec::new(), String::new());
            loop {
                let page = list(&mut client, &format!("{query}&max-keys={size}{token}"));
                let mut names = names(&page);
                names.sort();
                assert!(names.len() <= size);
                found.extend(names);
                match xml::contents(page.text(), "NextContinuationToken").first() {
                    Some(next) => token = format!("&continuation-token={next}"),
                    None => break,
                }
            }
            assert_eq!(found, expected, "{query} by {size}");
        }
    }
}

#[test]
fn refusals() {
    let server = with_keys();
    let mut client = Client::new(&server);
    assert_eq!(client.get("/none?list-type=2", &[]).code(404), "NoSuchBucket");
    assert_eq!(client.get("/b", &[]).code(501), "NotImplemented");
    assert_eq!(client.get("/b?versions", &[]).code(501), "NotImplemented");
    for query in ["max-keys=x", "continuation-token=m", "continuation-token=%C3%A4"] {
        let refused = client.get(&format!("/b?list-type=2&{query}"), &[]);
        assert_eq!(refused.code(400), "InvalidArgument", "{query}");
    }
}

#[test]
fn buckets() {
    let server = with_keys();
    server.create_bucket("c");
    let mut client = Client::new(&server);
    assert_eq!(xml::contents(client.get("/", &[]).text(), "Name"), ["b", "c"]);
    assert_eq!(client.get("/b?location", &[]).status, 200);
    assert_eq!(client.get("/none?location", &[]).code(404), "NoSuchBucket");
}
