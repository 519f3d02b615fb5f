//! A bucket as a source, through the AWS SDK: AWS itself and everything that speaks its protocol.
//!
//! Configuration is the SDK's own: `AWS_ACCESS_KEY_ID` and friends, `AWS_PROFILE`, the role of the platform,
//! `AWS_REGION`, `AWS_ENDPOINT_URL`. On top of it:
//!
//! * with an endpoint of one's own, buckets are named in the path (`AWS_S3_ADDRESSING_STYLE=virtual` changes that), and
//!   a missing region is `us-east-1` instead of a question to a metadata service that is not there;
//! * `AWS_SKIP_SIGNATURE=true` reads public buckets without credentials.
//!
//! The SDK's retries, stalled-stream protection and checksum mode are off for reads: `fetch` retries by range, hedges,
//! and checks hashes that cover every byte, which a checksum of a whole object cannot do for a range.

mod put;

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, Region, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use bytes::Bytes;

use super::{Body, Boxed, Fault, FaultKind, Listed, Reply, Request, Source, StoreOptions};
use crate::location::is_snapshot_name;

/// How long a connection may take to be made, TLS included; AWS's own default.
const CONNECT: Duration = Duration::from_millis(3100);

/// One bucket.
#[derive(Debug)]
pub(crate) struct S3 {
    bucket: String,
    client: Client,
    /// The same client with connections of its own, for requests that must not meet the one that failed them.
    fresh: Client,
}

impl S3 {
    /// Reads the configuration; makes no request.
    pub(crate) async fn new(bucket: String, store: &StoreOptions) -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = store.endpoint_url.clone();
        let endpoint =
            endpoint.or_else(|| set("AWS_ENDPOINT_URL_S3")).or_else(|| set("AWS_ENDPOINT_URL"));
        let region = RegionProviderChain::first_try(store.region.clone().map(Region::new))
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new());
        let region = if endpoint.is_some() {
            region.or_else(Region::new("us-east-1"))
        } else {
            // The platform's own address, asked through the one client that is built in.
            let platform = ProviderConfig::without_region().with_http_client(connections());
            region.or_else(ImdsRegionProvider::builder().configure(&platform).build())
        };
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(region)
            .http_client(connections())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build());
        if let Some(endpoint) = &store.endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        let skip = || set("AWS_SKIP_SIGNATURE").or_else(|| set("AWS_NO_SIGN_REQUEST"));
        if store.skip_signature.unwrap_or_else(|| skip().is_some_and(|value| yes(&value))) {
            loader = loader.no_credentials();
        } else if let Some((id, secret)) = &store.credentials {
            loader =
                loader.credentials_provider(Credentials::new(id, secret, None, None, "options"));
        }
        let shared = loader.load().await;
        let endpoint = endpoint.is_some() || shared.endpoint_url().is_some();
        let in_path = match set("AWS_S3_ADDRESSING_STYLE").as_deref() {
            Some("virtual") => false,
            Some("path") => true,
            _ => endpoint,
        };
        let config = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(in_path)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        Self {
            bucket,
            client: Client::from_conf(config.clone().build()),
            fresh: Client::from_conf(config.http_client(connections()).build()),
        }
    }

    async fn read(&self, request: Request<'_>) -> Result<Reply, Fault> {
        let client = if request.fresh { &self.fresh } else { &self.client };
        let last = request.range.end.saturating_sub(1);
        let answer = client
            .get_object()
            .bucket(&self.bucket)
            .key(request.key)
            .range(format!("bytes={}-{last}", request.range.start))
            .set_if_match(request.version.map(str::to_owned))
            .customize()
            .config_override(
                aws_sdk_s3::config::Config::builder().retry_config(RetryConfig::disabled()),
            )
            .send()
            .await
            .map_err(|error| fault(&error))?;
        let said = answer.content_range().map(parse_content_range);
        if let Some(None) = said {
            let text = answer.content_range().unwrap_or_default();
            let message = format!("answered with an unreadable Content-Range {text:?}");
            return Err(Fault::new(FaultKind::Wrong, message));
        }
        let (range, total) = match said.flatten() {
            Some((range, total)) => (Some(range), total),
            None => {
                (None, answer.content_length().and_then(|len| len.try_into().ok()).unwrap_or(0))
            }
        };
        let version = answer.e_tag().unwrap_or_default().to_owned();
        Ok(Reply { version, total, range, body: Box::new(Stream(answer.body)) })
    }

    async fn pages(&self, prefix: &str) -> Result<Vec<Listed>, Fault> {
        let mut found = Vec::new();
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| fault(&error))?;
            for object in page.contents() {
                let key = object.key().unwrap_or_default();
                if is_snapshot_name(key) {
                    found.push(Listed {
                        key: key.to_owned(),
                        url: self.url(key),
                        len: object.size().and_then(|size| size.try_into().ok()).unwrap_or(0),
                        modified: object
                            .last_modified()
                            .map(aws_sdk_s3::primitives::DateTime::secs),
                    });
                }
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }
}

impl Source for S3 {
    fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<Listed>, Fault>> {
        Box::pin(self.pages(prefix))
    }

    fn get<'a>(&'a self, request: Request<'a>) -> Boxed<'a, Result<Reply, Fault>> {
        Box::pin(self.read(request))
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        file: &'a std::path::Path,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(put::file(&self.client, &self.bucket, key, file, progress))
    }

    fn remove<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async move {
            let removed = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
            removed.map(drop).map_err(|error| fault(&error))
        })
    }
}

struct Stream(ByteStream);

impl Body for Stream {
    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, Fault>> {
        Box::pin(async move {
            let piece = self.0.next().await.transpose();
            piece.map_err(|error| {
                Fault::new(FaultKind::Broken, format!("the body broke off: {}", causes(&error)))
            })
        })
    }
}

/// A pool of connections.
fn connections() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

fn yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on")
}

/// `bytes 0-4095/123456` as the range and the length of the object.
fn parse_content_range(text: &str) -> Option<(std::ops::Range<u64>, u64)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = total.parse().ok()?;
    (first <= last && last < total).then(|| (first..last + 1, total))
}

/// What the SDK's error means for a retry.
fn fault<E>(error: &SdkError<E>) -> Fault
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let code = error.code().unwrap_or_default();
    let said = match (error.message(), code) {
        (Some(message), "") => shorten(message),
        (Some(message), code) => shorten(&format!("{code}: {message}")),
        (None, "") => causes(error),
        (None, code) => shorten(code),
    };
    // Without one, the SDK does not know where to ask.
    let lower = said.to_ascii_lowercase();
    if status == 0 && (lower.contains("missing region") || lower.contains("region must be set")) {
        let remedy = "set AWS_REGION, or AWS_ENDPOINT_URL for a store of another address";
        return Fault::new(FaultKind::Refused, format!("no region ({said}); {remedy}"));
    }
    match error {
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => {
            let kind = match (status, code) {
                (_, "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded")
                | (429 | 503, _) => FaultKind::Throttled,
                (404, _) => FaultKind::Missing,
                (412, _) => FaultKind::Changed,
                (301 | 307 | 308, _) => FaultKind::Refused,
                (400, "RequestTimeout") | (408 | 500..=599, _) => FaultKind::Unavailable,
                (400 | 401 | 403, _) => FaultKind::Denied,
                _ => FaultKind::Wrong,
            };
            let remedy = if kind == FaultKind::Refused {
                "; the bucket is in another region or at another address: set AWS_REGION or AWS_ENDPOINT_URL"
            } else {
                ""
            };
            Fault::new(kind, format!("answered {status} ({said}){remedy}"))
        }
        SdkError::TimeoutError(_) => {
            Fault::new(FaultKind::Unavailable, format!("no connection in time ({said})"))
        }
        // Asked again, the same certificate comes.
        SdkError::DispatchFailure(_) if said.contains("certificate") => {
            let remedy = "SSL_CERT_FILE names a file with the authorities to trust";
            Fault::new(FaultKind::Refused, format!("cannot be trusted ({said}); {remedy}"))
        }
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
            Fault::new(FaultKind::Unavailable, format!("no answer ({said})"))
        }
        SdkError::DispatchFailure(_) if said.contains("redential") => {
            Fault::new(FaultKind::Denied, format!("no credentials ({said})"))
        }
        SdkError::DispatchFailure(_) => {
            Fault::new(FaultKind::Unavailable, format!("no answer ({said})"))
        }
        _ => Fault::new(FaultKind::Refused, said),
    }
}

/// An error and what caused it, each said once.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = String::new();
    for cause in std::iter::successors(Some(error), |error| error.source()) {
        let cause = cause.to_string();
        if !said.ends_with(&cause) {
            said.push_str(if said.is_empty() { "" } else { ": " });
            said.push_str(&cause);
        }
    }
    shorten(&said)
}

/// The text at a length that fits a log line.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 240;
    let mut out: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(parse_content_range("bytes 0-4095/5000"), Some((0..4096, 5000)));
        for wrong in [
            "",
            "bytes */5000",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes 0-1",
            "0-1/2/3",
            "bytes 0-1/*",
        ] {
            assert_eq!(parse_content_range(wrong), None, "{wrong}");
        }
    }
}
