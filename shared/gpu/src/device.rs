//! What a forward pass needs of a device: memory, pinned buffers, streams, launches, events and graphs. Nothing else.
//!
//! ```text
//! Device --allocate--> Memory     addresses, given back when dropped
//!        --pinned----> Pinned     host memory that the device copies from while the host goes on
//!        --event-----> Event      a point in a stream, which others wait for and which tells the time
//!        --stream----> Stream     upload, write, zero, launch, record, wait, in order; download and synchronize wait
//!                        `--capture--> Graph    the launches of a closure, started again as one
//! ```
//!
//! There are two: `cuda`, a card through its driver, and `emulated`, the CPU, for tests. Both keep the driver's rules:
//!
//! * Work of a stream runs in order, some time after the call that asked for it. Streams know nothing of each other,
//!   except where one waits for an event that another records.
//! * So an error may be told by a later call than the one that asked for the work.
//! * All of it may be called from any thread; a stream is used by one thread at a time.
//!
//! All of it is safe to call. Copies are checked against what is allocated, and a [`Pinned`] buffer waits for the copies
//! from it before the host may write it or give it back. What a kernel reads and writes is in its parameters, which are
//! plain numbers here, so kernels are trusted as the engine's own are. The emulator, which looks up every access of every
//! thread, is what that trust is founded on.

#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(feature = "emulated")]
pub mod emulated;
#[cfg(feature = "cuda")]
mod nvml;
mod open;

use std::any::Any;
#[cfg(any(feature = "cuda", feature = "emulated"))]
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use defrost_model::runtime::DeviceGauge;

use crate::{Address, Launch};

pub use open::{Named, Opening};

/// The name of the function that serves the same models without a GPU, for messages.
pub const WITHOUT_A_GPU: &str = "rerank-cpu-int8";

/// What the metrics of every kind of device say of themselves.
#[cfg(any(feature = "cuda", feature = "emulated"))]
const UTILIZATION: &str = "Part of the last moment in which kernels ran, in percent";
#[cfg(any(feature = "cuda", feature = "emulated"))]
const MEMORY_USED: &str = "Memory of the device that is in use, by any process";

/// The alignment of every allocation: what CUDA promises, and the size of a line that a warp reads at once, twice.
pub const ALIGNMENT: usize = 256;

/// Why a device did not do what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is not enough memory on the device now. It can be used all the same.
    #[error(
        "out of memory on the device: {wanted} more bytes are needed, {free} of {total} are free"
    )]
    OutOfMemory {
        /// Bytes that were asked for.
        wanted: u64,
        /// Bytes that were free.
        free: u64,
        /// Bytes that the device has.
        total: u64,
    },
    /// The device can be used no more by this process, which therefore ends.
    #[error("the device is lost: {0}")]
    Lost(String),
    /// The device was asked for something that it cannot do: a mistake in what called it.
    #[error("the device refused its work: {0}")]
    Fault(String),
    /// Something that is needed is not there: a driver, a card, kernels for it. In one line what was found, what is needed.
    #[error("{0}")]
    Missing(String),
}

impl From<Error> for defrost_model::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::OutOfMemory { .. } => Self::OutOfMemory(error.to_string()),
            Error::Lost(_) => Self::Lost(error.to_string()),
            Error::Fault(_) | Error::Missing(_) => Self::Model(error.to_string()),
        }
    }
}

/// What a device is and how much of everything it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The name of the card, such as `NVIDIA L4`.
    pub name: String,
    /// The compute capability, such as (8, 9).
    pub capability: (u32, u32),
    /// Multiprocessors, each of which runs some blocks at a time.
    pub multiprocessors: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// The most bytes of shared memory that a block may ask for.
    pub shared: u32,
    /// The driver, such as `CUDA 13.0`.
    pub driver: String,
    /// Whether the times of its events say how fast it is.
    pub is_timed: bool,
}

/// A device, one of those behind `DEVICE`.
pub trait Device: Any + Send + Sync + fmt::Debug {
    /// What it is and has.
    fn limits(&self) -> &Limits;

    /// Bytes of memory that are free now.
    fn free(&self) -> Result<u64, Error>;

    /// Allocates bytes, at a multiple of [`ALIGNMENT`]. [`Memory::new`] is this with an owner.
    fn allocate(&self, bytes: usize) -> Result<Address, Error>;

    /// Gives an allocation back, once all work that was asked for so far is done.
    fn release(&self, at: Address) -> Result<(), Error>;

    /// Page-locked memory of the host.
    fn pinned(&self, bytes: usize) -> Result<Box<dyn Pinned>, Error>;

    /// A new stream.
    fn stream(&self) -> Result<Box<dyn Stream>, Error>;

    /// A new event, which nothing has recorded yet.
    fn event(&self) -> Result<Box<dyn Event>, Error>;

    /// Makes kernels ready whose first launch would take longer than others.
    fn prepare(&self, kernels: &[&'static str]) -> Result<(), Error>;

    /// What opening it was made of.
    fn phases(&self) -> Vec<(&'static str, Duration)>;

    /// What it does at the moment, as far as that can be told.
    fn gauges(&self) -> Vec<DeviceGauge>;
}

/// An allocation of a device, which is given back with the last use of this.
#[derive(Debug)]
pub struct Memory {
    device: Arc<dyn Device>,
    at: Address,
    bytes: usize,
}

impl Memory {
    /// Allocates so many bytes, which may be none.
    pub fn new(device: &Arc<dyn Device>, bytes: usize) -> Result<Self, Error> {
        let at = device.allocate(bytes.max(1))?;
        Ok(Self { device: Arc::clone(device), at, bytes })
    }

    /// Where it begins.
    pub fn address(&self) -> Address {
        self.at
    }

    /// Bytes that were asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A device that cannot take it back is lost, which the next call says.
        let _ = self.device.release(self.at);
    }
}

/// Page-locked memory of the host, from which a device copies while the host does something else.
pub trait Pinned: Any + Send + fmt::Debug {
    /// Bytes.
    fn len(&self) -> usize;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, to be written. Waits until all copies from them are done.
    fn bytes(&mut self) -> Result<&mut [u8], Error>;

    /// Asks a stream to copy these bytes to the device.
    fn upload(
        &mut self,
        stream: &dyn Stream,
        bytes: Range<usize>,
        to: Address,
    ) -> Result<(), Error>;
}

/// A queue of work, done in order.
pub trait Stream: Any + Send + fmt::Debug {
    /// Copies a few bytes, such as the ids of a batch, to the device; they are taken at once, so the caller may change
    /// them afterwards. Not in a capture, which would keep the values.
    fn write(&self, bytes: &[u8], to: Address) -> Result<(), Error>;

    /// Sets bytes to 0.
    fn zero(&self, at: Address, bytes: usize) -> Result<(), Error>;

    /// Starts a kernel.
    fn launch(&self, launch: &Launch) -> Result<(), Error>;

    /// Waits until all work asked for so far is done, then copies bytes from the device. Not in a capture.
    fn download(&self, from: Address, into: &mut [u8]) -> Result<(), Error>;

    /// Records an event: it has happened when all work asked for so far is done. An event that is recorded again means
    /// the later point.
    fn record(&self, event: &dyn Event) -> Result<(), Error>;

    /// Work asked for from now on begins after the point at which the event was last recorded; at once if it never was.
    fn wait(&self, event: &dyn Event) -> Result<(), Error>;

    /// Returns when all work is done.
    fn synchronize(&self) -> Result<(), Error>;

    /// Calls `work`, which may launch kernels and set bytes to 0 on this stream; none of that is run, all of it is kept.
    fn capture(&self, work: &mut dyn FnMut() -> Result<(), Error>)
    -> Result<Box<dyn Graph>, Error>;

    /// Starts what was captured, with the parameters of that time.
    fn start(&self, graph: &dyn Graph) -> Result<(), Error>;
}

/// A point in a stream.
pub trait Event: Any + Send + Sync + fmt::Debug {
    /// Returns when it has happened; at once if it was never recorded.
    fn synchronize(&self) -> Result<(), Error>;

    /// Whether it has happened; also if it was never recorded.
    fn is_done(&self) -> Result<bool, Error>;

    /// The time from an earlier event to this one, both of which have happened.
    fn since(&self, earlier: &dyn Event) -> Result<Duration, Error>;
}

/// Launches that are started as one.
pub trait Graph: Any + Send + fmt::Debug {
    /// Kernels in it.
    fn launches(&self) -> usize;
}

/// Fails if not all of these bytes are inside of one allocation, of those that begin here and have so many bytes.
#[cfg(any(feature = "cuda", feature = "emulated"))]
fn check(allocations: &BTreeMap<u64, usize>, at: Address, bytes: usize) -> Result<(), Error> {
    let before = allocations.range(..=at.0).next_back();
    let left = before.and_then(|(start, len)| len.checked_sub(usize::try_from(at.0 - start).ok()?));
    if bytes == 0 || left.is_some_and(|left| left >= bytes) {
        return Ok(());
    }
    Err(Error::Fault(format!("{bytes} bytes at {:#x} are not inside of an allocation", at.0)))
}

#[cfg(all(test, any(feature = "cuda", feature = "emulated")))]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_inside_of_one_allocation_are_copied() {
        let allocations = BTreeMap::from([(256, 10), (512, 256), (768, 4)]);
        for (at, bytes, inside) in [
            (256, 10, true),
            (256, 11, false),
            (265, 1, true),
            (266, 1, false),
            (0, 1, false),
            (0, 0, true),
            (767, 1, true),
            // Two that touch are two.
            (767, 2, false),
            (771, 1, true),
            (u64::MAX, 1, false),
            (512, usize::MAX, false),
        ] {
            assert_eq!(check(&allocations, Address(at), bytes).is_ok(), inside, "{at} {bytes}");
        }
    }
}
