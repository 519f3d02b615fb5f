//! What the devices of runtimes tell of themselves, asked at each scrape.

use std::collections::BTreeMap;
use std::fmt::Error;

use defrost_model::Runtime;
use defrost_model::runtime::DeviceGauge;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// The runtimes of a function.
#[derive(Debug)]
pub(super) struct Devices(pub(super) &'static [&'static dyn Runtime]);

impl Collector for Devices {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        // A metric is declared once, whatever number of devices have it.
        let mut by_name: BTreeMap<&str, Vec<DeviceGauge>> = BTreeMap::new();
        for gauge in self.0.iter().flat_map(|runtime| runtime.gauges()) {
            by_name.entry(gauge.name).or_default().push(gauge);
        }
        for (name, gauges) in by_name {
            let help = gauges.first().map_or("", |gauge| gauge.help);
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for gauge in &gauges {
                ConstGauge::new(gauge.value).encode(metric.encode_family(&gauge.labels)?)?;
            }
        }
        Ok(())
    }
}
