//! The GPU kernels on the CPU, for tests: the same sources, compiled by the system's C++ compiler, with every access
//! checked.
//!
//! A card is rarely at hand, and where one is, it tells little: a read past an array's end finds what happens to lie
//! there, and a missing barrier gives right answers for months. So the kernels are written in a few names
//! (`kernels/defrost.cuh`) that have two meanings. nvcc takes the CUDA one; here they are calls of a runtime that
//! knows what each thread does.
//!
//! ```text
//! build.rs             compiles ../kernels/*.cu, planted/*.cu and tests/kernels/*.cu, and the runtime
//! include/             the names: arithmetic.h  halves.h  memory.h  warp.h; runtime.h is what they ask of the runtime
//! src/device.cpp       memory: allocations that lie far apart, and what was released
//! src/machine.cpp      a launch: blocks, threads as fibres (fiber.cpp), barriers, faults
//! src/access.cpp       bounds, alignment, asynchronous copies
//! src/shadow.cpp       who touched which bytes, and when: races
//! src/warp.cpp         shuffles, votes: where lanes meet; tensor.cpp: mma and ldmatrix
//! src/ffi.cpp ffi.rs   the way here
//! ```
//!
//! A launch runs on the thread that asks for it, block by block; several threads may run launches of one device at a
//! time. The threads of a block are fibres: each runs until it must wait for others, and which goes on next is drawn
//! from the seed, as the order of the blocks is. Odd seeds let some threads run far ahead of the others.
//!
//! # What is found
//! With every seed, because it does not depend on the order:
//! - an access outside of an allocation, in a released one, outside of its [part of shared
//!   memory](FaultKind::OutOfBounds), or at an address that the size of the element or vector [does not
//!   divide](FaultKind::Misaligned);
//! - a [race](FaultKind::Race): two threads touch the same bytes, one at least writes, and no `__syncthreads` is
//!   between, or no `__syncwarp` if they are lanes of one warp; in global memory also two blocks of one launch. A
//!   shuffle orders nothing. Threads that write the same value to the same place race too;
//! - a read through a `View<const T>` of what the same launch [wrote](FaultKind::ReadOnly): a card may answer from a
//!   cache;
//! - shared memory that is touched while an [asynchronous copy](FaultKind::InFlight) to it is under way. Copies land
//!   at the `copy_wait` that must wait for them, never before; what is filled with zeros is not read;
//! - lanes that come to [different](FaultKind::Lanes) collectives or lines, or with masks that do not fit; a shuffle
//!   from a lane that the mask leaves out; a collective or barrier that waits [for ever](FaultKind::Deadlock), also
//!   for threads that have ended (a card lets those be; no kernel of ours should depend on it);
//! - geometries, parameters and shared memory that a card would [refuse](FaultKind::Launch).
//!
//! A launch ends with its first fault. The text names kernel, block, thread, the line where the thread last met
//! others, and the other thread or the allocation in question.
//!
//! By the answer, as fresh memory, global and shared, holds NaNs in every type: reads of what nobody wrote.
//!
//! [`Emulator::without`] leaves out the barriers of one line, and [`Emulator::with_wrong_lanes`] mixes lanes up in
//! one, so that a test can tell that each of them matters, and that a fault there would be found.
//!
//! # What is not
//! - Time: nothing here says how fast a kernel is. Uncoalesced accesses are no faults, nor are bank conflicts, of which
//!   [`Emulator::bank_conflicts`] counts those of `ldmatrix`.
//! - Last bits: exponentials and the like are the host's, exact to its last bit or nearly so, and sums of products
//!   are rounded in the order of k, where tensor cores keep other bits. Conversions to and from 16 bits, integers and
//!   int8 products are equal.
//! - A float that is turned into an integer and is a NaN or too large: a card takes 0 or the nearest integer, the CPU
//!   another. (`__float2int_rn` is the card's.)
//! - What nvcc makes of a source: registers, spills, what it contracts to one rounding.
//! - The interior of a lane's instruction: a vector of 16 bytes is read at once, and asynchronous copies read their
//!   source when they start, though a card may read it later.
//! - A race between readers of one warp that were ordered in part by `__syncwarp` with different masks, in some
//!   cases.
//! - Endless loops, and stacks of more than 256 KiB, which end the process.
//! - The host: what it writes while a launch reads it is for the device's streams to order.
//!
//! # Adding a kernel
//! A `DEFROST_KERNEL` in a new file in `kernels/` is found by its name after the next build. Names are those of all
//! files, so planted faults are called `planted_...` and kernels of tests `test_...`.

mod fault;
mod ffi;

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ffi::Plant;

pub use fault::{Fault, FaultKind};

/// Memory of a device that is not limited otherwise: more than any test should take.
const MEMORY: u64 = 8 << 30;

/// Shared memory that a block can have on every card that the kernels are built for: 99 KiB, of compute capability
/// 8.6 and 8.9.
const SHARED: u32 = 99 << 10;

/// An emulated device. Clones are the same device.
#[derive(Debug, Clone)]
pub struct Emulator {
    device: Arc<ffi::Device>,
    bank_conflicts: Arc<AtomicU64>,
    planted: Option<Arc<Planted>>,
}

/// A line with a fault in it, and how often a thread came there.
#[derive(Debug)]
struct Planted {
    plant: Plant,
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
        Self {
            device: Arc::new(ffi::Device::new(memory, shared)),
            bank_conflicts: Arc::default(),
            planted: None,
        }
    }

    /// The same device, on which each `__syncthreads`, `__syncwarp` and `copy_wait` of one line of the sources does
    /// nothing. A launch that comes there ends with a fault if it matters. `file` is a name without folders.
    ///
    /// # Panics
    /// If that is no name, or no line.
    #[must_use]
    pub fn without(&self, file: &str, line: usize) -> Self {
        self.plant(Plant::LeaveOut, file, line)
    }

    /// The same device, on which shuffles, `ldmatrix` and products of one line take from each lane what its neighbour
    /// (of a pair) should give. No launch ends with a fault for that, and answers are wrong.
    ///
    /// # Panics
    /// If that is no name, or no line.
    #[must_use]
    pub fn with_wrong_lanes(&self, file: &str, line: usize) -> Self {
        self.plant(Plant::WrongLane, file, line)
    }

    fn plant(&self, plant: Plant, file: &str, line: usize) -> Self {
        let planted = Planted {
            plant,
            file: CString::new(file).expect("a name has no 0 in it"),
            line: i32::try_from(line).expect("a line's number is small"),
            times: AtomicU64::new(0),
        };
        Self { planted: Some(Arc::new(planted)), ..self.clone() }
    }

    /// How often launches came to the line in which this device has a fault.
    pub fn times_planted(&self) -> u64 {
        self.planted.as_ref().map_or(0, |planted| planted.times.load(Ordering::Relaxed))
    }

    /// The passes that `ldmatrix` took beyond one for each matrix, in all launches so far: 0 if its rows always lay in
    /// different banks.
    pub fn bank_conflicts(&self) -> u64 {
        self.bank_conflicts.load(Ordering::Relaxed)
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
        let planted = self.planted.as_deref();
        let (counts, done) = self.device.launch(&ffi::Launch {
            kernel,
            grid,
            block,
            shared,
            params,
            seed,
            planted: planted.map(|Planted { plant, file, line, .. }| ffi::Planted {
                plant: *plant,
                file,
                line: *line,
            }),
        });
        self.bank_conflicts.fetch_add(counts.bank_conflicts, Ordering::Relaxed);
        if let Some(planted) = planted {
            planted.times.fetch_add(counts.planted, Ordering::Relaxed);
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
