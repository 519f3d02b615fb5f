//! A store over HTTPS whose certificate no known authority signed.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection};

use super::{Fixture, remote_options};
use crate::{Kind, restore};

/// Listens with a certificate of its own for `localhost`; its port, and how many connections were tried.
fn untrusted() -> (u16, Arc<AtomicUsize>) {
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
    let tried = Arc::new(AtomicUsize::new(0));
    let count = tried.clone();
    let handshake = move |mut socket: TcpStream| {
        count.fetch_add(1, Ordering::Relaxed);
        let mut connection = ServerConnection::new(config.clone()).unwrap();
        // The client ends it, which is what it should do.
        while connection.is_handshaking() && connection.complete_io(&mut socket).is_ok() {}
    };
    std::thread::spawn(move || listener.incoming().flatten().for_each(handshake));
    (port, tried)
}

#[test]
fn a_certificate_that_is_not_trusted_is_told_at_once_with_its_cause() {
    let (port, tried) = untrusted();
    let error = restore(&Fixture::by_name(), &remote_options(&format!("https://localhost:{port}")))
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    let said = error.to_string();
    assert!(said.contains("certificate: UnknownIssuer"), "{said}");
    assert!(said.contains("SSL_CERT_FILE"), "{said}");
    assert_eq!(tried.load(Ordering::Relaxed), 1, "asked again: {said}");
}
