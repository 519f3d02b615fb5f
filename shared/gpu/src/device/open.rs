//! Which device is meant by `DEVICE`.

use std::sync::Arc;

use super::{Device, Error, WITHOUT_A_GPU};

/// A device by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The card of this number among the visible ones.
    Cuda(u32),
    /// The CPU, in builds for tests.
    Emulated,
}

impl Named {
    /// What a value of `DEVICE` means: `auto` and `cuda` are the first card, `cuda:N` another.
    ///
    /// # Errors
    /// If it is no device of this build, with what is expected.
    pub fn parse(name: &str) -> Result<Self, String> {
        let emulated = if cfg!(feature = "emulated") { ", or emulated" } else { "" };
        let refused = || {
            format!(
                "expected auto, cuda or cuda:N (N from 0){emulated}, found {name:?}; `{WITHOUT_A_GPU}` runs on the CPU"
            )
        };
        match name {
            "auto" | "cuda" => Ok(Self::Cuda(0)),
            "emulated" if cfg!(feature = "emulated") => Ok(Self::Emulated),
            _ => {
                let number = name.strip_prefix("cuda:").ok_or_else(refused)?;
                number.parse().map(Self::Cuda).map_err(|_| refused())
            }
        }
    }
}

/// Opens the device of that name, of none the first card.
///
/// # Errors
/// [`Error::Missing`] if there is none, or nothing that runs on it.
pub fn open(name: Option<&str>) -> Result<Arc<dyn Device>, Error> {
    let named = Named::parse(name.unwrap_or("auto"))
        .map_err(|why| Error::Missing(format!("DEVICE: {why}")))?;
    match named {
        #[cfg(feature = "cuda")]
        Named::Cuda(card) => Ok(Arc::new(super::cuda::open(card)?)),
        #[cfg(not(feature = "cuda"))]
        Named::Cuda(_) => Err(Error::Missing(format!(
            "this binary was built without the feature `cuda` (cargo build --features cuda,cubins); `{WITHOUT_A_GPU}` runs \
             without a GPU"
        ))),
        #[cfg(feature = "emulated")]
        Named::Emulated => {
            let settings = super::emulated::Settings::from_env()?;
            Ok(Arc::new(super::emulated::Emulated::new(settings)))
        }
        #[cfg(not(feature = "emulated"))]
        Named::Emulated => Err(Error::Missing("the emulator is not built in".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for (name, card) in [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)] {
            assert_eq!(Named::parse(name), Ok(Named::Cuda(card)), "{name}");
        }
        for name in ["cpu", "mps", "cuda:", "cuda:x", "cuda:-1", "CUDA", ""] {
            let why = Named::parse(name).unwrap_err();
            assert!(why.contains("cuda:N") && why.contains(WITHOUT_A_GPU), "{why}");
        }
        assert_eq!(Named::parse("emulated").is_ok(), cfg!(feature = "emulated"));
    }
}
