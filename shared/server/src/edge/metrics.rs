//! Prometheus metrics, all named `defrost_…` but for those of the process, which have the usual
//! names, and those of devices; beside them those of [`tei`].

mod devices;
mod generation;
mod json;
mod labels;
mod process;
mod tei;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use self::labels::{ByModel, Histograms, KindLabels, durations};
use crate::function::Function;
use crate::models::info::Info;
use crate::models::usage::{Load, Times, Usage};

type Seconds = Gauge<f64, AtomicU64>;

/// Content type of [`Metrics::encode`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Content type of [`plain`].
pub(crate) const PLAIN_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `OpenMetrics` in Prometheus's older text format, in which a counter's name ends with `_total`
/// where it is declared too, and there are neither units nor an end.
pub(crate) fn plain(open: &str) -> String {
    let mut written = String::with_capacity(open.len() + open.len() / 32);
    let mut help: Option<(&str, &str)> = None;
    for line in open.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        // The help of a metric comes before its type.
        if let Some(declared) = line.strip_prefix("# HELP ") {
            help = declared.split_once(' ');
            continue;
        }
        let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|declared| declared.split_once(' '))
        else {
            written.push_str(line);
            written.push('\n');
            continue;
        };
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        if let Some((_, help)) = help.take() {
            written.extend(["# HELP ", &name, " ", help, "\n"]);
        }
        written.extend(["# TYPE ", &name, " ", kind, "\n"]);
    }
    written
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    function: &'static str,
    version: &'static str,
    backend: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: String,
    family: String,
    precision: String,
    kernel: &'static str,
    snapshot: String,
}

impl ModelLabels {
    fn of(info: &Info) -> Self {
        Self {
            model: info.name.clone(),
            family: info.family.clone(),
            precision: info.precision.clone(),
            kernel: info.kernel,
            snapshot: info.snapshot.clone(),
        }
    }
}

/// The metrics of one function.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    process: Registry,
    /// The metrics under the names of Text Embeddings Inference.
    pub(crate) tei: tei::Tei,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<RouteLabels, Histogram, fn() -> Histogram>,
    queue_duration: Histograms,
    tokenize_duration: Histograms,
    inference_duration: Histograms,
    batch_items: Histograms,
    batch_tokens: Histograms,
    tokens: Family<KindLabels, Counter>,
    generation: generation::Generation,
    truncated: Family<ByModel, Counter>,
    pub(crate) cache_hits: Counter,
    pub(crate) cache_misses: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) queue_depth: Gauge,
    pub(crate) inflight: Gauge,
    pub(crate) bytes_in_flight: Gauge,
    model_load: Seconds,
    cold_start: Seconds,
    warmup: Seconds,
    boot_phase: Family<PhaseLabels, Seconds>,
    ready: Gauge,
    restores: Counter,
    restore: Seconds,
    model_info: Family<ModelLabels, Gauge>,
    models_loaded: Gauge,
    evictions: Counter,
}

/// Buckets from 1 to 1,024 documents or inputs.
fn items() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 11))
}

/// Buckets from 1 to 2^20 tokens.
fn token_counts() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 21))
}

impl Metrics {
    pub(crate) fn new(function: &Function) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("defrost"),
            process: Registry::default(),
            tei: tei::Tei::new(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(durations as fn() -> Histogram),
            queue_duration: Family::new_with_constructor(durations),
            tokenize_duration: Family::new_with_constructor(durations),
            inference_duration: Family::new_with_constructor(durations),
            batch_items: Family::new_with_constructor(items),
            batch_tokens: Family::new_with_constructor(token_counts),
            tokens: Family::default(),
            generation: generation::Generation::new(),
            truncated: Family::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            cancelled: Counter::default(),
            queue_depth: Gauge::default(),
            inflight: Gauge::default(),
            bytes_in_flight: Gauge::default(),
            model_load: Seconds::default(),
            cold_start: Seconds::default(),
            warmup: Seconds::default(),
            boot_phase: Family::default(),
            ready: Gauge::default(),
            restores: Counter::default(),
            restore: Seconds::default(),
            model_info: Family::default(),
            models_loaded: Gauge::default(),
            evictions: Counter::default(),
        };
        metrics.registered(function)
    }

    fn registered(mut self, function: &Function) -> Self {
        let build: Family<BuildLabels, Gauge> = Family::default();
        build
            .get_or_create(&BuildLabels {
                function: function.name,
                version: function.version,
                backend: function.backend(),
            })
            .set(1);
        self.process.register_collector(Box::new(process::Process));
        self.process.register_collector(Box::new(devices::Devices(function.runtimes)));
        let r = &mut self.registry;
        // The encoder adds `_total` to counters.
        r.register("requests", "Requests answered", self.requests.clone());
        r.register(
            "request_duration_seconds",
            "Time from request to answer",
            self.request_duration.clone(),
        );
        r.register("queue_duration_seconds", "Time in the queue", self.queue_duration.clone());
        r.register(
            "tokenize_duration_seconds",
            "Time to turn texts into tokens",
            self.tokenize_duration.clone(),
        );
        r.register(
            "inference_duration_seconds",
            "Time in the model",
            self.inference_duration.clone(),
        );
        r.register("batch_items", "Documents or inputs of one request", self.batch_items.clone());
        r.register("batch_tokens", "Tokens of one request", self.batch_tokens.clone());
        r.register("tokens", "Tokens run", self.tokens.clone());
        r.register("truncated", "Documents or inputs cut to fit the model", self.truncated.clone());
        r.register(
            "cancelled",
            "Requests dropped because their client had gone",
            self.cancelled.clone(),
        );
        r.register("cache_hits", "Answers that had been kept", self.cache_hits.clone());
        r.register(
            "cache_misses",
            "Answers that were kept for next time",
            self.cache_misses.clone(),
        );
        r.register("queue_depth", "Requests in the queue", self.queue_depth.clone());
        r.register("inflight", "Requests being handled", self.inflight.clone());
        r.register(
            "bytes_in_flight",
            "Bytes that requests and answers hold",
            self.bytes_in_flight.clone(),
        );
        r.register("model_load_seconds", "Time to restore the model", self.model_load.clone());
        r.register(
            "cold_start_seconds",
            "Time from exec, or from the last restore of a memory snapshot, to ready",
            self.cold_start.clone(),
        );
        r.register("warmup_seconds", "Time of the warm-up run, 0 without one", self.warmup.clone());
        r.register("boot_phase_seconds", "Time of one phase of boot", self.boot_phase.clone());
        r.register("ready", "Whether the model is loaded", self.ready.clone());
        r.register("restores", "Restores of a memory snapshot", self.restores.clone());
        r.register(
            "restore_seconds",
            "Time from the last restore of a memory snapshot to ready, 0 without one",
            self.restore.clone(),
        );
        r.register("build_info", "The running binary", build);
        r.register("model_info", "Each loaded model", self.model_info.clone());
        r.register("models_loaded", "Models that are loaded", self.models_loaded.clone());
        r.register(
            "model_evictions",
            "Models unloaded because another one needed their memory",
            self.evictions.clone(),
        );
        self.generation.register(r);
        self
    }

    pub(crate) fn answered(&self, route: &str, code: u16, duration: Duration) {
        self.tei.answered(code);
        let route = route.to_owned();
        self.requests.get_or_create(&RequestLabels { route: route.clone(), code }).inc();
        self.request_duration.get_or_create(&RouteLabels { route }).observe(duration.as_secs_f64());
    }

    /// Notes what came of a job.
    pub(crate) fn ran(&self, model: &str, times: &Times, usage: &Usage) {
        self.tei.ran(times, usage);
        let (items, tokens) = (usage.items(), usage.tokens());
        let by = ByModel { model: model.to_owned() };
        let observe = |histograms: &Histograms, value| histograms.get_or_create(&by).observe(value);
        observe(&self.queue_duration, times.queue.as_secs_f64());
        observe(&self.tokenize_duration, times.tokenize.as_secs_f64());
        observe(&self.inference_duration, times.inference.as_secs_f64());
        observe(&self.batch_items, items as f64);
        observe(&self.batch_tokens, tokens as f64);
        self.truncated.get_or_create(&by).inc_by(usage.truncated as u64);
        if let Some(done) = &usage.completions {
            self.generation.ran(&self.tokens, &by, times, done);
        }
        let kind = KindLabels { model: by.model, kind: "prompt" };
        self.tokens.get_or_create(&kind).inc_by(tokens as u64);
    }

    /// Notes how busy a model is that generates.
    pub(crate) fn load(&self, model: &str, load: &Load) {
        self.generation.load(model, load);
    }

    pub(crate) fn phase(&self, phase: &'static str, duration: Duration) {
        self.boot_phase.get_or_create(&PhaseLabels { phase }).set(duration.as_secs_f64());
    }

    /// Notes the warm-up among these phases.
    pub(crate) fn warmed(&self, phases: &[(&'static str, Duration)]) {
        for &(phase, time) in phases.iter().filter(|(phase, _)| *phase == "warmup") {
            self.phase(phase, time);
            self.warmup.set(time.as_secs_f64());
        }
    }

    /// Notes the end of boot; `beside` are the phases that went on at the same time as others.
    pub(crate) fn ready(
        &self,
        after: Duration,
        phases: &[(&'static str, Duration)],
        beside: &[&str],
    ) {
        for &(phase, duration) in phases {
            self.phase(phase, duration);
        }
        let not_loading = ["exec", "config", "warmup"];
        let load: Duration = phases
            .iter()
            .filter(|(phase, _)| !not_loading.contains(phase) && !beside.contains(phase))
            .map(|(_, time)| *time)
            .sum();
        self.model_load.set(load.as_secs_f64());
        self.cold_start.set(after.as_secs_f64());
        self.ready.set(1);
    }

    /// Notes that nothing needs to be loaded before a request comes.
    pub(crate) fn lazy(&self) {
        self.ready.set(1);
    }

    /// Notes a model that serves from now on.
    pub(crate) fn loaded(&self, info: &Info) {
        self.models_loaded.inc();
        self.model_info.get_or_create(&ModelLabels::of(info)).set(1);
    }

    /// Notes a model that had to make room.
    pub(crate) fn unloaded(&self, info: &Info) {
        self.models_loaded.dec();
        self.evictions.inc();
        self.model_info.remove(&ModelLabels::of(info));
    }

    /// Notes that a restored process serves. Counts from before the snapshot stay: each copy goes
    /// on from them, and a counter may start anywhere.
    pub(crate) fn restored(&self, after: Duration) {
        self.restores.inc();
        self.restore.set(after.as_secs_f64());
        self.cold_start.set(after.as_secs_f64());
        self.phase("restored", after);
    }

    /// The same as [`Metrics::encode`] as JSON: a list of labels and value for each name.
    pub(crate) fn to_json(&self) -> Result<serde_json::Value, std::fmt::Error> {
        Ok(json::from_text(&self.encode()?))
    }

    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut written = String::new();
        for registry in [&self.registry, &self.process, &self.tei.registry] {
            text::encode_registry(&mut written, registry)?;
        }
        text::encode_eof(&mut written)?;
        Ok(written)
    }
}
