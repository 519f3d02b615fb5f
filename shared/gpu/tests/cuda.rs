//! The calls of the driver, by one that has no card: `libcuda.c` of `shared/testing/support` checks them as a driver does, keeps memory on the host
//! and runs no kernels. So arguments, order, errors and what is given back are proved wherever this is; a card proves the rest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(unsafe_code, reason = "the library that stands in for the driver is opened and asked")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use defrost_gpu::device::cuda::{Cuda, Images, open_with};
use defrost_gpu::device::{Device, Error, Memory};
use defrost_gpu::{Address, Launch, Params};
use libloading::Library;

#[path = "../../testing/support/driver.rs"]
mod driver;

/// The stand-in, which one test at a time asks. Whoever opens `libcuda.so.1` afterwards gets it, since it has that name.
struct Fake {
    library: Library,
    _turn: MutexGuard<'static, ()>,
}

impl Fake {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = driver::compiled(env!("CARGO_TARGET_TMPDIR"));
        // SAFETY: it does nothing on being opened.
        let library = unsafe { Library::new(compiled) }.unwrap();
        Self { library, _turn: turn }
    }

    fn count(&self, name: &str) -> i32 {
        // SAFETY: all functions that are asked for so take nothing and return an int.
        unsafe { self.library.get::<unsafe extern "C" fn() -> i32>(name).unwrap()() }
    }

    fn fail(&self, code: i32) {
        // SAFETY: it is a function of this type.
        unsafe { self.library.get::<unsafe extern "C" fn(i32)>("fake_fail").unwrap()(code) }
    }

    fn params(&self) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        // SAFETY: it is a function of this type, which writes as many bytes at most.
        let len = unsafe {
            self.library.get::<unsafe extern "C" fn(*mut u8) -> usize>("fake_params").unwrap()(
                bytes.as_mut_ptr(),
            )
        };
        bytes.truncate(len);
        bytes
    }
}

/// Two images, of a kernel each.
#[allow(clippy::unnecessary_wraps, reason = "the shape open_with wants")]
fn images(_: &str, capability: (u32, u32)) -> Result<Images, Error> {
    assert_eq!(capability, (9, 0));
    Ok(Box::new(|| {
        Ok(["first", "second"].map(|name| [b"\x7fELF", name.as_bytes(), b"\0"].concat()).to_vec())
    }))
}

fn device() -> Arc<dyn Device> {
    Arc::new(open_with(0, &images).unwrap())
}

fn launch(kernel: &'static str) -> Launch {
    Launch { kernel, grid: [1, 2, 3], block: 64, shared: 1024, params: Params::of(&[1_u64, 2, 3]) }
}

#[test]
fn a_card_is_opened_and_given_back() {
    let fake = Fake::new();
    let cuda: Cuda = open_with(0, &images).unwrap();
    let limits = cuda.limits();
    assert!(limits.name.starts_with("Fake 0 of "), "{}", limits.name);
    assert_eq!((limits.capability, limits.multiprocessors), ((9, 0), 132));
    assert_eq!((limits.memory, limits.shared, &*limits.driver), (1 << 20, 227 << 10, "CUDA 13.0"));
    let names: Vec<_> = cuda.phases().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["context", "module"]);
    assert_eq!((fake.count("fake_retained"), fake.count("fake_alive")), (1, 2));
    drop(cuda);
    assert_eq!((fake.count("fake_retained"), fake.count("fake_alive")), (0, 0));
}

#[test]
fn bytes_go_there_and_back_from_any_thread() {
    let fake = Fake::new();
    let device = device();
    // More than both halves that small writes go through.
    let bytes: Vec<u8> = (0..700_000_u32).map(|at| (at % 251) as u8).collect();
    std::thread::scope(|scope| {
        let work = || {
            let stream = device.stream().unwrap();
            let memory = Memory::new(&device, bytes.len()).unwrap();
            stream.write(&bytes[..100], memory.address()).unwrap();
            stream.write(&bytes[100..], memory.address().plus(100)).unwrap();
            let mut found = vec![0; bytes.len()];
            stream.download(memory.address(), &mut found).unwrap();
            assert!(found == bytes);
            stream.zero(memory.address().plus(1), 10).unwrap();
            stream.zero(memory.address(), 0).unwrap();
            stream.download(memory.address(), &mut found[..12]).unwrap();
            assert_eq!(found[..12], [&bytes[..1], &[0; 10], &bytes[11..12]].concat());
            stream.download(memory.address(), &mut []).unwrap();
            let mut pinned = device.pinned(1000).unwrap();
            assert_eq!(pinned.bytes().unwrap(), [0; 1000]);
            pinned.bytes().unwrap().copy_from_slice(&bytes[..1000]);
            pinned.upload(&*stream, 500..1000, memory.address()).unwrap();
            pinned.upload(&*stream, 0..0, memory.address()).unwrap();
            assert_eq!(pinned.bytes().unwrap(), &bytes[..1000]);
            stream.download(memory.address(), &mut found[..500]).unwrap();
            assert_eq!(found[..500], bytes[500..1000]);
        };
        scope.spawn(work);
    });
    drop(device);
    assert_eq!(fake.count("fake_alive"), 0);
}

#[test]
fn kernels_are_found_in_any_module_and_get_their_parameters() {
    let fake = Fake::new();
    let device = device();
    let stream = device.stream().unwrap();
    let before = fake.count("fake_launched");
    for kernel in ["second", "first", "second"] {
        stream.launch(&launch(kernel)).unwrap();
    }
    assert_eq!(fake.count("fake_launched") - before, 3);
    assert_eq!(fake.params(), bytemuck::cast_slice::<u64, u8>(&[1, 2, 3]));
    device.prepare(&["first", "second"]).unwrap();
    for refused in [
        stream.launch(&launch("third")),
        stream.launch(&Launch { grid: [0, 1, 1], ..launch("first") }),
        stream.launch(&Launch { shared: 1 << 20, ..launch("first") }),
        device.prepare(&["third"]),
    ] {
        assert!(matches!(refused, Err(Error::Fault(_))), "{refused:?}");
    }
    stream.launch(&launch("first")).unwrap();
}

#[test]
fn graphs_hold_launches_and_refuse_what_would_keep_values() {
    let fake = Fake::new();
    let device = device();
    let stream = device.stream().unwrap();
    let memory = Memory::new(&device, 64).unwrap();
    let launched = fake.count("fake_launched");
    let graph = stream
        .capture(&mut || {
            stream.launch(&launch("first"))?;
            stream.zero(memory.address(), 64)?;
            stream.launch(&launch("second"))
        })
        .unwrap();
    assert_eq!((graph.launches(), fake.count("fake_launched")), (2, launched));
    let replayed = fake.count("fake_replayed");
    stream.start(&*graph).unwrap();
    stream.start(&*graph).unwrap();
    assert_eq!(fake.count("fake_replayed") - replayed, 4);
    let event = device.event().unwrap();
    let mut pinned = device.pinned(4).unwrap();
    for refused in 0..5 {
        let error = stream.capture(&mut || match refused {
            0 => stream.write(&[1], memory.address()),
            1 => stream.download(memory.address(), &mut [0]),
            2 => stream.record(&*event),
            3 => pinned.upload(&*stream, 0..4, memory.address()),
            _ => stream.synchronize(),
        });
        let error = error.map(drop).unwrap_err();
        assert!(
            matches!(&error, Error::Fault(why) if why.contains("cannot be captured")),
            "{error}"
        );
        // The capture is over.
        stream.synchronize().unwrap();
    }
    drop((graph, event, pinned, memory, stream, device));
    assert_eq!(fake.count("fake_alive"), 0);
}

#[test]
fn events_say_whether_they_have_happened_and_when() {
    let _fake = Fake::new();
    let device = device();
    let (one, other) = (device.stream().unwrap(), device.stream().unwrap());
    let (first, second) = (device.event().unwrap(), device.event().unwrap());
    assert!(first.is_done().unwrap());
    one.record(&*first).unwrap();
    assert!(!first.is_done().unwrap());
    other.wait(&*first).unwrap();
    other.record(&*second).unwrap();
    assert!(first.is_done().unwrap());
    second.synchronize().unwrap();
    assert_eq!(second.since(&*first).unwrap(), std::time::Duration::from_millis(1));
}

#[test]
fn memory_that_runs_out_is_told_with_what_is_free() {
    let fake = Fake::new();
    let device = device();
    let held = Memory::new(&device, 1_000_000).unwrap();
    let error = Memory::new(&device, 100_000).unwrap_err();
    let free = (1 << 20) - 1_000_000;
    assert_eq!(error, Error::OutOfMemory { wanted: 100_000, free, total: 1 << 20 });
    assert_eq!(device.free().unwrap(), free);
    drop(held);
    let memory = Memory::new(&device, 100_000).unwrap();
    let stream = device.stream().unwrap();
    for refused in [
        stream.write(&[0; 8], memory.address().plus(99_996)),
        stream.zero(memory.address().plus(1), 100_000),
        stream.download(Address(8), &mut [0]),
        device.release(memory.address().plus(256)),
    ] {
        assert!(matches!(refused, Err(Error::Fault(_))), "{refused:?}");
    }
    drop((memory, stream, device));
    assert_eq!(fake.count("fake_alive"), 0);
}

#[test]
fn a_context_that_has_failed_is_lost_for_good() {
    let fake = Fake::new();
    let device = device();
    let stream = device.stream().unwrap();
    fake.fail(700);
    let lost = stream.synchronize().unwrap_err();
    let Error::Lost(why) = &lost else { panic!("{lost}") };
    for part in
        ["a kernel read or wrote outside", "an illegal memory access was encountered (error 700)"]
    {
        assert!(why.contains(part), "{why}");
    }
    fake.fail(0);
    // Even where the driver would go on, what was computed since is nothing.
    assert_eq!(stream.launch(&launch("first")), Err(lost.clone()));
    assert_eq!(device.free(), Err(lost.clone()));
    assert_eq!(device.event().map(drop), Err(lost));
}
