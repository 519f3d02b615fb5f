//! The metrics of Text Embeddings Inference under its own names, for dashboards and scalers that
//! were made for it.
//!
//! Counters keep its names without the `_total` that the format `OpenMetrics` wants of counters, so
//! they are written as gauges: a query by name finds them, and `rate` reads them as before. They
//! count what our own metrics count; a text is one document or input, and scores are what TEI calls
//! predictions. What it tells of the batches it forms has no counterpart here.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::models::usage::{TeiCounter, Times, Usage};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    err: &'static str,
}

/// See the module page.
#[derive(Debug)]
pub(crate) struct Tei {
    pub(super) registry: Registry,
    request_count: Family<MethodLabels, Gauge>,
    request_success: Family<MethodLabels, Gauge>,
    request_failure: Family<FailureLabels, Gauge>,
    request_duration: Histogram,
    request_tokenization_duration: Histogram,
    request_queue_duration: Histogram,
    request_inference_duration: Histogram,
    request_input_length: Histogram,
    embed_count: Gauge,
    embed_success: Gauge,
    predict_count: Gauge,
    predict_success: Gauge,
    pub(crate) queue_size: Gauge,
}

/// TEI's own: 15 us to 15 s, each half as long again as the one before.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.000_015, 1.5, 35))
}

impl Tei {
    pub(super) fn new() -> Self {
        let tei = Self {
            registry: Registry::with_prefix("te"),
            request_count: Family::default(),
            request_success: Family::default(),
            request_failure: Family::default(),
            request_duration: durations(),
            request_tokenization_duration: durations(),
            request_queue_duration: durations(),
            request_inference_duration: durations(),
            // 1 to 2^19 tokens.
            request_input_length: Histogram::new(exponential_buckets(1.0, 2.0, 20)),
            embed_count: Gauge::default(),
            embed_success: Gauge::default(),
            predict_count: Gauge::default(),
            predict_success: Gauge::default(),
            queue_size: Gauge::default(),
        };
        tei.registered()
    }

    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        r.register("request_count", "TEI: requests", self.request_count.clone());
        r.register("request_success", "TEI: requests answered", self.request_success.clone());
        r.register("request_failure", "TEI: requests refused", self.request_failure.clone());
        for (name, about, histogram) in [
            ("request_duration", "TEI: seconds of a request", &self.request_duration),
            (
                "request_tokenization_duration",
                "TEI: seconds of tokenising a request",
                &self.request_tokenization_duration,
            ),
            (
                "request_queue_duration",
                "TEI: seconds of a request in the queue",
                &self.request_queue_duration,
            ),
            (
                "request_inference_duration",
                "TEI: seconds of a request in the model",
                &self.request_inference_duration,
            ),
            ("request_input_length", "TEI: tokens of a text", &self.request_input_length),
        ] {
            r.register(name, about, histogram.clone());
        }
        for (name, about, gauge) in [
            ("embed_count", "TEI: texts to embed", &self.embed_count),
            ("embed_success", "TEI: texts embedded", &self.embed_success),
            ("predict_count", "TEI: pairs to score", &self.predict_count),
            ("predict_success", "TEI: pairs scored", &self.predict_success),
            ("queue_size", "TEI: requests in the queue", &self.queue_size),
        ] {
            r.register(name, about, gauge.clone());
        }
        self
    }

    /// Notes what came of a job.
    pub(super) fn ran(&self, times: &Times, usage: &Usage) {
        let (count, success) = match usage.tei {
            Some(TeiCounter::Predict) => (&self.predict_count, &self.predict_success),
            Some(TeiCounter::Embed) => (&self.embed_count, &self.embed_success),
            None => return,
        };
        let items = i64::try_from(usage.items()).unwrap_or(i64::MAX);
        count.inc_by(items);
        success.inc_by(items);
        for &length in &usage.lengths {
            self.request_input_length.observe(length as f64);
        }
        let method = MethodLabels { method: if items == 1 { "single" } else { "batch" } };
        self.request_count.get_or_create(&method).inc();
        self.request_success.get_or_create(&method).inc();
        let seconds = |histogram: &Histogram, time: Duration| histogram.observe(time.as_secs_f64());
        seconds(&self.request_queue_duration, times.queue);
        seconds(&self.request_tokenization_duration, times.tokenize);
        seconds(&self.request_inference_duration, times.inference);
        seconds(&self.request_duration, times.queue + times.tokenize + times.inference);
    }

    /// Notes an answer that is a refusal, by its status.
    pub(super) fn answered(&self, code: u16) {
        let err = match code {
            400 | 413 | 422 => "validation",
            429 => "overloaded",
            500 | 504 => "inference",
            _ => return,
        };
        self.request_failure.get_or_create(&FailureLabels { err }).inc();
    }
}
