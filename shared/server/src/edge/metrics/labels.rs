//! Labels and histograms that several metrics have.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct KindLabels {
    pub(super) model: String,
    pub(super) kind: &'static str,
}

/// The label of what one of several models did.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByModel {
    pub(super) model: String,
}

/// A histogram for each model.
pub(super) type Histograms = Family<ByModel, Histogram, fn() -> Histogram>;

/// Buckets from 50 us to 52 s: from a kept answer, or a short text in a small model, to the largest
/// request on a small machine.
pub(super) fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 21))
}
