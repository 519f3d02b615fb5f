//! The `healthcheck` subcommand: containers have no curl.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// Longest wait for each step; probes of container platforms give up after one to five seconds.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Whether `GET /health` answers 200.
pub(crate) fn check(host: &str, port: u16) -> Result<(), String> {
    let line = status_line(host, port)
        .map_err(|error| format!("no answer from {host}:{port}: {error}"))?;
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(format!(
            "not healthy: {host}:{port} answered {:?}",
            line.trim_end()
        )),
    }
}

fn status_line(host: &str, port: u16) -> io::Result<String> {
    let address = (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    // Bounded: whatever listens there may not be ours.
    stream.take(64 << 10).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
