//! Where candle computes, by `DEVICE`: on the processor or, in builds with the feature `cuda`, on a card.
//!
//! A build for cards needs one: candle links CUDA's libraries, so that without a driver the process does not get as far as to
//! here, and who wants a processor has a smaller binary for it.

use candle_core::{DType, Device, Tensor};
use defrost_model::Error;

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Cpu,
    /// The card of this number among the visible ones.
    Cuda(usize),
}

impl Place {
    /// What a value of `DEVICE` means in this build; `None` is `auto`.
    pub(crate) fn parse(name: Option<&str>) -> Result<Self, Error> {
        Self::of(name.unwrap_or("auto"), cfg!(feature = "cuda")).map_err(failed)
    }

    fn of(name: &str, cuda: bool) -> Result<Self, String> {
        let card = match name {
            "auto" if !cuda => return Ok(Self::Cpu),
            "auto" | "cuda" => Some(0),
            _ => name.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
        };
        match card {
            Some(card) if cuda => Ok(Self::Cuda(card)),
            Some(_) => Err(format!(
                "DEVICE={name}: candle is built in for the CPU only (cargo build --features candle-cuda has it for cards); \
                 leave DEVICE unset"
            )),
            None if cuda => {
                Err(format!("DEVICE: expected auto, cuda or cuda:N (N from 0), found {name:?}"))
            }
            None => Err(format!("DEVICE: expected auto, found {name:?}")),
        }
    }

    /// Whether there is such a place, as far as that can be told without opening it.
    pub(crate) fn check(self) -> Result<(), Error> {
        let Self::Cuda(card) = self else { return Ok(()) };
        #[cfg(feature = "cuda")]
        let counted =
            cudarc::driver::CudaContext::device_count().map_err(|error| error.to_string());
        #[cfg(not(feature = "cuda"))]
        let counted = Ok(0);
        present(card, counted)
    }

    /// Opens it.
    pub(crate) fn open(self) -> Result<Device, Error> {
        self.check()?;
        let Self::Cuda(card) = self else { return Ok(Device::Cpu) };
        let opened = || {
            // One stream for all threads. Candle's usual one is another for each thread, and none waits for what another copies.
            let device = Device::new_cuda_with_stream(card)?;
            // Any kernel: all are compiled for one compute capability and one version of CUDA.
            let one = (Tensor::ones(1, DType::F32, &device)? + 1.0)?;
            one.to_vec1::<f32>()?;
            Ok(device)
        };
        opened().map_err(|error: candle_core::Error| {
            let text = error.to_string();
            let why = text.lines().next().unwrap_or_default();
            failed(format!(
                "cannot compute on card {card}: {why}; candle's kernels were compiled for one compute capability (CUDA_COMPUTE_CAP) \
                 and newer ones, and need a driver for the CUDA that compiled them"
            ))
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(card) => write!(f, "cuda:{card}"),
        }
    }
}

/// Whether a card is among as many as the driver shows to this process.
fn present(card: usize, counted: Result<i32, String>) -> Result<(), Error> {
    let count = counted.map_err(|why| {
        failed(format!(
            "the NVIDIA driver does not start: {why}; BACKEND=candle of a build for cards needs one"
        ))
    })?;
    if usize::try_from(count).is_ok_and(|count| card < count) {
        return Ok(());
    }
    let visible = match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(list) => format!(" (CUDA_VISIBLE_DEVICES={list:?})"),
        Err(_) => String::new(),
    };
    Err(failed(format!(
        "no card {card}: {count} are visible{visible}, counted from 0; DEVICE=cuda:N names one that is there"
    )))
}

fn failed(message: String) -> Error {
    Error::Library { name: "candle", message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for (name, card) in [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)] {
            assert_eq!(Place::of(name, true), Ok(Place::Cuda(card)), "{name}");
        }
        assert_eq!(Place::of("auto", false), Ok(Place::Cpu));
        for name in ["cpu", "mps", "cuda:", "cuda:x", "cuda:-1", "CUDA", "emulated", ""] {
            for (cuda, expected) in
                [(true, "expected auto, cuda or cuda:N"), (false, "expected auto,")]
            {
                let why = Place::of(name, cuda).unwrap_err();
                assert!(
                    why.contains(expected) && why.ends_with(&format!("found {name:?}")),
                    "{why}"
                );
            }
        }
        for name in ["cuda", "cuda:1"] {
            let why = Place::of(name, false).unwrap_err();
            for part in [&*format!("DEVICE={name}"), "--features candle-cuda", "leave DEVICE unset"]
            {
                assert!(why.contains(part), "{why}");
            }
        }
    }

    #[test]
    fn a_card_that_is_not_there_is_told_in_one_line() {
        assert!(present(0, Ok(1)).is_ok() && present(3, Ok(4)).is_ok());
        for (card, counted, parts) in [
            (1, Ok(1), ["no card 1: 1 are visible", "DEVICE=cuda:N"]),
            (0, Ok(0), ["no card 0: 0 are visible", "counted from 0"]),
            (0, Err("CUDA_ERROR_NO_DEVICE".to_owned()), ["CUDA_ERROR_NO_DEVICE", "needs one"]),
        ] {
            let line = present(card, counted).unwrap_err().to_string();
            assert!(line.starts_with("candle: ") && line.lines().count() == 1, "{line}");
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        }
    }
}
