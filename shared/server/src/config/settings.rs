//! Every setting with its type.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use defrost_api::EmbedLimits;
use defrost_loader::VerifyMode;
use defrost_model::{Precision, Runtime};
use defrost_tasks::ScoreScale;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub enum Action {
    /// Serve requests.
    Serve(Box<Config>),
    /// Ask a running server for its health, then exit.
    Healthcheck {
        /// The server's host, never a wildcard.
        host: String,
        /// The server's port.
        port: u16,
    },
}

/// Why there is nothing to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `--help` or `--version`: the text to print on stdout, exit 0.
    #[error("{0}")]
    Info(String),
    /// Bad usage: every mistake found, exit 2.
    #[error("{}", .0.join("; "))]
    Usage(Vec<String>),
}

/// Every setting with its value. Meanings and defaults: [`SETTINGS`](super::SETTINGS).
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each field is the setting of its name, described in SETTINGS")]
#[allow(clippy::struct_excessive_bools, reason = "independent settings")]
pub struct Config {
    pub model: String,
    pub host: String,
    pub port: u16,
    pub port_file: Option<PathBuf>,
    pub fast_boot: bool,
    pub backend: Option<&'static str>,
    /// What runs models.
    pub runtimes: &'static [&'static dyn Runtime],
    /// What the snapshot must be in, or what a device computes in.
    pub dtype: Option<Precision>,
    /// As `DEVICE` names it; `None` where no runtime has devices.
    pub device: Option<String>,
    pub gpu_memory_fraction: Option<f64>,
    pub ort_dylib_path: Option<PathBuf>,
    pub num_threads: Option<usize>,
    pub max_length: Option<usize>,
    pub max_batch_tokens: usize,
    pub max_documents: usize,
    pub max_pairs: usize,
    /// Unless set, 10,000 for functions that rerank and 50,000 for those that embed.
    pub max_text_chars: Option<usize>,
    pub embed: EmbedSettings,
    pub chat: ChatSettings,
    pub max_body_bytes: usize,
    pub max_bytes_in_flight: Option<usize>,
    pub max_queue: usize,
    pub boot_timeout: Duration,
    pub request_timeout: Duration,
    pub shutdown_timeout: Duration,
    pub shutdown_grace: Duration,
    pub snapshot_hooks: bool,
    pub invoke_mode: InvokeMode,
    pub verify: VerifyMode,
    pub cache_dir: Option<PathBuf>,
    pub cache_max_bytes: Option<u64>,
    pub restore_timeout: Duration,
    pub restore_connections: usize,
    pub served_model_name: Vec<String>,
    /// The models of `MODELS` with their `MODEL_ALIASES`; empty with `MODEL`.
    pub models: Vec<NamedModel>,
    /// Whether models stand for tiers: names of them are taken in any case and as parts of others, and
    /// unknown ones mean the default; and unless `LAZY_LOAD` all are loaded at start.
    pub tiers: bool,
    pub models_memory: Option<u64>,
    pub lazy_load: bool,
    pub strict_model: bool,
    pub default_top_n: Option<usize>,
    pub normalization: Option<ScoreScale>,
    pub return_data: ReturnData,
    pub legacy_results: bool,
    /// The keys of `API_KEYS` and `API_KEYS_FILE`.
    pub api_keys: Vec<String>,
    /// `ENABLE_CACHE` and the settings beside it.
    pub answers: Option<KeptAnswers>,
    pub cors_origins: Vec<String>,
    pub log_level: String,
    pub log_format: LogFormat,
    /// The settings as given, for [`Config::summary`].
    pub(super) effective: Vec<(&'static str, String)>,
}

/// The settings that only functions which embed look at.
#[derive(Debug, Clone)]
pub struct EmbedSettings {
    /// Bounds on one request.
    pub limits: EmbedLimits,
    /// `AUTO_TRUNCATE`.
    pub auto_truncate: bool,
    /// `ALLOW_NON_MRL`.
    pub allow_non_mrl: bool,
    /// `DIMENSIONS`.
    pub dimensions: Option<usize>,
}

/// The settings that only functions which generate look at; what is `None` the model says, or the request.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each field is the setting of its name, described in SETTINGS")]
pub struct ChatSettings {
    pub context_length: Option<usize>,
    pub kv_tokens: Option<usize>,
    pub max_running: usize,
    pub max_tokens: Option<usize>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<usize>,
    pub min_p: Option<f32>,
    pub repeat_penalty: Option<f32>,
    /// Zero: no comments.
    pub keep_alive: Duration,
}

/// How answers are kept for equal requests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the setting of its name, described in SETTINGS")]
pub struct KeptAnswers {
    pub max_size: NonZeroUsize,
    pub ttl: Duration,
    pub persist_to_disk: bool,
}

/// When canonical answers carry `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnData {
    /// Canonical answers carry `data` when the request has `top_k` or `truncation`.
    Auto,
    /// Canonical answers always carry `data`.
    Always,
}

/// How answers are posted to Lambda, in the words of its function URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvokeMode {
    /// Answers are posted whole.
    Buffered,
    /// Answers are posted as a stream.
    ResponseStream,
}

impl InvokeMode {
    pub(super) const NAMES: [(&str, Self); 2] =
        [("buffered", Self::Buffered), ("response_stream", Self::ResponseStream)];
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line, for log collectors.
    Json,
}

/// One model of several.
#[derive(Debug, Clone)]
pub struct NamedModel {
    /// The name given to it, then its aliases.
    pub names: Vec<String>,
    /// Where its snapshot is: a path or `s3://bucket/key`.
    pub place: String,
    /// The service that it is for, as [`Service`](crate::Service) lists its capability; `None`: the first.
    pub kind: Option<&'static str>,
    /// What lists say of its owner; `None`: what infinity's client reads.
    pub owner: Option<String>,
    /// The model's own name, where that is known before it is loaded.
    pub full_name: Option<String>,
    /// Bytes that it takes, about, where its place is no file whose length tells; 0 if it is.
    pub bytes: u64,
    /// Settings of its own; `None`: those of the process.
    pub own: Option<Box<Config>>,
}

impl NamedModel {
    /// A model of the first service, under this name.
    pub fn new(name: impl Into<String>, place: impl Into<String>) -> Self {
        Self {
            names: vec![name.into()],
            place: place.into(),
            kind: None,
            owner: None,
            full_name: None,
            bytes: 0,
            own: None,
        }
    }
}

impl Config {
    /// Whether models are run by a runtime that has devices.
    pub(crate) fn uses_device(&self) -> bool {
        let chosen = |name: &str| self.backend.is_none_or(|backend| backend == name);
        let runtimes = self.runtimes.iter().find(|runtime| chosen(runtime.name()));
        runtimes.is_some_and(|runtime| !runtime.devices().is_empty())
    }

    /// One line `NAME=value …` of the effective settings; secrets are counted, not shown.
    pub fn summary(&self) -> String {
        self.without(&[])
    }

    /// As [`Config::summary`], of the settings that may make an answer another one: all but where
    /// the function listens, logs and finds its model, which its snapshot names better.
    pub(crate) fn behaviour(&self) -> String {
        self.without(&[
            "MODEL",
            "HOST",
            "PORT",
            "PORT_FILE",
            "LOG_LEVEL",
            "LOG_FORMAT",
            "CACHE_DIR",
        ])
    }

    /// `MAX_BYTES_IN_FLIGHT`, or a quarter of the memory there is: half of it stays for models and
    /// a quarter for what computing takes. At least four bodies; at most 4 GiB, which are answers
    /// of 40,000 long texts.
    pub(crate) fn bytes_in_flight(&self) -> usize {
        self.max_bytes_in_flight.unwrap_or_else(|| {
            let quarter =
                usize::try_from(crate::models::memory::available() / 4).unwrap_or(usize::MAX);
            quarter.min(4 << 30).max(self.max_body_bytes.saturating_mul(4))
        })
    }

    /// These settings for the snapshot at this place.
    #[must_use]
    pub fn at(&self, place: impl Into<String>) -> Self {
        Self { model: place.into(), ..self.clone() }
    }

    /// These settings for one model of several.
    pub(crate) fn for_model(&self, model: &NamedModel) -> Self {
        let own = model.own.as_deref().unwrap_or(self).clone();
        Self { model: model.place.clone(), served_model_name: model.names.clone(), ..own }
    }

    fn without(&self, names: &[&str]) -> String {
        let mut line = String::new();
        for (name, value) in self.effective.iter().filter(|(name, _)| !names.contains(name)) {
            let space = if line.is_empty() { "" } else { " " };
            // Writing to a String does not fail.
            let _ = write!(line, "{space}{name}={value}");
        }
        line
    }
}
