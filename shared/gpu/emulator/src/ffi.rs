//! The C interface of the emulator (`ffi.cpp`).

#![allow(unsafe_code, reason = "the emulator is C++: kernels are, and run on stacks of their own")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use crate::fault::Fault;

#[repr(C)]
struct Opaque {
    _private: [u8; 0],
}

/// `EmulatorLaunch` of `ffi.cpp`.
#[repr(C)]
struct RawLaunch {
    kernel: *const c_char,
    kernel_length: usize,
    grid: [u32; 3],
    block: u32,
    shared: u32,
    params: *const c_void,
    params_length: usize,
    seed: u64,
    plant: c_int,
    file: *const c_char,
    line: c_int,
    times: *mut u64,
    bank_conflicts: *mut u64,
}

unsafe extern "C" {
    fn emulator_device_new(memory: u64, shared: u32) -> *mut Opaque;
    fn emulator_device_free(device: *mut Opaque);
    fn emulator_allocate(
        device: *mut Opaque,
        bytes: u64,
        address: *mut u64,
        text: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn emulator_release(
        device: *mut Opaque,
        address: u64,
        text: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn emulator_write(
        device: *mut Opaque,
        address: u64,
        from: *const c_void,
        bytes: u64,
        text: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn emulator_read(
        device: *mut Opaque,
        address: u64,
        to: *mut c_void,
        bytes: u64,
        text: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn emulator_in_use(device: *mut Opaque) -> u64;
    fn emulator_launch(
        device: *mut Opaque,
        launch: *const RawLaunch,
        text: *mut c_char,
        capacity: usize,
    ) -> c_int;
    fn emulator_kernel_name(number: usize) -> *const c_char;
}

/// Bytes for the text of a fault: a line of a few hundred, with room.
const TEXT: usize = 1024;

/// Calls a function that says how it ended, and where its text should go.
fn guarded(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), Fault> {
    let mut text = [0_u8; TEXT];
    match call(text.as_mut_ptr().cast(), TEXT) {
        0 => Ok(()),
        kind => {
            let text = CStr::from_bytes_until_nul(&text).map(CStr::to_string_lossy);
            Err(Fault::new(kind, text.unwrap_or_default().into_owned()))
        }
    }
}

/// A device of the emulator, owned.
#[derive(Debug)]
pub(crate) struct Device(NonNull<Opaque>);

// SAFETY: the device's table of allocations is behind a mutex, an allocation that a launch uses is kept alive by it,
// and all else that a launch writes belongs to the thread that runs it.
unsafe impl Send for Device {}
// SAFETY: as for Send.
unsafe impl Sync for Device {}

impl Device {
    pub(crate) fn new(memory: u64, shared: u32) -> Self {
        // SAFETY: it takes two numbers, and returns an owned device or null.
        let device = unsafe { emulator_device_new(memory, shared) };
        Self(NonNull::new(device).expect("the host has memory for a table"))
    }

    pub(crate) fn allocate(&self, bytes: u64) -> Result<u64, Fault> {
        let mut address = 0;
        guarded(|text, capacity| {
            // SAFETY: the device lives as long as `self`, and both places that are written are ours during the call.
            unsafe { emulator_allocate(self.0.as_ptr(), bytes, &raw mut address, text, capacity) }
        })?;
        Ok(address)
    }

    pub(crate) fn release(&self, address: u64) -> Result<(), Fault> {
        guarded(|text, capacity| {
            // SAFETY: the device lives as long as `self`; an address that is no allocation's is refused.
            unsafe { emulator_release(self.0.as_ptr(), address, text, capacity) }
        })
    }

    pub(crate) fn write(&self, address: u64, from: &[u8]) -> Result<(), Fault> {
        guarded(|text, capacity| {
            // SAFETY: as many bytes are read as the slice has, and written only if they lie in one allocation, which
            // is memory of the emulator and no object of Rust's.
            unsafe {
                emulator_write(
                    self.0.as_ptr(),
                    address,
                    from.as_ptr().cast(),
                    from.len() as u64,
                    text,
                    capacity,
                )
            }
        })
    }

    pub(crate) fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Fault> {
        guarded(|text, capacity| {
            // SAFETY: as many bytes are written as the slice has, and read only if they lie in one allocation.
            unsafe {
                emulator_read(
                    self.0.as_ptr(),
                    address,
                    to.as_mut_ptr().cast(),
                    to.len() as u64,
                    text,
                    capacity,
                )
            }
        })
    }

    pub(crate) fn in_use(&self) -> u64 {
        // SAFETY: the device lives as long as `self`.
        unsafe { emulator_in_use(self.0.as_ptr()) }
    }

    /// Runs a kernel, and returns what was counted, too.
    pub(crate) fn launch(&self, launch: &Launch<'_>) -> (Counts, Result<(), Fault>) {
        let mut counts = Counts::default();
        let raw = RawLaunch {
            kernel: launch.kernel.as_ptr().cast(),
            kernel_length: launch.kernel.len(),
            grid: launch.grid,
            block: launch.block,
            shared: launch.shared,
            params: launch.params.as_ptr().cast(),
            params_length: launch.params.len(),
            seed: launch.seed,
            plant: launch.planted.map_or(0, |planted| planted.plant as c_int),
            file: launch.planted.map_or(ptr::null(), |planted| planted.file.as_ptr()),
            line: launch.planted.map_or(0, |planted| planted.line),
            times: &raw mut counts.planted,
            bank_conflicts: &raw mut counts.bank_conflicts,
        };
        let done = guarded(|text, capacity| {
            // SAFETY: all that `raw` points to outlives the call, and nothing of it is kept. Parameters are copied,
            // and refused if they are not as long as the kernel's. What the kernel touches is checked to lie in
            // allocations, which the launch keeps alive.
            unsafe { emulator_launch(self.0.as_ptr(), &raw const raw, text, capacity) }
        });
        (counts, done)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: it was made by `emulator_device_new`, and this is its only owner.
        unsafe { emulator_device_free(self.0.as_ptr()) }
    }
}

/// What is wrong with a planted line, as `machine.h` numbers it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plant {
    LeaveOut = 1,
    WrongLane = 2,
}

/// A line, in a file that is named without its folders, with a fault in it.
#[derive(Clone, Copy)]
pub(crate) struct Planted<'a> {
    pub(crate) plant: Plant,
    pub(crate) file: &'a CStr,
    pub(crate) line: c_int,
}

/// What a launch counts.
#[derive(Default)]
pub(crate) struct Counts {
    /// How often threads came to what is planted.
    pub(crate) planted: u64,
    /// Passes that `ldmatrix` took beyond one for each matrix.
    pub(crate) bank_conflicts: u64,
}

/// The arguments of a launch.
pub(crate) struct Launch<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) grid: [u32; 3],
    pub(crate) block: u32,
    pub(crate) shared: u32,
    pub(crate) params: &'a [u8],
    pub(crate) seed: u64,
    pub(crate) planted: Option<Planted<'a>>,
}

/// The names of all kernels, in no order.
pub(crate) fn kernels() -> Vec<String> {
    (0..)
        .map_while(|number| {
            // SAFETY: it returns null or a literal of the kernel's object file.
            let name = NonNull::new(unsafe { emulator_kernel_name(number) }.cast_mut())?;
            // SAFETY: the literal ends with a 0 and lives as long as the process.
            Some(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
        })
        .collect()
}
