//! From arguments and variables to a checked [`Config`].

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use defrost_api::EmbedLimits;
use defrost_loader::VerifyMode;
use defrost_model::{Precision, Runtime, runtime};
use defrost_tasks::ScoreScale;

use super::log_level;
use super::settings::{
    Action, ChatSettings, Config, ConfigError, EmbedSettings, InvokeMode, KeptAnswers, LogFormat,
    ReturnData,
};
use super::table::{SETTINGS, Setting};
use crate::function::{Function, is_for_devices};

/// Variables with this prefix are ours alone, so an unknown one is a misspelt setting.
const OWN_PREFIX: &str = "DEFROST_";
/// The key that the tool sends, which may be set for both.
const OF_THE_TOOL: &str = "DEFROST_API_KEY";

impl Config {
    /// Reads these arguments and the process's environment, for a function of these kinds.
    pub fn from_env(
        function: &Function,
        kinds: &[&str],
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Action, ConfigError> {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self::from_lookup(function, kinds, args, |name| std::env::var(name).ok(), names)
    }

    /// Reads arguments (the program's name first) and variables. `names` are all variables that are
    /// set, to find misspelt ones. Every name may carry the prefix `DEFROST_`.
    pub fn from_lookup(
        function: &Function,
        kinds: &[&str],
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
        lookup: impl Fn(&str) -> Option<String>,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Action, ConfigError> {
        let matches =
            command(function, kinds).try_get_matches_from(args).map_err(|error| usage(&error))?;
        let healthcheck = matches.subcommand_matches("healthcheck");
        let mut reader = Reader {
            runtimes: function.runtimes,
            matches: &matches,
            lookup: &lookup,
            own: &[],
            usual: &[],
            needs_model: true,
            errors: Vec::new(),
            effective: Vec::new(),
        };
        reader.refuse_unknown(names);
        if let Some(matches) = healthcheck {
            reader.matches = matches;
            let host = reader.text("HOST");
            let port = reader.number("PORT", 1, u16::MAX);
            return reader.finish(Action::Healthcheck {
                host: reachable(&host),
                port: port.unwrap_or_default(),
            });
        }
        let config = reader.config();
        reader.finish(Action::Serve(Box::new(config)))
    }
}

/// Every setting is taken by every function; `--help` leaves out those of other kinds.
fn command(function: &Function, kinds: &[&str]) -> Command {
    let args = || arguments(function, kinds, &[]).into_iter();
    Command::new(function.name)
        .version(function.version)
        .about(function.about)
        .disable_help_subcommand(true)
        .args(args())
        .subcommand(
            Command::new("healthcheck")
                .about("ask the server on HOST:PORT for its health; exit 0 when it is ready")
                .args(args().filter(|arg| ["HOST", "PORT"].contains(&arg.get_id().as_str()))),
        )
}

/// Every setting as an argument, of a function of these kinds or of a command that serves as one,
/// with usual values that may be others than the table's. Those of other kinds are taken and not
/// listed.
pub fn arguments(
    function: &Function,
    kinds: &[&str],
    usual: &[(&'static str, &'static str)],
) -> Vec<Arg> {
    let has_device = function.has_device();
    let argument = |setting: &Setting| {
        let own = usual.iter().find(|(known, _)| *known == setting.name);
        let default = setting.default_of(function.is_for_devices());
        let default = match own.map_or(default, |(_, usual)| usual) {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        let aliases = match setting.aliases {
            [] => String::new(),
            aliases => format!(" or {}", aliases.join(", ")),
        };
        let is_of_others = setting.of.is_some_and(|of| !kinds.contains(&of));
        Arg::new(setting.name)
            .long(setting.flag())
            .value_name(setting.value)
            .help(format!("{}{default} [env: {}{aliases}]", setting.help, setting.name))
            .hide(is_of_others || setting.gpu && !has_device)
    };
    SETTINGS.iter().map(argument).collect()
}

fn usage(error: &clap::Error) -> ConfigError {
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    let text = error.render().to_string();
    match error.kind() {
        DisplayHelp | DisplayVersion => ConfigError::Info(text),
        _ => {
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            ConfigError::Usage(vec![format!("{line} (see --help)")])
        }
    }
}

/// A wildcard address is for listening; a client asks loopback.
fn reachable(host: &str) -> String {
    match host {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "::1".to_owned(),
        other => other.to_owned(),
    }
}

/// A setting of one model alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSetting {
    /// Its name in [`SETTINGS`].
    pub setting: &'static str,
    /// The name that it was given under, for messages.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Where the settings of a process come from that is a command of a tool.
#[derive(Clone, Copy)]
pub struct SettingsSource<'a> {
    /// What the process says about itself.
    pub function: &'a Function,
    /// The command's arguments, [`arguments`] among them.
    pub matches: &'a ArgMatches,
    /// Usual values that are others than the table's.
    pub usual: &'a [(&'static str, &'static str)],
    /// The value of a variable.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl SettingsSource<'_> {
    /// The settings of the process, which need not name a model, and everything that is wrong with
    /// them. `names` are all variables that are set, to find misspelt ones.
    pub fn read(&self, names: impl IntoIterator<Item = String>) -> (Config, Vec<String>) {
        let mut reader = self.reader(&[]);
        reader.refuse_unknown(names);
        let config = reader.config();
        (config, reader.errors)
    }

    /// The settings of one model that has some of its own.
    pub fn read_for(&self, own: &[OwnSetting]) -> (Config, Vec<String>) {
        let mut reader = self.reader(own);
        let config = reader.config();
        // Under the name that they were given.
        let renamed = |error: String| {
            let of = own.iter().find_map(|own| {
                let rest = error.strip_prefix(own.setting).filter(|rest| rest.starts_with(':'))?;
                Some(format!("{}{rest}", own.key))
            });
            of.unwrap_or(error)
        };
        (config, reader.errors.into_iter().map(renamed).collect())
    }

    fn reader<'a>(&'a self, own: &'a [OwnSetting]) -> Reader<'a> {
        Reader {
            runtimes: self.function.runtimes,
            matches: self.matches,
            lookup: self.lookup,
            own,
            usual: self.usual,
            needs_model: false,
            errors: Vec::new(),
            effective: Vec::new(),
        }
    }
}

impl std::fmt::Debug for SettingsSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SettingsSource({})", self.function.name)
    }
}

/// Most answers that may be kept: a folder of so many files is still listed in a moment.
const MOST_ANSWERS: NonZeroUsize = NonZeroUsize::new(1 << 20).unwrap();

pub(super) struct Reader<'a> {
    runtimes: &'static [&'static dyn Runtime],
    matches: &'a ArgMatches,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Settings of one model alone, before all others.
    own: &'a [OwnSetting],
    /// Usual values, before those of the table.
    usual: &'a [(&'static str, &'static str)],
    /// Whether a model must be named.
    pub(super) needs_model: bool,
    pub(super) errors: Vec<String>,
    effective: Vec<(&'static str, String)>,
}

impl Reader<'_> {
    fn finish(self, action: Action) -> Result<Action, ConfigError> {
        if self.errors.is_empty() { Ok(action) } else { Err(ConfigError::Usage(self.errors)) }
    }

    fn refuse_unknown(&mut self, names: impl IntoIterator<Item = String>) {
        let mut unknown: Vec<String> = names
            .into_iter()
            .filter(|name| name != OF_THE_TOOL)
            .filter(|name| {
                name.strip_prefix(OWN_PREFIX).is_some_and(|own| {
                    !SETTINGS
                        .iter()
                        .any(|setting| setting.name == own || setting.aliases.contains(&own))
                })
            })
            .collect();
        unknown.sort_unstable();
        self.errors.extend(
            unknown.into_iter().map(|name| format!("{name}: no such setting (see --help)")),
        );
    }

    fn config(&mut self) -> Config {
        let mut config = Config {
            runtimes: self.runtimes,
            model: self.text("MODEL"),
            host: self.text("HOST"),
            port: self.number("PORT", 0, u16::MAX).unwrap_or_default(),
            port_file: self.path("PORT_FILE"),
            fast_boot: self.flag("FAST_BOOT"),
            backend: self.choice("BACKEND", &runtime::NAMES.map(|name| (name, name))),
            dtype: self.dtype(),
            device: self.has_device().then(|| self.text("DEVICE").to_ascii_lowercase()),
            gpu_memory_fraction: self.memory_fraction(),
            ort_dylib_path: self.path("ORT_DYLIB_PATH"),
            num_threads: self.number("NUM_THREADS", 1, 1024),
            max_length: self.number("MAX_LENGTH", 1, usize::MAX),
            max_batch_tokens: self.number("MAX_BATCH_TOKENS", 1, usize::MAX).unwrap_or_default(),
            max_documents: self.number("MAX_DOCUMENTS", 1, usize::MAX).unwrap_or_default(),
            max_pairs: self.number("MAX_PAIRS", 1, usize::MAX).unwrap_or_default(),
            max_text_chars: self.number("MAX_TEXT_CHARS", 1, usize::MAX),
            embed: self.embed(),
            chat: self.chat(),
            max_body_bytes: self.number("MAX_BODY_BYTES", 1, usize::MAX).unwrap_or_default(),
            max_bytes_in_flight: self.bytes_in_flight(),
            // The bound of tokio's channel.
            max_queue: self.number("MAX_QUEUE", 1, usize::MAX >> 3).unwrap_or_default(),
            boot_timeout: self.seconds("BOOT_TIMEOUT"),
            request_timeout: self.seconds("REQUEST_TIMEOUT"),
            shutdown_timeout: self.seconds("SHUTDOWN_TIMEOUT"),
            shutdown_grace: self.seconds("SHUTDOWN_GRACE"),
            snapshot_hooks: self.flag("SNAPSHOT_HOOKS"),
            invoke_mode: self
                .choice("INVOKE_MODE", &InvokeMode::NAMES)
                .unwrap_or(InvokeMode::Buffered),
            verify: self
                .choice(
                    "VERIFY",
                    &[
                        ("stamped", VerifyMode::Stamped),
                        ("on-the-fly", VerifyMode::OnTheFly),
                        ("eager", VerifyMode::Eager),
                    ],
                )
                .unwrap_or_default(),
            cache_dir: self.path("CACHE_DIR"),
            cache_max_bytes: self.number("CACHE_MAX_BYTES", 0, u64::MAX),
            restore_timeout: self.seconds("RESTORE_TIMEOUT"),
            restore_connections: self.number("RESTORE_CONNECTIONS", 1, 256).unwrap_or_default(),
            served_model_name: self.list("SERVED_MODEL_NAME"),
            models: self.models(),
            tiers: false,
            models_memory: self.number("MODELS_MEMORY", 1, u64::MAX),
            lazy_load: self.flag("LAZY_LOAD"),
            strict_model: self.flag("STRICT_MODEL"),
            default_top_n: self.number("DEFAULT_TOP_N", 0, usize::MAX),
            normalization: self.choice(
                "NORMALIZATION",
                &[
                    ("sigmoid", ScoreScale::Sigmoid),
                    ("raw", ScoreScale::Raw),
                    ("mxbai", ScoreScale::Mxbai),
                ],
            ),
            return_data: self
                .choice(
                    "RETURN_DATA",
                    &[("auto", ReturnData::Auto), ("always", ReturnData::Always)],
                )
                .unwrap_or(ReturnData::Auto),
            legacy_results: self.flag("LEGACY_RESULTS"),
            api_keys: self.keys(),
            answers: self.answers(),
            cors_origins: self.list("CORS_ORIGINS"),
            log_level: self.text("LOG_LEVEL"),
            log_format: self
                .choice("LOG_FORMAT", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
                .unwrap_or(LogFormat::Text),
            effective: Vec::new(),
        };
        self.check(&mut config);
        config.effective = std::mem::take(&mut self.effective);
        config
    }

    /// Checks what no setting says alone.
    fn check(&mut self, config: &mut Config) {
        let linked: Vec<&str> = config.runtimes.iter().map(|runtime| runtime.name()).collect();
        if let Some(backend) = config.backend.filter(|name| !linked.contains(name)) {
            self.errors.push(format!(
                "BACKEND: {backend} is not built into this binary, it has {}",
                match &linked[..] {
                    [only] => format!("{only} only"),
                    several => several.join(" and "),
                }
            ));
        }
        let devices = || config.runtimes.iter().flat_map(|runtime| runtime.devices());
        if let Some(device) = &config.device
            && !names_device(device, &devices().copied().collect::<Vec<_>>())
        {
            let more: String = devices()
                .filter(|kind| **kind != "cuda")
                .fold(String::new(), |more, kind| more + " or " + kind);
            self.errors.push(format!(
                "DEVICE: expected auto, cuda or cuda:N, N from 0{more}, found {device:?}; {}",
                self.without_a_gpu()
            ));
        }
        if let Some(most) = config.max_text_chars {
            config.embed.limits.max_text_chars = most;
        }
        if config.cors_origins == ["none"] {
            config.cors_origins.clear();
        }
        for origin in &config.cors_origins {
            if !is_origin(origin) {
                self.errors.push(format!(
                    "CORS_ORIGINS: expected * or whole origins such as https://app.example:8443, without a path, an end in /, \
                     the scheme's own port or a pattern; found {origin:?}, which no browser sends"
                ));
            }
        }
        if let Err(error) = log_level::filter(&config.log_level) {
            self.errors.push(format!("LOG_LEVEL: {error}"));
        }
        self.check_models(config);
    }

    /// Whether a linked runtime has devices, and with them the settings of these.
    fn has_device(&self) -> bool {
        self.runtimes.iter().any(|runtime| !runtime.devices().is_empty())
    }

    /// What computes where no device is wanted.
    fn without_a_gpu(&self) -> &'static str {
        if self.runtimes.iter().any(|runtime| runtime.name() == "engine") {
            "BACKEND=engine computes without a GPU"
        } else {
            "rerank-cpu-int8 runs without a GPU"
        }
    }

    /// `DTYPE`, in the names of other services too where a device computes in it, and `USE_FP16`.
    fn dtype(&mut self) -> Option<Precision> {
        use Precision::{Bf16, F16, Int8};
        const OF_DEVICES: [(&str, Option<Precision>); 10] = [
            ("auto", None),
            ("bf16", Some(Bf16)),
            ("bfloat16", Some(Bf16)),
            ("f16", Some(F16)),
            ("fp16", Some(F16)),
            ("float16", Some(F16)),
            ("half", Some(F16)),
            ("int8", Some(Int8)),
            // What a snapshot may be in, and what candle alone computes in on a device.
            ("f32", Some(Precision::F32)),
            ("float32", Some(Precision::F32)),
        ];
        if !self.has_device() {
            return self.choice("DTYPE", &Precision::ALL.map(|one| (one.name(), one)));
        }
        let f32 = self.runtimes.iter().any(|runtime| match runtime.name() {
            "candle" => !runtime.devices().is_empty(),
            name => name == "engine",
        });
        let choices = if f32 { &OF_DEVICES[..] } else { &OF_DEVICES[..8] };
        let named = self.choice("DTYPE", choices).flatten();
        match (self.flag("USE_FP16"), named) {
            (true, None | Some(F16)) => Some(F16),
            (true, Some(other)) => {
                let name = other.name();
                self.errors.push(format!("DTYPE={name}, USE_FP16=true: set one of them"));
                named
            }
            (false, _) => named,
        }
    }

    fn memory_fraction(&mut self) -> Option<f64> {
        if !self.has_device() {
            return None;
        }
        let value = self.text("GPU_MEMORY_FRACTION");
        let fraction = value.parse::<f64>().ok().filter(|part| *part > 0.0 && *part <= 1.0);
        if fraction.is_none() {
            self.errors.push(format!(
                "GPU_MEMORY_FRACTION: expected a number above 0 and up to 1, such as 0.9, found {value:?}"
            ));
        }
        fraction
    }

    fn embed(&mut self) -> EmbedSettings {
        let usual = EmbedLimits::default();
        let mut most = |name| self.number(name, 1, usize::MAX).unwrap_or_default();
        let limits = EmbedLimits {
            max_inputs: most("MAX_INPUTS"),
            max_texts: most("MAX_TEXTS"),
            max_batch: most("MAX_BATCH"),
            max_text_length: most("MAX_TEXT_LENGTH"),
            allow_empty_input: self.flag("ALLOW_EMPTY_INPUT"),
            ..usual
        };
        let auto_truncate = self.flag("AUTO_TRUNCATE");
        EmbedSettings {
            limits,
            auto_truncate,
            allow_non_mrl: self.flag("ALLOW_NON_MRL"),
            dimensions: self.number("DIMENSIONS", 1, usize::MAX),
        }
    }

    fn chat(&mut self) -> ChatSettings {
        ChatSettings {
            context_length: self.number("CONTEXT_LENGTH", 2, usize::MAX),
            kv_tokens: self.number("KV_TOKENS", 2, usize::MAX),
            max_running: self.number("MAX_RUNNING", 1, usize::MAX).unwrap_or_default(),
            max_tokens: self.number("MAX_TOKENS", 1, usize::MAX),
            temperature: self.decimal("TEMPERATURE", 0.0..=100.0),
            // None at all is no distribution.
            top_p: self.decimal("TOP_P", f32::MIN_POSITIVE..=1.0),
            top_k: self.number("TOP_K", 0, usize::MAX),
            min_p: self.decimal("MIN_P", 0.0..=1.0),
            repeat_penalty: self.decimal("REPEAT_PENALTY", f32::MIN_POSITIVE..=100.0),
            keep_alive: self.seconds("KEEP_ALIVE"),
        }
    }

    fn answers(&mut self) -> Option<KeptAnswers> {
        let enabled = self.flag("ENABLE_CACHE");
        let max_size = self.number("CACHE_MAX_SIZE", NonZeroUsize::MIN, MOST_ANSWERS)?;
        let ttl = self.seconds("CACHE_TTL_SECONDS");
        let persist_to_disk = self.flag("CACHE_PERSIST_TO_DISK");
        enabled.then_some(KeptAnswers { max_size, ttl, persist_to_disk })
    }

    /// The setting's value as text: flag, variable, aliases, default.
    fn value(&mut self, name: &'static str) -> Option<String> {
        let setting = SETTINGS.iter().find(|setting| setting.name == name)?;
        let value = self.given(setting).or_else(|| {
            let usual = self.usual.iter().find(|(known, _)| *known == name);
            let default = setting.default_of(is_for_devices(self.runtimes));
            match usual.map_or(default, |(_, usual)| usual) {
                "" => None,
                default => Some(default.to_owned()),
            }
        })?;
        let shown = if setting.secret { "(hidden)".to_owned() } else { value.clone() };
        self.effective.push((setting.name, shown));
        Some(value)
    }

    fn given(&self, setting: &Setting) -> Option<String> {
        if let Some(own) = self.own.iter().find(|own| own.setting == setting.name) {
            return Some(own.value.clone());
        }
        let flag = self.matches.get_one::<String>(setting.name).cloned();
        flag.or_else(|| {
            [setting.name].iter().chain(setting.aliases).find_map(|name| {
                let plain = (self.lookup)(name).filter(|value| !value.trim().is_empty());
                plain.or_else(|| {
                    (self.lookup)(&format!("{OWN_PREFIX}{name}"))
                        .filter(|value| !value.trim().is_empty())
                })
            })
        })
        .map(|value| value.trim().to_owned())
    }

    fn text(&mut self, name: &'static str) -> String {
        self.value(name).unwrap_or_default()
    }

    fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    pub(super) fn list(&mut self, name: &'static str) -> Vec<String> {
        let value = self.value(name).unwrap_or_default();
        value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// The keys that clients may send. A file without any would leave the door open that it was to
    /// close.
    fn keys(&mut self) -> Vec<String> {
        let mut keys = self.list("API_KEYS");
        if keys.is_empty() && self.value("API_KEYS").is_some() {
            self.errors.push(
                "API_KEYS: expected keys between commas, found none; leave it out for no keys"
                    .to_owned(),
            );
        }
        let Some(path) = self.path("API_KEYS_FILE") else { return keys };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                let known = keys.len();
                keys.extend(lines.map(str::to_owned));
                if keys.len() == known {
                    let path = path.display();
                    self.errors
                        .push(format!("API_KEYS_FILE: {path} holds no key; write one a line"));
                }
            }
            Err(error) => {
                self.errors.push(format!("API_KEYS_FILE: reading {}: {error}", path.display()));
            }
        }
        keys
    }

    fn flag(&mut self, name: &'static str) -> bool {
        let value = self.text(name);
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => {
                self.errors.push(format!("{name}: expected true or false, found {value:?}"));
                false
            }
        }
    }

    fn bytes_in_flight(&mut self) -> Option<usize> {
        let bytes = self.number("MAX_BYTES_IN_FLIGHT", 1, usize::MAX)?;
        let body = self.text("MAX_BODY_BYTES").parse::<usize>().unwrap_or_default();
        let least = body.saturating_mul(4);
        if bytes < least {
            self.errors.push(format!(
                "MAX_BYTES_IN_FLIGHT: expected at least {least}, 4 times MAX_BODY_BYTES, found {bytes}"
            ));
        }
        Some(bytes)
    }

    fn number<T>(&mut self, name: &'static str, min: T, max: T) -> Option<T>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let value = self.value(name)?;
        match value.parse::<T>() {
            Ok(number) if number >= min && number <= max => Some(number),
            _ => {
                self.errors.push(format!(
                    "{name}: expected a whole number from {min} to {max}, found {value:?}"
                ));
                None
            }
        }
    }

    fn decimal(&mut self, name: &'static str, within: RangeInclusive<f32>) -> Option<f32> {
        let value = self.value(name)?;
        let number = value.parse::<f32>().ok().filter(|number| within.contains(number));
        if number.is_none() {
            // The smallest number above 0 stands for what is open at 0.
            let (from, least) =
                if *within.start() > 0.0 { ("above", 0.0) } else { ("from", *within.start()) };
            self.errors.push(format!(
                "{name}: expected a number {from} {least} to {}, found {value:?}",
                within.end()
            ));
        }
        number
    }

    fn seconds(&mut self, name: &'static str) -> Duration {
        let value = self.text(name);
        let seconds =
            value.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        // Beyond a day a timer's deadline stops meaning anything, and may overflow.
        seconds.filter(|seconds| *seconds <= Duration::from_hours(24)).unwrap_or_else(|| {
            self.errors.push(format!("{name}: expected seconds from 0 to 86400, found {value:?}"));
            Duration::ZERO
        })
    }

    fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.value(name)?;
        let found = choices.iter().find(|(choice, _)| value.eq_ignore_ascii_case(choice));
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            self.errors.push(format!("{name}: expected {}, found {value:?}", names.join(" or ")));
        }
        found.map(|&(_, value)| value)
    }
}

/// Whether `DEVICE` names one of these kinds of devices.
fn names_device(name: &str, kinds: &[&str]) -> bool {
    match name.split_once(':') {
        _ if name == "auto" => true,
        None => kinds.contains(&name),
        Some((kind, number)) => {
            kind == "cuda"
                && kinds.contains(&kind)
                && number.bytes().all(|byte| byte.is_ascii_digit())
                && number.parse::<u16>().is_ok()
        }
    }
}

/// Whether a browser can send this as the origin of a page: a scheme, a host in small letters, and
/// a port that is not the scheme's own.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        // `null` is the origin of pages from files and from sandboxes.
        return matches!(origin, "*" | "null");
    };
    let of_scheme = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.');
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = |port: &str| {
        let own = match scheme {
            "http" => "80",
            "https" => "443",
            _ => "",
        };
        port != own && port.parse::<u16>().is_ok_and(|number| number.to_string() == port)
    };
    scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(of_scheme)
        && is_host(host)
        && port.is_none_or(is_port)
}

/// Whether it is a host as browsers write it: a name in small letters, or an address in its usual
/// form.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address
            .parse::<std::net::Ipv6Addr>()
            .is_ok_and(|found| found.to_string() == address);
    }
    // Whatever ends in a number is read as an address by browsers, in any of its forms.
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
        || last.starts_with("0x");
    if is_number {
        return host.parse::<std::net::Ipv4Addr>().is_ok();
    }
    let of_label = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    let mut labels = host.split('.');
    labels.all(|label| !label.is_empty() && label.bytes().all(of_label))
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn origins_are_what_browsers_send() {
        for origin in [
            "*",
            "null",
            "https://app.example",
            "http://localhost:5173",
            "http://[::1]:3000",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
            "http://127.0.0.1:5173",
            "http://localhost:443",
            "https://a.example:80",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for origin in [
            "app.example",
            "https://app.example/",
            "https://app.example/path",
            "https://App.example",
            "HTTPS://app.example",
            "https://user@app.example",
            "https://*.example/*",
            "https://*.example.com",
            "https://a.example:443",
            "http://a.example:80",
            "https://a.example:99999",
            "https://a.example:0443",
            "https://a.example:",
            "http://127.1",
            "http://0x7f.1",
            "https://a..b",
            "http://[::0001]",
            "https://",
            "a\nb",
            "",
        ] {
            assert!(!is_origin(origin), "{origin}");
        }
    }
}
