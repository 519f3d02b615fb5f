//! A card, through its driver's library, which is opened when a device is: a machine without one can still say so.
//!
//! ```text
//! open: libcuda.so.1 -> version -> cuInit -> the one card -> capability -> its cubins ┬-> modules -> kernels, each when first used
//!                                                                     primary context ┘
//! ```
//!
//! This file holds all of this crate's `unsafe`, which is calls of the driver. Arguments that hold for all of them:
//!
//! * The library stays open for ever ([`library`] forgets it), so its functions can be called, and each of them is looked
//!   up by `cudarc` under the name and type that CUDA's header gives it. All that are used here are in every driver since
//!   CUDA 11.4; [`open`] asks for a newer one before it calls any.
//! * `cudarc` reads results into an enum of the codes of CUDA 12.9. Codes that are newer belong to features that are not
//!   used here.
//! * Handles (context, module, functions, streams, events, graphs) are made by the driver, owned by one value each, and
//!   destroyed once, when that is dropped; each of them holds the `Context`, which is released after all of them. The
//!   driver lets any thread use them, so they are `Send`. `Context::enter` makes the context current before each call.
//! * Memory of the device is named by numbers. Copies to and from it are made only within live allocations
//!   (`Context::check`), so that none can hit the host's memory, which has numbers in the same space. What kernels touch
//!   is as the page of [`crate::device`] says.
//! * Memory of the host that the driver reads after a call has returned is a `PinnedMemory`, which waits before it is
//!   written or freed.

#![allow(unsafe_code, reason = "the driver is a C library")]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUresult as Code};

use defrost_model::runtime::DeviceGauge;

use super::{ALIGNMENT, Device, Error, Event, Graph, Limits, Pinned, Stream, WITHOUT_A_GPU};
use crate::cubins::{self, Version};
use crate::{Address, Launch};

/// The lowest capability that has what the kernels need: `mma` of bf16 and `cp.async`.
const OLDEST: (u32, u32) = (8, 0);

/// The least of a driver: below it, kernels would have to be loaded whole at once.
const OLDEST_DRIVER: Version = Version { major: 11, minor: 7 };

/// Bytes of each half of the buffer through which [`Stream::write`] goes: a batch's ids and tables are some 100 KiB.
const STAGED: usize = 256 << 10;

/// A card that is ready to be used.
#[derive(Debug)]
pub struct Cuda {
    context: Arc<Context>,
    limits: Limits,
    /// Where the card is on the bus, such as `0000:3B:00.0`: what other libraries of the driver know it by.
    bus: String,
    phases: Vec<(&'static str, Duration)>,
}

/// Leaves only the card of this number visible to the driver, and returns the number that it then has.
///
/// The first client of a driver sets up all visible cards, which takes longer the more there are. The variable that hides
/// them is the process's environment, which other threads may be reading, so it is set only while there are none.
pub fn narrow(card: u32) -> u32 {
    const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if !alone {
        return card;
    }
    let visible = std::env::var(VISIBLE).ok();
    let Some(only) = narrowed(visible.as_deref(), card) else { return card };
    // SAFETY: this is the only thread of the process, so no other reads or writes the environment.
    unsafe { std::env::set_var(VISIBLE, only) };
    0
}

/// The value that leaves the card of this number of those that are visible; `None` where there is no such card.
fn narrowed(visible: Option<&str>, card: u32) -> Option<String> {
    match visible {
        None => Some(card.to_string()),
        Some(list) => {
            let of_list = list.split(',').map(str::trim).nth(card as usize)?;
            // What the driver takes for the end of the list.
            (!of_list.is_empty() && of_list != "-1").then(|| of_list.to_owned())
        }
    }
}

/// Opens the card of this number among the visible ones.
///
/// # Errors
/// [`Error::Missing`], in one line, if there is no driver, no such card, or no kernels for it.
pub fn open(card: u32) -> Result<Cuda, Error> {
    open_with(card, &|name, capability| {
        let cubin = cubins::of(name, capability)?;
        Ok(Box::new(|| cubin.unpacked()))
    })
}

/// What unpacks the kernels for a card.
pub type Images = Box<dyn FnOnce() -> Result<Vec<Vec<u8>>, Error> + Send>;

/// Finds them by the name and the capability of a card.
pub type Find = dyn Fn(&str, (u32, u32)) -> Result<Images, Error>;

/// As [`open`], with other kernels than the binary's.
///
/// # Errors
/// As [`open`].
#[doc(hidden)]
pub fn open_with(card: u32, find: &Find) -> Result<Cuda, Error> {
    let began = Instant::now();
    library()?;
    let version = driver_version()?;
    let needed = cubins::driver().unwrap_or(OLDEST_DRIVER);
    if version < needed {
        return Err(missing(format!(
            "the NVIDIA driver is too old: it is for CUDA {version}, the kernels of this binary need one for CUDA {needed} or newer"
        )));
    }
    // SAFETY: it may be called at any time, from any thread, and again.
    match unsafe { sys::cuInit(0) } {
        Code::CUDA_SUCCESS => {}
        Code::CUDA_ERROR_NO_DEVICE => return Err(no_card(card, 0)),
        Code::CUDA_ERROR_STUB_LIBRARY => {
            return Err(missing(
                "libcuda.so.1 is the toolkit's stub, not a driver: the directory of stubs must not be in LD_LIBRARY_PATH"
                    .to_owned(),
            ));
        }
        other => {
            return Err(missing(format!("the NVIDIA driver does not start: {}", text(other))));
        }
    }
    let mut count = 0;
    // SAFETY: `count` outlives the call.
    started(unsafe { sys::cuDeviceGetCount(&raw mut count) })?;
    let ordinal = match c_int::try_from(card) {
        Ok(ordinal) if ordinal < count => ordinal,
        _ => return Err(no_card(card, count)),
    };
    let mut device = 0;
    // SAFETY: `device` outlives the call, the number is one of a card.
    started(unsafe { sys::cuDeviceGet(&raw mut device, ordinal) })?;
    let name = spelled(|buffer, len| {
        // SAFETY: the buffer has so many bytes and outlives the call.
        unsafe { sys::cuDeviceGetName(buffer, len, device) }
    })?;
    let bus = spelled(|buffer, len| {
        // SAFETY: as before.
        unsafe { sys::cuDeviceGetPCIBusId(buffer, len, device) }
    })?;
    let attribute = |of| {
        let mut value = 0;
        // SAFETY: `value` outlives the call, `device` is a card's.
        started(unsafe { sys::cuDeviceGetAttribute(&raw mut value, of, device) })?;
        Ok::<_, Error>(u32::try_from(value).unwrap_or(0))
    };
    let capability = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    if capability < OLDEST {
        let ((major, minor), (oldest, of)) = (capability, OLDEST);
        return Err(missing(format!(
            "{name} has compute capability {major}.{minor}, at least {oldest}.{of} is needed (Ampere or newer)"
        )));
    }
    let unpack = find(&name, capability).map_err(missing)?;
    let mut memory = 0;
    // SAFETY: `memory` outlives the call.
    started(unsafe { sys::cuDeviceTotalMem_v2(&raw mut memory, device) })?;
    let limits = Limits {
        name,
        capability,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        memory: memory as u64,
        shared: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        driver: format!("CUDA {version}"),
        is_timed: true,
    };
    // The cubins are unpacked while the context is made, which takes many times as long.
    // Where the system gives no thread, one after the other.
    let unpack = Mutex::new(Some(unpack));
    let unpacked = || match lock(&unpack).take() {
        Some(unpack) => unpack(),
        None => Err(missing("the thread that unpacks the kernels has failed")),
    };
    let (context, images) = std::thread::scope(|scope| {
        let unpacking = std::thread::Builder::new().spawn_scoped(scope, unpacked);
        let context = Context::new(device, limits.memory);
        let images = match unpacking {
            Ok(thread) => thread.join().unwrap_or_else(|_| unpacked()),
            Err(_) => unpacked(),
        };
        (context, images)
    });
    let context = Arc::new(context?);
    let ready = Instant::now();
    context.load(&images?, limits.shared)?;
    let phases = vec![("context", ready - began), ("module", ready.elapsed())];
    Ok(Cuda { context, limits, bus, phases })
}

/// Opens the driver's library, for ever.
///
/// # Errors
/// [`Error::Missing`] if there is none.
pub fn library() -> Result<(), Error> {
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    OPENED
        .get_or_init(|| {
            // SAFETY: a driver's library does nothing on being opened but set itself up; it is never closed.
            let opened = unsafe { libloading::Library::new("libcuda.so.1") };
            // The first reason counts: a file of that name may be there and no library.
            let opened = opened.or_else(|first| {
                // SAFETY: the same library under the name that some images give it.
                unsafe { libloading::Library::new("libcuda.so") }.map_err(|_| first)
            });
            opened.map(std::mem::forget).map_err(|error| {
                let said = std::error::Error::source(&error).map(ToString::to_string);
                said.unwrap_or_else(|| error.to_string())
            })
        })
        .clone()
        .map_err(|error| {
            missing(format!(
                "no NVIDIA driver: libcuda.so.1 cannot be opened ({error}); a driver is needed, and for containers the NVIDIA \
                 container toolkit (docker run --gpus all)"
            ))
        })
}

fn driver_version() -> Result<Version, Error> {
    let mut version = 0;
    // SAFETY: `version` outlives the call, which may come before `cuInit`.
    started(unsafe { sys::cuDriverGetVersion(&raw mut version) })?;
    let version = u32::try_from(version).unwrap_or(0);
    Ok(Version { major: version / 1000, minor: version % 1000 / 10 })
}

/// Something that is needed is not there: what was found, what is needed, and what needs none of it.
fn missing(what: impl fmt::Display) -> Error {
    Error::Missing(format!("{what}; {WITHOUT_A_GPU} runs without a GPU"))
}

fn no_card(card: u32, count: c_int) -> Error {
    let visible = match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(list) => format!(" (CUDA_VISIBLE_DEVICES={list:?})"),
        Err(_) => String::new(),
    };
    let hidden = std::fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count);
    let found = match (count, hidden) {
        (0, 0) => "the NVIDIA driver finds no card".to_owned(),
        (0, hidden) => format!("no such card: the driver knows {hidden}, none of which is visible"),
        (count, _) => format!("no card {card}: {count} are visible, counted from 0"),
    };
    missing(format!("{found}{visible}; DEVICE=cuda:N names one that is there"))
}

/// What the driver says to a call on the way to a context.
fn started(code: Code) -> Result<(), Error> {
    match code {
        Code::CUDA_SUCCESS => Ok(()),
        other => Err(missing(format!("the NVIDIA driver does not start: {}", text(other)))),
    }
}

/// A text that the driver writes into a buffer.
fn spelled(write: impl FnOnce(*mut c_char, c_int) -> Code) -> Result<String, Error> {
    const LEN: u8 = 128;
    let mut buffer = [0_u8; LEN as usize];
    started(write(buffer.as_mut_ptr().cast(), c_int::from(LEN)))?;
    let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
    Ok(text.to_string_lossy().into_owned())
}

/// An error of the driver in its own words.
fn text(code: Code) -> String {
    let mut words: *const c_char = ptr::null();
    // SAFETY: `words` outlives the call.
    let known = unsafe { sys::cuGetErrorString(code, &raw mut words) } == Code::CUDA_SUCCESS;
    if !known || words.is_null() {
        return format!("error {}", code as u32);
    }
    // SAFETY: it is a string that the library holds for ever.
    let words = unsafe { CStr::from_ptr(words) }.to_string_lossy();
    format!("{words} (error {})", code as u32)
}

/// The card's primary context, what is allocated in it, and the modules of all kernels.
#[derive(Debug)]
struct Context {
    device: sys::CUdevice,
    raw: sys::CUcontext,
    memory: u64,
    modules: OnceLock<Modules>,
    /// What is allocated, by where it begins.
    allocations: Mutex<BTreeMap<u64, usize>>,
    /// Why the device cannot be used any more.
    lost: OnceLock<String>,
}

#[derive(Debug)]
struct Modules {
    raw: Vec<sys::CUmodule>,
    shared: c_int,
    functions: Mutex<HashMap<&'static str, sys::CUfunction>>,
}

// SAFETY: the driver lets any thread use a context and what belongs to it; what is ours is behind locks.
unsafe impl Send for Context {}
// SAFETY: as before.
unsafe impl Sync for Context {}

impl Context {
    fn new(device: sys::CUdevice, memory: u64) -> Result<Self, Error> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` outlives the call, `device` is a card's.
        match unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut raw, device) } {
            Code::CUDA_SUCCESS => {}
            Code::CUDA_ERROR_OUT_OF_MEMORY => {
                return Err(missing(format!(
                    "the card's memory is taken: there is none left for a context, which needs some 300 MB of its {} MB",
                    memory >> 20
                )));
            }
            other => {
                let why = text(other);
                return Err(missing(format!("the card cannot be used by this process: {why}")));
            }
        }
        let (modules, allocations, lost) = Default::default();
        Ok(Self { device, raw, memory, modules, allocations, lost })
    }

    /// Loads the cubins. Kernels are loaded when they are first asked for.
    fn load(&self, cubins: &[Vec<u8>], shared: u32) -> Result<(), Error> {
        self.enter()?;
        let load = |cubin: &Vec<u8>| {
            let mut raw = ptr::null_mut();
            // SAFETY: `raw` and the image outlive the call; it is a whole cubin, made by nvcc, which says its own length.
            let code = unsafe { sys::cuModuleLoadData(&raw mut raw, cubin.as_ptr().cast()) };
            self.did(code, "loading the kernels").map(|()| raw)
        };
        let raw = cubins.iter().map(load).collect::<Result<_, _>>()?;
        let shared = c_int::try_from(shared).unwrap_or(c_int::MAX);
        let functions = Mutex::default();
        // It is loaded once, by `open`.
        let _ = self.modules.set(Modules { raw, shared, functions });
        Ok(())
    }

    /// Makes the context current on this thread.
    fn enter(&self) -> Result<(), Error> {
        if let Some(reason) = self.lost.get() {
            return Err(Error::Lost(reason.clone()));
        }
        // SAFETY: the context is released only when this is dropped.
        let code = unsafe { sys::cuCtxSetCurrent(self.raw) };
        self.did(code, "entering the context")
    }

    /// What a call's code means. From most errors a context does not recover.
    fn did(&self, code: Code, what: &str) -> Result<(), Error> {
        match code {
            Code::CUDA_SUCCESS => Ok(()),
            Code::CUDA_ERROR_OUT_OF_MEMORY => Err(self.out_of_memory(0)),
            Code::CUDA_ERROR_INVALID_VALUE
            | Code::CUDA_ERROR_INVALID_IMAGE
            | Code::CUDA_ERROR_NO_BINARY_FOR_GPU
            | Code::CUDA_ERROR_INVALID_HANDLE
            | Code::CUDA_ERROR_NOT_FOUND
            | Code::CUDA_ERROR_NOT_READY
            | Code::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
            | Code::CUDA_ERROR_NOT_SUPPORTED
            | Code::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
            | Code::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
            | Code::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED
            | Code::CUDA_ERROR_STREAM_CAPTURE_ISOLATION
            | Code::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD => {
                Err(Error::Fault(format!("{what}: {}", text(code))))
            }
            lost => {
                let cause = match lost {
                    Code::CUDA_ERROR_ILLEGAL_ADDRESS => {
                        "a kernel read or wrote outside of the device's memory"
                    }
                    Code::CUDA_ERROR_MISALIGNED_ADDRESS => {
                        "a kernel used an address that is not aligned"
                    }
                    Code::CUDA_ERROR_ECC_UNCORRECTABLE => {
                        "the card's memory has an error that it cannot correct"
                    }
                    Code::CUDA_ERROR_LAUNCH_TIMEOUT => {
                        "a kernel took longer than the system allows"
                    }
                    _ => "the driver reports a failure, found not sooner than here",
                };
                let reason = format!("{what}: {cause}: {}", text(lost));
                Err(Error::Lost(self.lost.get_or_init(|| reason).clone()))
            }
        }
    }

    fn out_of_memory(&self, wanted: usize) -> Error {
        let free = self.free().unwrap_or(0);
        Error::OutOfMemory { wanted: wanted as u64, free, total: self.memory }
    }

    fn free(&self) -> Result<u64, Error> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both outlive the call.
        let code = unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) };
        self.did(code, "asking for free memory")?;
        Ok(free as u64)
    }

    fn allocations(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        lock(&self.allocations)
    }

    /// Fails if not all of these bytes are in one live allocation.
    fn check(&self, at: Address, bytes: usize) -> Result<(), Error> {
        super::check(&self.allocations(), at, bytes)
    }

    /// The kernel of this name, which may take all of the shared memory that a block can have.
    fn function(&self, name: &'static str) -> Result<sys::CUfunction, Error> {
        let Some(modules) = self.modules.get() else {
            return Err(Error::Fault("no kernels are loaded".to_owned()));
        };
        let mut functions = lock(&modules.functions);
        if let Some(&function) = functions.get(name) {
            return Ok(function);
        }
        let spelled = CString::new(name).map_err(|_| Error::Fault(format!("kernel {name:?}")))?;
        let mut function = ptr::null_mut();
        // A name is in one of them.
        let mut code = Code::CUDA_ERROR_NOT_FOUND;
        for &module in &modules.raw {
            // SAFETY: `function` and the name outlive the call, the module lives as long as the context.
            code = unsafe { sys::cuModuleGetFunction(&raw mut function, module, spelled.as_ptr()) };
            if code != Code::CUDA_ERROR_NOT_FOUND {
                break;
            }
        }
        self.did(code, name)?;
        let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is one of the module.
        let code = unsafe { sys::cuFuncSetAttribute(function, most, modules.shared) };
        self.did(code, name)?;
        functions.insert(name, function);
        Ok(function)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let _ = self.enter();
        // SAFETY: all that belongs to the context holds it, so is gone by now but for the modules, which go first.
        unsafe {
            for &module in self.modules.get().iter().flat_map(|modules| &modules.raw) {
                let _ = sys::cuModuleUnload(module);
            }
            let _ = sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}

impl Device for Cuda {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn free(&self) -> Result<u64, Error> {
        self.context.free()
    }

    fn allocate(&self, bytes: usize) -> Result<Address, Error> {
        let context = &*self.context;
        context.enter()?;
        let mut at = 0;
        // SAFETY: `at` outlives the call.
        match unsafe { sys::cuMemAlloc_v2(&raw mut at, bytes) } {
            Code::CUDA_ERROR_OUT_OF_MEMORY => return Err(context.out_of_memory(bytes)),
            code => context.did(code, "allocating memory")?,
        }
        debug_assert!(at.is_multiple_of(ALIGNMENT as u64), "the driver promises 256 bytes");
        context.allocations().insert(at, bytes);
        Ok(Address(at))
    }

    fn release(&self, at: Address) -> Result<(), Error> {
        let context = &*self.context;
        context.enter()?;
        if context.allocations().remove(&at.0).is_none() {
            return Err(Error::Fault(format!("nothing is allocated at {:#x}", at.0)));
        }
        // SAFETY: it was allocated here and is released once; the driver waits for what uses it.
        context.did(unsafe { sys::cuMemFree_v2(at.0) }, "releasing memory")
    }

    fn pinned(&self, bytes: usize) -> Result<Box<dyn Pinned>, Error> {
        Ok(Box::new(PinnedMemory::new(&self.context, bytes)?))
    }

    fn stream(&self) -> Result<Box<dyn Stream>, Error> {
        self.context.enter()?;
        let mut raw = ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as c_uint;
        // SAFETY: `raw` outlives the call.
        let code = unsafe { sys::cuStreamCreate(&raw mut raw, flags) };
        self.context.did(code, "creating a stream")?;
        let context = Arc::clone(&self.context);
        Ok(Box::new(CudaStream {
            raw,
            context,
            staging: RefCell::default(),
            captured: Cell::new(None),
        }))
    }

    fn event(&self) -> Result<Box<dyn Event>, Error> {
        Ok(Box::new(CudaEvent::new(&self.context)?))
    }

    fn prepare(&self, kernels: &[&'static str]) -> Result<(), Error> {
        self.context.enter()?;
        kernels.iter().try_for_each(|name| self.context.function(name).map(drop))
    }

    fn phases(&self) -> Vec<(&'static str, Duration)> {
        self.phases.clone()
    }

    fn gauges(&self) -> Vec<DeviceGauge> {
        super::nvml::gauges(&self.bus)
    }
}

/// Page-locked memory of the host.
#[derive(Debug)]
struct PinnedMemory {
    at: NonNull<u8>,
    len: usize,
    /// Happens when the last copy from here is done.
    copied: CudaEvent,
}

// SAFETY: it owns the memory; any thread may use and free it.
unsafe impl Send for PinnedMemory {}

impl PinnedMemory {
    fn new(context: &Arc<Context>, len: usize) -> Result<Self, Error> {
        let copied = CudaEvent::new(context)?;
        let mut at: *mut c_void = ptr::null_mut();
        // SAFETY: `at` outlives the call.
        let code =
            unsafe { sys::cuMemHostAlloc(&raw mut at, len.max(1), sys::CU_MEMHOSTALLOC_PORTABLE) };
        if code == Code::CUDA_ERROR_OUT_OF_MEMORY {
            return Err(Error::Missing(format!(
                "{len} bytes of the host's memory cannot be page-locked: {}; more memory is needed, or a higher `ulimit -l`",
                text(code)
            )));
        }
        context.did(code, "page-locking memory")?;
        let Some(at) = NonNull::new(at.cast::<u8>()) else {
            return Err(Error::Fault("page-locking memory: the driver gave none".to_owned()));
        };
        // SAFETY: the allocation has so many bytes. Zeroed, they may be read as numbers.
        unsafe { at.write_bytes(0, len) };
        Ok(Self { at, len, copied })
    }

    /// Copies into the buffer at `from` what no copy that is still on its way reads, and asks for its upload.
    fn stage(
        &mut self,
        from: usize,
        bytes: &[u8],
        stream: &CudaStream,
        to: Address,
    ) -> Result<(), Error> {
        assert!(from + bytes.len() <= self.len, "a staged write fits into its half");
        // SAFETY: the range is inside; the caller gives each range out once between two waits for `copied`, so neither the
        // driver nor anyone else reads or writes it now.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.as_ptr().add(from), bytes.len());
        };
        self.copy(stream, from..from + bytes.len(), to)
    }

    fn copy(&mut self, stream: &CudaStream, bytes: Range<usize>, to: Address) -> Result<(), Error> {
        if bytes.start > bytes.end || bytes.end > self.len {
            return Err(Error::Fault(format!("bytes {bytes:?} of a buffer of {}", self.len)));
        }
        stream.not_captured("an upload")?;
        let context = &*stream.context;
        context.enter()?;
        context.check(to, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: source and target are inside of what they are parts of. The source stays as it is until the event below
        // has happened: whoever writes or frees it waits for that.
        let code = unsafe {
            let from = self.at.as_ptr().add(bytes.start).cast();
            sys::cuMemcpyHtoDAsync_v2(to.0, from, bytes.len(), stream.raw)
        };
        let copied = context.did(code, "an upload");
        // Also after a failure, which may be an earlier call's.
        let recorded = self.copied.record(stream);
        copied.and(recorded)
    }
}

impl Pinned for PinnedMemory {
    fn len(&self) -> usize {
        self.len
    }

    fn bytes(&mut self) -> Result<&mut [u8], Error> {
        self.copied.synchronize()?;
        // SAFETY: the allocation has so many bytes, which were initialised; no copy from them is on its way, and none
        // begins while the borrow lasts.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) })
    }

    fn upload(
        &mut self,
        stream: &dyn Stream,
        bytes: Range<usize>,
        to: Address,
    ) -> Result<(), Error> {
        let stream = own::<CudaStream>(stream)?;
        self.copy(stream, bytes, to)
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // A context that is lost copies nothing more.
        let _ = self.copied.synchronize();
        // SAFETY: it was allocated by the driver, is freed once, and no copy from it is on its way.
        let _ = unsafe { sys::cuMemFreeHost(self.at.as_ptr().cast()) };
    }
}

/// The two halves of the buffer that small writes go through: while one fills, the copies from the other are done.
#[derive(Debug, Default)]
struct Staging {
    halves: Vec<PinnedMemory>,
    /// Which is filled.
    half: usize,
    /// Bytes of it that are given out.
    used: usize,
}

#[derive(Debug)]
struct CudaStream {
    raw: sys::CUstream,
    context: Arc<Context>,
    staging: RefCell<Staging>,
    /// Launches of the capture that is under way.
    captured: Cell<Option<usize>>,
}

// SAFETY: it owns the stream, which any thread may use.
unsafe impl Send for CudaStream {}

impl CudaStream {
    fn not_captured(&self, what: &str) -> Result<(), Error> {
        if self.captured.get().is_none() {
            return Ok(());
        }
        Err(Error::Fault(format!("{what} cannot be captured")))
    }
}

impl Stream for CudaStream {
    fn write(&self, bytes: &[u8], to: Address) -> Result<(), Error> {
        self.not_captured("a write")?;
        self.context.check(to, bytes.len())?;
        let staging = &mut *self.staging.borrow_mut();
        while staging.halves.len() < 2 {
            self.context.enter()?;
            staging.halves.push(PinnedMemory::new(&self.context, STAGED)?);
        }
        let mut at = to;
        for part in bytes.chunks(STAGED) {
            if staging.used + part.len() > STAGED {
                // Waits for what was written a half ago.
                staging.halves[1 - staging.half].bytes()?;
                (staging.half, staging.used) = (1 - staging.half, 0);
            }
            staging.halves[staging.half].stage(staging.used, part, self, at)?;
            staging.used += part.len();
            at = at.plus(part.len());
        }
        Ok(())
    }

    fn zero(&self, at: Address, bytes: usize) -> Result<(), Error> {
        self.context.enter()?;
        self.context.check(at, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: all of it is inside of one allocation.
        let code = unsafe { sys::cuMemsetD8Async(at.0, 0, bytes, self.raw) };
        self.context.did(code, "setting memory to 0")
    }

    fn launch(&self, launch: &Launch) -> Result<(), Error> {
        let context = &*self.context;
        context.enter()?;
        let function = context.function(launch.kernel)?;
        let params = launch.params.bytes();
        let mut size = params.len();
        let mut extra = [
            ptr::without_provenance_mut::<c_void>(
                sys::CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT as usize,
            ),
            params.as_ptr().cast_mut().cast(),
            ptr::without_provenance_mut(sys::CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT as usize),
            (&raw mut size).cast(),
            ptr::without_provenance_mut(sys::CU_LAUNCH_PARAM_END_AS_INT as usize),
        ];
        let [x, y, z] = launch.grid;
        // SAFETY: the function is one of the context's; the parameters are a buffer with its length, which the driver reads,
        // and compares with what the kernel takes, before it returns.
        let code = unsafe {
            sys::cuLaunchKernel(
                function,
                x,
                y,
                z,
                launch.block,
                1,
                1,
                launch.shared,
                self.raw,
                ptr::null_mut(),
                extra.as_mut_ptr(),
            )
        };
        context.did(code, launch.kernel)?;
        self.captured.set(self.captured.get().map(|count| count + 1));
        Ok(())
    }

    fn download(&self, from: Address, into: &mut [u8]) -> Result<(), Error> {
        self.not_captured("a download")?;
        let context = &*self.context;
        context.enter()?;
        context.check(from, into.len())?;
        if into.is_empty() {
            return self.synchronize();
        }
        // SAFETY: source and target have so many bytes, and the target is borrowed until the stream is done below; where
        // that fails, the context is lost, and copies nothing more.
        let code = unsafe {
            sys::cuMemcpyDtoHAsync_v2(into.as_mut_ptr().cast(), from.0, into.len(), self.raw)
        };
        let asked = context.did(code, "a download");
        let done = self.synchronize();
        asked.and(done)
    }

    fn record(&self, event: &dyn Event) -> Result<(), Error> {
        self.not_captured("an event")?;
        own::<CudaEvent>(event)?.record(self)
    }

    fn wait(&self, event: &dyn Event) -> Result<(), Error> {
        self.not_captured("a wait")?;
        let event = own::<CudaEvent>(event)?;
        self.context.enter()?;
        // SAFETY: both are alive, and of this context.
        let code = unsafe { sys::cuStreamWaitEvent(self.raw, event.raw, 0) };
        self.context.did(code, "waiting for an event")
    }

    fn synchronize(&self) -> Result<(), Error> {
        self.not_captured("a wait")?;
        self.context.enter()?;
        // SAFETY: the stream is alive.
        let code = unsafe { sys::cuStreamSynchronize(self.raw) };
        self.context.did(code, "waiting for the device")
    }

    fn capture(
        &self,
        work: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<Box<dyn Graph>, Error> {
        self.not_captured("a capture")?;
        let context = &*self.context;
        context.enter()?;
        // Relaxed, so that kernels may be loaded on the way.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream is alive and not being captured.
        let code = unsafe { sys::cuStreamBeginCapture_v2(self.raw, mode) };
        context.did(code, "beginning a capture")?;
        self.captured.set(Some(0));
        let worked = work();
        let launches = self.captured.take().unwrap_or(0);
        let mut graph = ptr::null_mut();
        // SAFETY: `graph` outlives the call, which ends what was begun above.
        let code = unsafe { sys::cuStreamEndCapture(self.raw, &raw mut graph) };
        let ended = context.did(code, "ending a capture");
        let mut raw = ptr::null_mut();
        let made = worked.and(ended).and_then(|()| {
            // SAFETY: `raw` outlives the call, the graph is the one that was captured.
            let code = unsafe { sys::cuGraphInstantiateWithFlags(&raw mut raw, graph, 0) };
            context.did(code, "making a graph")
        });
        if !graph.is_null() {
            // SAFETY: it is destroyed once; what was made of it does not need it.
            let _ = unsafe { sys::cuGraphDestroy(graph) };
        }
        made?;
        let graph = CudaGraph { raw, context: Arc::clone(&self.context), launches };
        // SAFETY: both are alive. It brings the graph to the device now instead of at its first start.
        let code = unsafe { sys::cuGraphUpload(graph.raw, self.raw) };
        context.did(code, "bringing a graph to the device")?;
        Ok(Box::new(graph))
    }

    fn start(&self, graph: &dyn Graph) -> Result<(), Error> {
        self.not_captured("a graph")?;
        let graph = own::<CudaGraph>(graph)?;
        self.context.enter()?;
        // SAFETY: both are alive; a graph is started by one thread at a time, for it is not `Sync`.
        let code = unsafe { sys::cuGraphLaunch(graph.raw, self.raw) };
        self.context.did(code, "starting a graph")
    }
}

impl Drop for CudaStream {
    fn drop(&mut self) {
        let _ = self.context.enter();
        // SAFETY: it is destroyed once; the driver lets what was asked for be done first.
        let _ = unsafe { sys::cuStreamDestroy_v2(self.raw) };
    }
}

#[derive(Debug)]
struct CudaEvent {
    raw: sys::CUevent,
    context: Arc<Context>,
}

// SAFETY: it owns the event, which any thread may use.
unsafe impl Send for CudaEvent {}
// SAFETY: as before.
unsafe impl Sync for CudaEvent {}

impl CudaEvent {
    fn new(context: &Arc<Context>) -> Result<Self, Error> {
        context.enter()?;
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` outlives the call.
        let code = unsafe { sys::cuEventCreate(&raw mut raw, 0) };
        context.did(code, "creating an event")?;
        Ok(Self { raw, context: Arc::clone(context) })
    }

    fn record(&self, stream: &CudaStream) -> Result<(), Error> {
        self.context.enter()?;
        // SAFETY: both are alive, and of this context.
        let code = unsafe { sys::cuEventRecord(self.raw, stream.raw) };
        self.context.did(code, "recording an event")
    }
}

impl Event for CudaEvent {
    fn synchronize(&self) -> Result<(), Error> {
        self.context.enter()?;
        // SAFETY: the event is alive.
        let code = unsafe { sys::cuEventSynchronize(self.raw) };
        self.context.did(code, "waiting for the device")
    }

    fn is_done(&self) -> Result<bool, Error> {
        self.context.enter()?;
        // SAFETY: the event is alive.
        match unsafe { sys::cuEventQuery(self.raw) } {
            Code::CUDA_ERROR_NOT_READY => Ok(false),
            code => self.context.did(code, "asking for an event").map(|()| true),
        }
    }

    fn since(&self, earlier: &dyn Event) -> Result<Duration, Error> {
        let earlier = own::<Self>(earlier)?;
        self.context.enter()?;
        let mut milliseconds = 0.0;
        // SAFETY: `milliseconds` outlives the call, both events are alive.
        let code = unsafe { sys::cuEventElapsedTime(&raw mut milliseconds, earlier.raw, self.raw) };
        self.context.did(code, "the time between two events")?;
        Ok(Duration::try_from_secs_f32(milliseconds / 1e3).unwrap_or_default())
    }
}

impl Drop for CudaEvent {
    fn drop(&mut self) {
        let _ = self.context.enter();
        // SAFETY: it is destroyed once; the driver keeps it for work that still needs it.
        let _ = unsafe { sys::cuEventDestroy_v2(self.raw) };
    }
}

#[derive(Debug)]
struct CudaGraph {
    raw: sys::CUgraphExec,
    context: Arc<Context>,
    launches: usize,
}

// SAFETY: it owns the graph, which any thread may use, one at a time.
unsafe impl Send for CudaGraph {}

impl Graph for CudaGraph {
    fn launches(&self) -> usize {
        self.launches
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        let _ = self.context.enter();
        // SAFETY: it is destroyed once; the driver lets a start of it that is under way end.
        let _ = unsafe { sys::cuGraphExecDestroy(self.raw) };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is one of this device's.
fn own<T: Any>(it: &dyn Any) -> Result<&T, Error> {
    it.downcast_ref().ok_or_else(|| Error::Fault("it belongs to another device".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_card_stays_visible() {
        for (visible, card, only) in [
            (None, 0, Some("0")),
            (None, 3, Some("3")),
            (Some("2,5"), 1, Some("5")),
            (Some("GPU-1f, GPU-2e"), 1, Some("GPU-2e")),
            (Some("2,5"), 2, None),
            (Some(""), 0, None),
            (Some("-1"), 0, None),
        ] {
            assert_eq!(narrowed(visible, card).as_deref(), only, "{visible:?} {card}");
        }
    }

    #[test]
    fn what_is_missing_is_said_in_one_line() {
        // Where a driver is, so may be a card.
        let Err(error) = open(999) else { panic!("card 999") };
        let said = error.to_string();
        assert!(matches!(error, Error::Missing(_)) && !said.contains('\n'), "{said}");
        assert!(said.ends_with("; rerank-cpu-int8 runs without a GPU"), "{said}");
    }
}
