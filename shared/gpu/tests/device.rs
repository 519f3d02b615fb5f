//! The emulated device keeps the rules that every device has, and can fail in the ways that a card does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::sync::Arc;

use defrost_gpu::Address;
use defrost_gpu::device::emulated::{Emulated, Settings};
use defrost_gpu::device::{Device, Error, Memory, Stream};
use defrost_gpu::kernels::Gather;

const ROWS: usize = 8;
/// Of the values of a test.
const BYTES: usize = 4 * ROWS;

fn device() -> (Emulated, Arc<dyn Device>) {
    let device = Emulated::new(Settings::default());
    (device.clone(), Arc::new(device))
}

/// Copies rows of 4 bytes in reverse order.
struct Reverse {
    row_of: Memory,
    from: Memory,
    out: Memory,
}

impl Reverse {
    fn new(device: &Arc<dyn Device>, stream: &dyn Stream) -> Self {
        let [row_of, from, out] = [(); 3].map(|()| Memory::new(device, BYTES).unwrap());
        let order: Vec<u32> = (0..8).rev().collect();
        stream.write(bytemuck::cast_slice(&order), row_of.address()).unwrap();
        Self { row_of, from, out }
    }

    fn launch(&self) -> defrost_gpu::Launch {
        let gather = Gather {
            rows: 8,
            width_bytes: 4,
            from: self.from.address(),
            row_of: self.row_of.address(),
            out: self.out.address(),
        };
        gather.launch()
    }

    fn answer(&self, stream: &dyn Stream) -> Result<[u32; ROWS], Error> {
        let mut found = [0; ROWS];
        stream.download(self.out.address(), bytemuck::cast_slice_mut(&mut found))?;
        Ok(found)
    }
}

/// Memory that nothing has been written to.
const NOTHING: [u32; ROWS] = [u32::MAX; ROWS];

fn numbers(from: u32) -> [u32; ROWS] {
    std::array::from_fn(|at| from + u32::try_from(at).unwrap())
}

fn reversed(from: u32) -> [u32; ROWS] {
    let mut numbers = numbers(from);
    numbers.reverse();
    numbers
}

#[test]
fn streams_wait_for_each_other_only_where_they_are_told_to() {
    let (_, device) = device();
    for waits in [false, true] {
        let (copying, computing) = (device.stream().unwrap(), device.stream().unwrap());
        let reverse = Reverse::new(&device, &*computing);
        let mut pinned = device.pinned(BYTES).unwrap();
        pinned.bytes().unwrap().copy_from_slice(bytemuck::cast_slice(&numbers(1)));
        pinned.upload(&*copying, 0..BYTES, reverse.from.address()).unwrap();
        let event = device.event().unwrap();
        assert!(event.is_done().unwrap(), "what was never recorded is not waited for");
        computing.wait(&*event).unwrap();
        copying.record(&*event).unwrap();
        if waits {
            computing.wait(&*event).unwrap();
        }
        computing.launch(&reverse.launch()).unwrap();
        let expected = if waits { reversed(1) } else { NOTHING };
        assert_eq!(reverse.answer(&*computing).unwrap(), expected);
    }
}

#[test]
fn a_pinned_buffer_is_written_again_once_it_is_copied() {
    let (_, device) = device();
    let stream = device.stream().unwrap();
    let memory = Memory::new(&device, 2 * BYTES).unwrap();
    let mut pinned = device.pinned(BYTES).unwrap();
    assert_eq!(pinned.len(), BYTES);
    for (from, at) in [(1, 0), (100, BYTES)] {
        pinned.bytes().unwrap().copy_from_slice(bytemuck::cast_slice(&numbers(from)));
        pinned.upload(&*stream, 0..BYTES, memory.address().plus(at)).unwrap();
    }
    drop(pinned);
    let mut found = [0; 2 * ROWS];
    stream.download(memory.address(), bytemuck::cast_slice_mut(&mut found)).unwrap();
    assert_eq!(found, [numbers(1), numbers(100)].concat()[..]);
}

#[test]
fn a_graph_runs_what_was_captured_on_what_is_there_when_it_starts() {
    let (emulated, device) = device();
    let stream = device.stream().unwrap();
    let reverse = Reverse::new(&device, &*stream);
    let graph = stream
        .capture(&mut || {
            stream.zero(reverse.out.address(), BYTES)?;
            stream.launch(&reverse.launch())
        })
        .unwrap();
    assert_eq!(graph.launches(), 1);
    stream.synchronize().unwrap();
    assert_eq!(emulated.launches(), 0, "capturing runs nothing");
    for from in [1, 50] {
        stream.write(bytemuck::cast_slice(&numbers(from)), reverse.from.address()).unwrap();
        stream.start(&*graph).unwrap();
        assert_eq!(reverse.answer(&*stream).unwrap(), reversed(from));
    }
    assert_eq!(emulated.launches(), 2);
    // What would be kept with its values, or never come to an end, is refused, and the stream can be used again.
    let event = device.event().unwrap();
    let refused: [&dyn Fn() -> Result<(), Error>; 5] = [
        &|| stream.write(&[0; 4], reverse.from.address()),
        &|| reverse.answer(&*stream).map(drop),
        &|| stream.synchronize(),
        &|| stream.record(&*event),
        &|| stream.start(&*graph),
    ];
    for refused in refused {
        let error = stream.capture(&mut || refused()).unwrap_err();
        assert!(
            matches!(&error, Error::Fault(why) if why.contains("cannot be captured")),
            "{error}"
        );
        assert_eq!(reverse.answer(&*stream).unwrap(), reversed(50));
    }
}

#[test]
fn out_of_memory_is_told_with_what_is_free_and_is_over_when_some_is_given_back() {
    let (emulated, device) = device();
    emulated.set_memory(1000);
    let held = Memory::new(&device, 600).unwrap();
    assert_eq!(device.free().unwrap(), 400);
    let error = Memory::new(&device, 500).unwrap_err();
    assert_eq!(error, Error::OutOfMemory { wanted: 500, free: 400, total: 1000 });
    let told = defrost_model::Error::from(error);
    assert!(matches!(&told, defrost_model::Error::OutOfMemory(_)), "{told}");
    assert!(told.to_string().contains("500 more bytes are needed, 400 of 1000 are free"), "{told}");
    drop(held);
    assert_eq!(Memory::new(&device, 500).unwrap().bytes(), 500);
    assert_eq!(device.free().unwrap(), 1000);
}

#[test]
fn copies_stay_inside_of_allocations() {
    let (_, device) = device();
    let stream = device.stream().unwrap();
    let memory = Memory::new(&device, BYTES).unwrap();
    let (at, beyond) = (memory.address(), memory.address().plus(4));
    let mut pinned = device.pinned(BYTES).unwrap();
    for refused in [
        stream.write(&[0; BYTES], beyond),
        stream.zero(beyond, BYTES),
        stream.download(beyond, &mut [0; BYTES]),
        stream.write(&[0; 1], Address(0)),
        pinned.upload(&*stream, 0..BYTES, beyond),
        pinned.upload(&*stream, 1..BYTES + 1, at),
        device.release(beyond),
    ] {
        assert!(matches!(refused, Err(Error::Fault(_))), "{refused:?}");
    }
    // It can be used all the same.
    stream.write(&[7; BYTES], at).unwrap();
    let mut found = [0; BYTES];
    stream.download(at, &mut found).unwrap();
    assert_eq!(found, [7; BYTES]);
}

#[test]
fn a_launch_that_the_device_cannot_do_is_refused_and_nothing_is_lost() {
    let (_, device) = device();
    let stream = device.stream().unwrap();
    let reverse = Reverse::new(&device, &*stream);
    let launch = reverse.launch();
    let unknown = defrost_gpu::Launch { kernel: "no_such_kernel", ..launch };
    let large = defrost_gpu::Launch { shared: device.limits().shared + 1, ..launch };
    for (launch, part) in [(unknown, "no such kernel"), (large, "bytes of shared memory")] {
        let error = stream.launch(&launch).unwrap_err();
        assert!(matches!(&error, Error::Fault(why) if why.contains(part)), "{error}");
    }
    assert!(device.prepare(&["no_such_kernel"]).is_err());
    device.prepare(&[launch.kernel]).unwrap();
    stream.write(bytemuck::cast_slice(&numbers(1)), reverse.from.address()).unwrap();
    stream.launch(&launch).unwrap();
    assert_eq!(reverse.answer(&*stream).unwrap(), reversed(1));
}

/// Memory that is given back is no kernel's any more, as on a card; unlike there, the first wrong access is named.
#[test]
fn a_kernel_that_faults_loses_the_device_with_its_reason() {
    let (_, device) = device();
    let stream = device.stream().unwrap();
    let mut reverse = Reverse::new(&device, &*stream);
    let launch = reverse.launch();
    reverse.from = Memory::new(&device, 4).unwrap();
    stream.launch(&launch).unwrap();
    let first = stream.synchronize().unwrap_err();
    assert!(matches!(&first, Error::Lost(why) if why.contains(launch.kernel)), "{first}");
    let told = defrost_model::Error::from(first.clone());
    assert!(matches!(told, defrost_model::Error::Lost(_)));
    // Whatever is asked of it afterwards has the same reason.
    assert_eq!(stream.launch(&launch), Err(first.clone()));
    assert_eq!(device.free(), Err(first.clone()));
    assert_eq!(Memory::new(&device, 1).unwrap_err(), first);
    assert!(device.gauges().is_empty());
}

#[test]
fn a_device_can_be_lost_by_itself_or_after_some_launches() {
    let (emulated, device) = device();
    let stream = device.stream().unwrap();
    let event = device.event().unwrap();
    stream.record(&*event).unwrap();
    emulated.lose("pulled out");
    let lost = || Error::Lost("pulled out".to_owned());
    assert_eq!(stream.synchronize(), Err(lost()));
    assert_eq!(event.synchronize(), Err(lost()));
    assert_eq!(device.pinned(4).map(drop), Err(lost()));

    let settings = Settings { lost_after: Some(1), ..Settings::default() };
    let device: Arc<dyn Device> = Arc::new(Emulated::new(settings));
    let stream = device.stream().unwrap();
    let reverse = Reverse::new(&device, &*stream);
    stream.zero(reverse.from.address(), BYTES).unwrap();
    stream.launch(&reverse.launch()).unwrap();
    assert_eq!(reverse.answer(&*stream).unwrap(), [0; ROWS]);
    stream.launch(&reverse.launch()).unwrap();
    assert!(matches!(reverse.answer(&*stream), Err(Error::Lost(_))));
}

#[test]
fn events_tell_the_order_and_the_time() {
    let (_, device) = device();
    let stream = device.stream().unwrap();
    let (first, second) = (device.event().unwrap(), device.event().unwrap());
    stream.record(&*first).unwrap();
    stream.record(&*second).unwrap();
    assert!(second.since(&*first).is_err(), "neither has happened");
    second.synchronize().unwrap();
    assert!(first.is_done().unwrap() && second.is_done().unwrap());
    assert!(second.since(&*first).is_ok());
    // Asking is enough for it to come.
    stream.record(&*first).unwrap();
    while !first.is_done().unwrap() {}
    let (_, other) = self::device();
    let foreign = other.event().unwrap();
    assert!(foreign.since(&*first).is_err());
}

/// Whatever order threads run in, the answer is the same.
#[test]
fn seeds_change_no_answer() {
    let (emulated, device) = device();
    let stream = device.stream().unwrap();
    let reverse = Reverse::new(&device, &*stream);
    stream.write(bytemuck::cast_slice(&numbers(1)), reverse.from.address()).unwrap();
    for seed in 0..20 {
        emulated.set_seed(seed);
        stream.zero(reverse.out.address(), BYTES).unwrap();
        stream.launch(&reverse.launch()).unwrap();
        assert_eq!(reverse.answer(&*stream).unwrap(), reversed(1));
    }
}
