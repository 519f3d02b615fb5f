//! What there is to tell of completions, by model: how long clients wait for the first token and for each later one, what
//! was computed, reused and guessed, and how much of the memory for keys and values is taken.
//!
//! The names that `OpenTelemetry` proposes for the first two (`gen_ai.server.time_to_first_token`,
//! `gen_ai.server.time_per_output_token`) are still in development; these are the same numbers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::labels::{ByModel, Histograms, KindLabels, durations};
use crate::models::usage::{Completions, Load, Times};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    model: String,
    state: &'static str,
}

/// See the module page.
#[derive(Debug)]
pub(super) struct Generation {
    first_token: Histograms,
    later_token: Histograms,
    tokens_per_second: Histograms,
    running: Family<StateLabels, Gauge>,
    kv_tokens: Family<StateLabels, Gauge>,
}

/// Buckets from 0.5 to 8,192 tokens a second.
fn rates() -> Histogram {
    Histogram::new(exponential_buckets(0.5, 2.0, 15))
}

impl Generation {
    pub(super) fn new() -> Self {
        Self {
            first_token: Family::new_with_constructor(durations as fn() -> Histogram),
            later_token: Family::new_with_constructor(durations),
            tokens_per_second: Family::new_with_constructor(rates),
            running: Family::default(),
            kv_tokens: Family::default(),
        }
    }

    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "time_to_first_token_seconds",
            "Time from a request for a completion to its first token",
            self.first_token.clone(),
        );
        r.register(
            "time_per_output_token_seconds",
            "Time between a completion's tokens, on average",
            self.later_token.clone(),
        );
        r.register(
            "output_tokens_per_second",
            "Tokens a second of a request for completions, from its first one on",
            self.tokens_per_second.clone(),
        );
        r.register(
            "generations",
            "Completions that run, or wait for memory or a turn",
            self.running.clone(),
        );
        r.register(
            "kv_tokens",
            "Tokens that there is memory of keys and values for",
            self.kv_tokens.clone(),
        );
    }

    /// Notes completions that are done.
    pub(super) fn ran(
        &self,
        tokens: &Family<KindLabels, Counter>,
        by: &ByModel,
        times: &Times,
        done: &Completions,
    ) {
        let waited = times.tokenize + times.queue + done.prefill;
        self.first_token.get_or_create(by).observe(waited.as_secs_f64());
        let decoding = done.decoding.as_secs_f64();
        // The first token of each is what the prompt gives.
        let later = done.tokens.saturating_sub(1);
        if later > 0 && decoding > 0.0 {
            self.tokens_per_second.get_or_create(by).observe(later as f64 / decoding);
            let of_one = (later as f64 / done.choices.max(1) as f64).max(1.0);
            self.later_token.get_or_create(by).observe(decoding / of_one);
        }
        for (kind, count) in [
            ("cached", done.cached),
            ("completion", done.tokens),
            ("guessed", done.guessed),
            ("accepted", done.accepted),
            ("forced", done.forced),
        ] {
            let labels = KindLabels { model: by.model.clone(), kind };
            tokens.get_or_create(&labels).inc_by(count as u64);
        }
    }

    /// Notes how busy a model is.
    pub(super) fn load(&self, model: &str, load: &Load) {
        let set = |family: &Family<StateLabels, Gauge>, state, count: usize| {
            let labels = StateLabels { model: model.to_owned(), state };
            family.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        set(&self.running, "running", load.running);
        set(&self.running, "waiting", load.waiting);
        set(&self.kv_tokens, "total", load.room.total);
        set(&self.kv_tokens, "held", load.room.held);
        set(&self.kv_tokens, "kept", load.room.kept);
    }
}
