//! Which device is meant by `DEVICE`, and the one that a process has opened.
//!
//! All models of a process are on one device, which is opened once. That is begun as soon as the settings are known: a
//! context takes a quarter of a second and needs nothing of the model.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use defrost_model::runtime::DeviceGauge;

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

/// The device of a process, from the first word about it on.
#[derive(Debug)]
pub struct Opening {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Closed,
    /// Being opened by a thread.
    Begun(Named, JoinHandle<Result<Arc<dyn Device>, Error>>),
    Open(Named, Arc<dyn Device>),
    Failed(Error),
}

impl Opening {
    /// No device yet.
    pub const fn new() -> Self {
        Self { state: Mutex::new(State::Closed) }
    }

    /// Begins to open the device of that name, of none the first card. To be called while the process has one thread, if
    /// other cards are to be hidden from the driver, which is the faster for it.
    ///
    /// # Errors
    /// If there is no such device, as far as that is seen at once.
    pub fn begin(&self, name: Option<&str>) -> Result<(), Error> {
        let named = named(name)?;
        let mut state = self.state();
        if !matches!(*state, State::Closed) {
            return Ok(());
        }
        #[cfg(feature = "cuda")]
        let own = match named {
            Named::Cuda(card) => {
                super::cuda::library()?;
                Named::Cuda(super::cuda::narrow(card))
            }
            Named::Emulated => named,
        };
        #[cfg(not(feature = "cuda"))]
        let own = named;
        let work = move || open(own);
        *state = match thread::Builder::new().name("device".into()).spawn(work) {
            Ok(thread) => State::Begun(named, thread),
            // Without the thread, it is opened here.
            Err(_) => State::Open(named, open(own)?),
        };
        Ok(())
    }

    /// The device of that name: the one that is being opened, or that is open.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none, nothing that runs on it, or if the process has another one.
    pub fn device(&self, name: Option<&str>) -> Result<Arc<dyn Device>, Error> {
        let wanted = named(name)?;
        self.begin(name)?;
        let mut state = self.state();
        let gone = || Error::Missing("the thread that opens the device has failed".to_owned());
        *state = match std::mem::replace(&mut *state, State::Closed) {
            State::Begun(named, thread) => match thread.join().unwrap_or_else(|_| Err(gone())) {
                Ok(device) => State::Open(named, device),
                Err(error) => State::Failed(error),
            },
            other => other,
        };
        match &*state {
            State::Open(named, device) if *named == wanted => Ok(Arc::clone(device)),
            State::Open(named, _) => Err(Error::Missing(format!(
                "DEVICE: {wanted:?} is asked for, and this process has {named:?} already"
            ))),
            State::Failed(error) => Err(error.clone()),
            State::Begun(..) | State::Closed => Err(Error::Missing("no device".to_owned())),
        }
    }

    /// What the device does at the moment; nothing before it is open.
    pub fn gauges(&self) -> Vec<DeviceGauge> {
        let device = match &*self.state() {
            State::Open(_, device) => Arc::clone(device),
            _ => return Vec::new(),
        };
        device.gauges()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Opening {
    fn default() -> Self {
        Self::new()
    }
}

fn named(name: Option<&str>) -> Result<Named, Error> {
    Named::parse(name.unwrap_or("auto")).map_err(|why| Error::Missing(format!("DEVICE: {why}")))
}

fn open(named: Named) -> Result<Arc<dyn Device>, Error> {
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
