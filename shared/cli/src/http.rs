//! Just enough HTTP/1.1 to ask a function on this machine or network: one request a connection. No
//! library lies between the benchmark's clock and the socket. No TLS: for that there is curl.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Sends a request and returns status and body.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_mins(5)))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).context("the answer is not UTF-8")?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("no complete HTTP answer from {address}");
    };
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .with_context(|| format!("no status in {:?}", head.lines().next()))?;
    Ok((status, body.to_owned()))
}

/// The body of an error on one line, cut to what a terminal shows of it.
pub(crate) fn line(body: &str) -> String {
    const LONGEST: usize = 300;
    let words: Vec<&str> = body.split_whitespace().collect();
    words.join(" ").chars().filter(|char| !char.is_control()).take(LONGEST).collect()
}

/// The address in `http://host:port`, with or without a trailing slash.
pub(crate) fn address(url: &str) -> Result<SocketAddr> {
    let Some(rest) = url.strip_prefix("http://") else {
        bail!("{url:?}: expected http://HOST:PORT");
    };
    let place = rest.trim_end_matches('/');
    let place = if place.contains(':') { place.to_owned() } else { format!("{place}:80") };
    // Functions bind 127.0.0.1 by default, and `localhost` often means ::1 first.
    place
        .to_socket_addrs()
        .with_context(|| format!("{url:?}: expected http://HOST:PORT"))?
        .min_by_key(SocketAddr::is_ipv6)
        .with_context(|| format!("{url:?} has no address"))
}
