//! The GPU kernels on the CPU, for tests.

mod fault;
mod ffi;

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use fault::{Fault, FaultKind};

/// Memory of a device that is not limited otherwise: more than any test should take.
const MEMORY: u64 = 8 << 30;

/// Shared memory that a block can have on every card that the kernels are built for: 99 KiB, of compute capability 8.6 and 8.9.
const SHARED: u32 = 99 << 10;

/// An emulated device. Clones are the same device.
#[derive(Debug, Clone)]
pub struct Emulator {
    device: Arc<ffi::Device>,
    without: Option<Arc<LeftOut>>,
}

/// A line whose barriers and waits do nothing, and how often a thread came to it.
#[derive(Debug)]
struct LeftOut {
    file: CString,
    line: i32,
    times: AtomicU64,
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Emulator {
    /// A device with memory for any test, and the shared memory of the smallest card.
    pub fn new() -> Self {
        Self::with_limits(MEMORY, SHARED)
    }

    /// A device with so many bytes of memory, and of shared memory for a block.
    pub fn with_limits(memory: u64, shared: u32) -> Self {
        Self { device: Arc::new(ffi::Device::new(memory, shared)), without: None }
    }

    /// The same device, on which each `__syncthreads`, `__syncwarp` and `copy_wait` of one line of the sources does nothing: with
    /// a barrier that matters, every launch that comes there ends with a fault. `file` is a name without folders.
    ///
    /// # Panics
    /// If that is no name, or no line.
    #[must_use]
    pub fn without(&self, file: &str, line: usize) -> Self {
        let left_out = LeftOut {
            file: CString::new(file).expect("a name has no 0 in it"),
            line: i32::try_from(line).expect("a line's number is small"),
            times: AtomicU64::new(0),
        };
        Self { device: Arc::clone(&self.device), without: Some(Arc::new(left_out)) }
    }

    /// How often threads came to the line that this device leaves out.
    pub fn times_left_out(&self) -> u64 {
        self.without.as_ref().map_or(0, |left_out| left_out.times.load(Ordering::Relaxed))
    }

    /// Fresh memory, every byte 0xff (a NaN in each float), at a multiple of 256, far from any other.
    ///
    /// # Panics
    /// If there is not so much left, or none is asked for.
    pub fn allocate(&self, bytes: usize) -> u64 {
        self.try_allocate(bytes).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// As [`allocate`](Self::allocate), for a caller that can go on without.
    pub fn try_allocate(&self, bytes: usize) -> Result<u64, Fault> {
        self.device.allocate(bytes as u64)
    }

    /// Gives memory back; what touches it afterwards is a fault.
    ///
    /// # Panics
    /// If no allocation begins at that address.
    pub fn release(&self, address: u64) {
        self.try_release(address).unwrap_or_else(|fault| panic!("{fault}"));
    }

    /// As [`release`](Self::release), for a caller that reports it.
    pub fn try_release(&self, address: u64) -> Result<(), Fault> {
        self.device.release(address)
    }

    /// Copies from the host.
    ///
    /// # Panics
    /// If the bytes do not all lie in one allocation.
    pub fn write(&self, address: u64, from: &[u8]) {
        self.try_write(address, from).unwrap_or_else(|fault| panic!("{fault}"));
    }

    /// As [`write`](Self::write), for a caller that reports it.
    pub fn try_write(&self, address: u64, from: &[u8]) -> Result<(), Fault> {
        self.device.write(address, from)
    }

    /// Copies to the host.
    ///
    /// # Panics
    /// If the bytes do not all lie in one allocation.
    pub fn read(&self, address: u64, to: &mut [u8]) {
        self.try_read(address, to).unwrap_or_else(|fault| panic!("{fault}"));
    }

    /// As [`read`](Self::read), for a caller that reports it.
    pub fn try_read(&self, address: u64, to: &mut [u8]) -> Result<(), Fault> {
        self.device.read(address, to)
    }

    /// Bytes that are allocated.
    pub fn in_use(&self) -> u64 {
        self.device.in_use()
    }

    /// Runs a kernel to its end, with the order of threads and blocks that `seed` gives.
    pub fn launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: u32,
        shared: u32,
        params: &[u8],
        seed: u64,
    ) -> Result<(), Fault> {
        let without = self.without.as_deref();
        let (times, done) = self.device.launch(&ffi::Launch {
            kernel,
            grid,
            block,
            shared,
            params,
            seed,
            without: without.map(|left_out| (left_out.file.as_c_str(), left_out.line)),
        });
        if let Some(left_out) = without {
            left_out.times.fetch_add(times, Ordering::Relaxed);
        }
        done
    }
}

/// The names of all kernels that were compiled, sorted.
pub fn kernels() -> Vec<String> {
    let mut names = ffi::kernels();
    names.sort_unstable();
    names
}
