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
        _ => Err(format!("not healthy: {host}:{port} answered {:?}", line.trim_end())),
    }
}

fn status_line(host: &str, port: u16) -> io::Result<String> {
    let address = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn checked(answer: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 1024];
            let read = stream.read(&mut request).expect("a request");
            stream.write_all(answer).expect("answered");
            request[..read].starts_with(b"GET /health HTTP/1.1\r\n")
        });
        let result = check("127.0.0.1", port);
        assert!(server.join().expect("no panic"), "asks for /health");
        result
    }

    #[test]
    fn only_200_is_healthy() {
        assert_eq!(checked(b"HTTP/1.1 200 OK\r\n\r\n"), Ok(()));
        assert!(checked(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
        assert!(checked(b"").is_err());
    }
}
