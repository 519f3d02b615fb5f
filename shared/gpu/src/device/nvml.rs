//! What a card does at the moment, from NVML: a library of the driver that is opened when it is first asked.
//!
//! Names are those that NVIDIA's own exporters and the benchmarks of other services look for. What the card or the system
//! does not tell (a slice of a card, a container without the library) is left out.

use std::ffi::OsStr;
use std::sync::OnceLock;

use defrost_model::runtime::DeviceGauge;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

use super::{MEMORY_USED, UTILIZATION};

/// The library under the name that containers have; the driver's packages for developers add the other one.
const NAMES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];

fn library() -> Option<&'static Nvml> {
    static OPENED: OnceLock<Option<Nvml>> = OnceLock::new();
    let open =
        || NAMES.iter().find_map(|name| Nvml::builder().lib_path(OsStr::new(name)).init().ok());
    OPENED.get_or_init(open).as_ref()
}

/// The gauges of the card at this place on the bus.
pub(super) fn gauges(bus: &str) -> Vec<DeviceGauge> {
    let Some(card) = library().and_then(|nvml| nvml.device_by_pci_bus_id(bus).ok()) else {
        return Vec::new();
    };
    let labels: Vec<(&'static str, String)> = [
        ("gpu", card.index().ok().map(|index| index.to_string())),
        ("name", card.name().ok()),
        ("uuid", card.uuid().ok()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let memory = card.memory_info().ok();
    let megahertz = |clock| Some(f64::from(card.clock_info(clock).ok()?) * 1e6);
    [
        (
            "nvml_gpu_utilization",
            UTILIZATION,
            card.utilization_rates().ok().map(|now| f64::from(now.gpu)),
        ),
        ("nvml_memory_used_bytes", MEMORY_USED, memory.as_ref().map(|memory| memory.used as f64)),
        (
            "nvml_memory_total_bytes",
            "Memory of the device",
            memory.as_ref().map(|memory| memory.total as f64),
        ),
        ("nvml_sm_clock_hertz", "Clock of the multiprocessors", megahertz(Clock::SM)),
        ("nvml_memory_clock_hertz", "Clock of the memory", megahertz(Clock::Memory)),
        (
            "nvml_power_watts",
            "Power that the card takes",
            card.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1e3),
        ),
        (
            "nvml_temperature_celsius",
            "Temperature of the card",
            card.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
        ),
    ]
    .into_iter()
    .filter_map(|(name, help, value)| {
        Some(DeviceGauge { name, help, labels: labels.clone(), value: value? })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wherever this runs, there is no such place.
    #[test]
    fn a_card_that_nobody_knows_has_no_gauges() {
        assert_eq!(gauges("ffff:ff:1f.7"), []);
    }
}
