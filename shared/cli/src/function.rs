//! A running function, asked over HTTP or HTTPS.
//!
//! Certificates are held against those of the system, or of the file that `SSL_CERT_FILE` names, as downloads are. A key goes
//! into the one header that is meant for it, and into no message; an address with a key in it is refused, since addresses
//! are told. Redirections are answers like others: followed, a key would go where the user did not send it.
//!
//! The benchmark of boots has [`crate::http`] instead, so that no library lies between its clock and the socket.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls_native_certs::load_native_certs;
use ureq::Agent;
use ureq::http::{HeaderValue, Request, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// How long an answer may take to begin, and to arrive. A model of half a billion parameters scores a large request in
/// minutes.
const PATIENCE: Duration = Duration::from_mins(5);
/// Longer takes no connection to a host that is there.
const CONNECT: Duration = Duration::from_secs(10);
/// Vectors of the largest request are some 100 MB.
const MOST_ANSWER: u64 = 256 << 20;

/// The key of a function.
#[derive(Clone, clap::Args)]
pub(crate) struct KeyArgs {
    /// Key that the function at --url asks for.
    #[arg(long, value_name = "KEY", env = "DEFROST_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

impl fmt::Debug for KeyArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let api_key = self.api_key.as_ref().map(|_| "(hidden)");
        f.debug_struct("KeyArgs").field("api_key", &api_key).finish()
    }
}

/// A function at an address.
pub(crate) struct Function {
    /// The address without a slash at its end.
    url: String,
    agent: Agent,
    key: Option<HeaderValue>,
}

/// What a function answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// Texts that were cut to fit, where it says so.
    pub(crate) truncated: u32,
    /// The address to which a redirection leads.
    location: Option<String>,
    had_key: bool,
}

/// An answer that comes in pieces.
pub(crate) enum Streamed {
    Body(Box<dyn Read + Send>),
    /// It is no such answer: its status says why.
    Refused(Answer),
}

impl Function {
    /// A function at `http://HOST:PORT` or `https://HOST`, with a path before the routes where a gateway has one.
    pub(crate) fn new(url: &str, key: &KeyArgs) -> Result<Self> {
        let expected = "expected http://HOST:PORT or https://HOST";
        if url.contains('@') {
            bail!(
                "--url holds a user or a key, which would be told in messages: {expected}, and the key as --api-key"
            );
        }
        if url.contains(['?', '#']) {
            bail!(
                "--url holds more than an address, a key maybe, which would be told in messages: {expected}"
            );
        }
        let uri: Uri = url.parse().with_context(|| format!("{url:?}: {expected}"))?;
        let (Some("http" | "https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            bail!("{url:?}: {expected}");
        };
        let has_port = uri.authority().is_some_and(|authority| authority.as_str() != host);
        if host.is_empty() || has_port && uri.port_u16().is_none() {
            bail!("{url:?}: {expected}");
        }
        let key = key.api_key.as_deref().map(str::trim).filter(|key| !key.is_empty());
        let key = key.map(|key| HeaderValue::from_str(&format!("Bearer {key}"))).transpose();
        let Ok(mut key) = key else {
            bail!("the key (--api-key, DEFROST_API_KEY) has characters that no header can hold");
        };
        if let Some(key) = &mut key {
            key.set_sensitive(true);
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            // Not one limit for all of it: names would be looked up on a thread, which the system may not give, and the
            // library does not take a refusal.
            .timeout_send_request(Some(CONNECT))
            .timeout_send_body(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_recv_body(Some(PATIENCE))
            .user_agent(concat!("defrost/", env!("CARGO_PKG_VERSION")));
        if uri.scheme_str() == Some("https") {
            config = config.tls_config(tls()?);
        }
        if is_here(host) {
            // A proxy has its own idea of what this machine is.
            config = config.proxy(None);
        }
        let agent = config.build().new_agent();
        Ok(Self { url: url.trim_end_matches('/').to_owned(), agent, key })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        self.ask("GET", path, String::new())
    }

    pub(crate) fn post(&self, path: &str, body: String) -> Result<Answer> {
        self.ask("POST", path, body)
    }

    /// As [`Function::post`], for an answer that comes in pieces and takes as long as it takes.
    pub(crate) fn stream(&self, path: &str, body: String) -> Result<Streamed> {
        let mut request = Request::builder().method("POST").uri(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", key);
        }
        let request = request.header("content-type", "application/json").body(body)?;
        let request = self.agent.configure_request(request).timeout_recv_body(None).build();
        match self.agent.run(request) {
            Ok(answer) if answer.status() == 200 => {
                Ok(Streamed::Body(Box::new(answer.into_body().into_reader())))
            }
            Ok(answer) => self.read(answer).map(Streamed::Refused),
            Err(error) => bail!("no answer from {}: {}", self.url, causes(&error)),
        }
    }

    fn ask(&self, method: &str, path: &str, body: String) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", key);
        }
        let answered = if body.is_empty() {
            self.agent.run(request.body(())?)
        } else {
            self.agent.run(request.header("content-type", "application/json").body(body)?)
        };
        match answered {
            Ok(answer) => self.read(answer),
            Err(error) => bail!("no answer from {}: {}", self.url, causes(&error)),
        }
    }

    fn read(&self, mut answer: ureq::http::Response<ureq::Body>) -> Result<Answer> {
        let header = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
        let location = header("location");
        let truncated = header("x-truncated-inputs").and_then(|count| count.parse().ok());
        let truncated = truncated.unwrap_or(0);
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(MOST_ANSWER).read_to_vec();
        let body = body.with_context(|| format!("no complete answer from {}", self.url))?;
        let body = String::from_utf8(body)
            .with_context(|| format!("the answer of {} is not UTF-8", self.url))?;
        Ok(Answer { status, body, truncated, location, had_key: self.key.is_some() })
    }
}

impl Answer {
    /// What the answer says in an error, and what to do where that is known.
    pub(crate) fn said(&self) -> String {
        self.said_as(&line(&self.body))
    }

    /// The same, where what the body says is known in words.
    pub(crate) fn said_as(&self, words: &str) -> String {
        let Self { status, location, .. } = self;
        let said = format!("{status}: {words}");
        match (status, location) {
            (300..=399, Some(place)) => {
                format!("{said} (it is at {}: give that as --url)", line(place))
            }
            (401 | 403, _) if self.had_key => format!("{said} (the key was not taken)"),
            (401 | 403, _) => format!("{said} (--api-key or DEFROST_API_KEY gives a key)"),
            _ => said,
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// The body of an error on one line, cut to what a terminal shows of it.
pub(crate) fn line(body: &str) -> String {
    const LONGEST: usize = 300;
    let words: Vec<&str> = body.split_whitespace().collect();
    words.join(" ").chars().filter(|char| !char.is_control()).take(LONGEST).collect()
}

fn is_here(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn tls() -> Result<TlsConfig> {
    let found = load_native_certs();
    if found.certs.is_empty() {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        bail!(
            "no certificates of authorities to trust ({}): SSL_CERT_FILE names a file that has them",
            if why.is_empty() { "the system has none".to_owned() } else { why.join(", ") }
        );
    }
    let authorities: Vec<Certificate<'static>> =
        found.certs.iter().map(|found| Certificate::from_der(found).to_owned()).collect();
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(authorities)))
        .build())
}

/// An error and what caused it, each said once, with what to do about a certificate.
fn causes(error: &ureq::Error) -> String {
    let mut said = error.to_string();
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    for cause in causes.map(ToString::to_string) {
        if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    if said.contains("certificate") {
        said.push_str("; SSL_CERT_FILE names a file with the authorities to trust");
    }
    said
}
