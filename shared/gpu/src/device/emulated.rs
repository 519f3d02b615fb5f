//! The CPU as a device, for tests: the kernels as g++ compiles them, and the driver's order of things.
//!
//! A call only puts work into its stream's queue. Work is done when something waits for it (a download, an event, a buffer
//! that is to be written again, memory that is given back), and of other streams only what an event makes it wait for.
//! That is as late as a driver may be: a forward pass that forgets to wait for the upload of its weights reads memory that
//! nothing has been written to, which the emulator fills with NaN.
//!
//! Threads of a kernel run in an order that is drawn from the seed and the number of the launch. A kernel that faults loses
//! the device, as on a card.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `EMULATED_MEMORY` | 4 GiB | bytes of the device's memory |
//! | `EMULATED_SEED` | 0 | the seed |
//! | `EMULATED_LOST_AFTER` | | the number of launches after which the device is lost |

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use defrost_gpu_emulator::{Emulator, Fault};
use defrost_model::runtime::DeviceGauge;

use super::{Device, Error, Event, Graph, Limits, Pinned, Stream};
use crate::{Address, Launch};

/// How a device is to be.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes of its memory.
    pub memory: u64,
    /// What the order of threads is drawn from.
    pub seed: u64,
    /// The number of launches after which it is lost; `None`: it never is.
    pub lost_after: Option<u64>,
}

impl Default for Settings {
    /// 4 GiB, which no test fills, so that one which asks for too much is told so instead of filling the machine.
    fn default() -> Self {
        Self { memory: 4 << 30, seed: 0, lost_after: None }
    }
}

impl Settings {
    /// The settings that the environment's variables give.
    ///
    /// # Errors
    /// Which of them is not a number.
    pub fn from_env() -> Result<Self, Error> {
        let number = |name: &str| match std::env::var(name) {
            Err(_) => Ok(None),
            Ok(text) => text.parse::<u64>().map(Some).map_err(|_| {
                Error::Missing(format!("{name}: expected a whole number, found {text:?}"))
            }),
        };
        let usual = Self::default();
        Ok(Self {
            memory: number("EMULATED_MEMORY")?.unwrap_or(usual.memory),
            seed: number("EMULATED_SEED")?.unwrap_or(usual.seed),
            lost_after: number("EMULATED_LOST_AFTER")?,
        })
    }
}

/// A device that is the CPU; clones are the same one.
#[derive(Debug, Clone)]
pub struct Emulated {
    machine: Arc<Machine>,
}

struct Machine {
    limits: Limits,
    /// Sorted.
    kernels: Vec<String>,
    emulator: Emulator,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    lost: Option<String>,
    launches: u64,
    /// What is allocated, by where it begins.
    allocations: BTreeMap<u64, usize>,
    queues: HashMap<u64, Queue>,
    streams: u64,
}

/// What a stream has been asked for and has not done.
#[derive(Debug, Default)]
struct Queue {
    work: VecDeque<Work>,
    /// How much it has done, ever.
    done: u64,
}

impl Queue {
    /// What will have been done when all of it is.
    fn asked(&self) -> u64 {
        self.done + self.work.len() as u64
    }
}

/// A point in a stream: when it has done so much.
#[derive(Debug, Clone, Copy)]
struct Point {
    stream: u64,
    done: u64,
}

#[derive(Debug)]
enum Work {
    Write { bytes: Vec<u8>, to: Address },
    Kernel(Kept),
    Kernels(Arc<[Kept]>),
    Record(Arc<Mutex<Recorded>>),
    Wait(Point),
}

/// Work that a graph can hold.
#[derive(Debug, Clone)]
enum Kept {
    Launch(Box<Launch>),
    Zero { at: Address, bytes: usize },
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Machine({})", self.limits.name)
    }
}

impl Emulated {
    /// A device with these settings.
    pub fn new(settings: Settings) -> Self {
        let limits = Limits {
            name: "emulated".to_owned(),
            // The least that the kernels are for, so that one which asks for more is refused here.
            capability: (8, 0),
            multiprocessors: 4,
            memory: settings.memory,
            shared: 99 << 10,
            driver: "none".to_owned(),
            is_timed: false,
        };
        let state = State {
            settings,
            lost: None,
            launches: 0,
            allocations: BTreeMap::new(),
            queues: HashMap::new(),
            streams: 0,
        };
        // How much memory there is, this device says itself: the limit can be changed.
        let emulator = Emulator::with_limits(u64::MAX, limits.shared);
        let kernels = defrost_gpu_emulator::kernels();
        let machine = Machine { limits, kernels, emulator, state: Mutex::new(state) };
        Self { machine: Arc::new(machine) }
    }

    /// From now on it has so much memory, of which what is allocated stays allocated.
    pub fn set_memory(&self, bytes: u64) {
        self.machine.state().settings.memory = bytes;
    }

    /// From now on the order of threads is drawn from this.
    pub fn set_seed(&self, seed: u64) {
        let mut state = self.machine.state();
        (state.settings.seed, state.launches) = (seed, 0);
    }

    /// Loses the device: nothing can be done with it any more.
    pub fn lose(&self, reason: &str) {
        self.machine.state().lost.get_or_insert_with(|| reason.to_owned());
    }

    /// How many kernels it has run.
    pub fn launches(&self) -> u64 {
        self.machine.state().launches
    }
}

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless the device is lost.
    fn here(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state();
        match &state.lost {
            Some(reason) => Err(Error::Lost(reason.clone())),
            None => Ok(state),
        }
    }

    /// Fails if the device is lost.
    fn check(&self) -> Result<(), Error> {
        self.here().map(drop)
    }

    /// Puts work into a stream's queue.
    fn ask(&self, stream: u64, work: Work) -> Result<Point, Error> {
        let mut state = self.here()?;
        let queue = state.queues.entry(stream).or_default();
        queue.work.push_back(work);
        Ok(Point { stream, done: queue.asked() })
    }

    /// Does what is to be done up to a point.
    fn reach(&self, state: &mut State, point: Point) -> Result<(), Error> {
        loop {
            // A stream that is gone has done all of its work.
            let Some(queue) = state.queues.get_mut(&point.stream) else { return Ok(()) };
            if queue.done >= point.done {
                return Ok(());
            }
            let Some(work) = queue.work.pop_front() else { return Ok(()) };
            queue.done += 1;
            let done = match work {
                Work::Wait(other) => self.reach(state, other),
                Work::Write { bytes, to } => self.emulator.try_write(to.0, &bytes).map_err(lost),
                Work::Kernel(kept) => self.run(state, &kept),
                Work::Kernels(all) => all.iter().try_for_each(|kept| self.run(state, kept)),
                Work::Record(recorded) => {
                    lock(&recorded).happened = Some(Instant::now());
                    Ok(())
                }
            };
            if let Err(error) = done {
                if let Error::Lost(reason) = &error {
                    state.lost.get_or_insert_with(|| reason.clone());
                }
                return Err(error);
            }
        }
    }

    fn run(&self, state: &mut State, kept: &Kept) -> Result<(), Error> {
        let done = match *kept {
            Kept::Zero { at, bytes } => self.emulator.try_write(at.0, &vec![0; bytes]),
            Kept::Launch(ref launch) => {
                let Launch { kernel, grid, block, shared, params } = **launch;
                if state.settings.lost_after.is_some_and(|most| state.launches >= most) {
                    return Err(Error::Lost(format!(
                        "{kernel}: EMULATED_LOST_AFTER={}",
                        state.launches
                    )));
                }
                let seed = state.settings.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ state.launches;
                state.launches += 1;
                self.emulator.launch(kernel, grid, block, shared, params.bytes(), seed)
            }
        };
        done.map_err(lost)
    }

    fn known(&self, kernel: &str) -> Result<(), Error> {
        match self.kernels.binary_search_by(|known| known.as_str().cmp(kernel)) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Fault(format!("{kernel}: there is no such kernel"))),
        }
    }

    /// Does all that every stream was asked for.
    fn reach_all(&self, state: &mut State) -> Result<(), Error> {
        let points: Vec<Point> = state
            .queues
            .iter()
            .map(|(&stream, queue)| Point { stream, done: queue.asked() })
            .collect();
        points.into_iter().try_for_each(|point| self.reach(state, point))
    }
}

impl Device for Emulated {
    fn limits(&self) -> &Limits {
        &self.machine.limits
    }

    fn free(&self) -> Result<u64, Error> {
        let state = self.machine.here()?;
        let used: usize = state.allocations.values().sum();
        Ok(state.settings.memory.saturating_sub(used as u64))
    }

    fn allocate(&self, bytes: usize) -> Result<Address, Error> {
        let free = self.free()?;
        let mut state = self.machine.here()?;
        if bytes as u64 > free {
            let total = state.settings.memory;
            return Err(Error::OutOfMemory { wanted: bytes as u64, free, total });
        }
        let at = self.machine.emulator.try_allocate(bytes).map_err(lost)?;
        state.allocations.insert(at, bytes);
        Ok(Address(at))
    }

    fn release(&self, at: Address) -> Result<(), Error> {
        let mut state = self.machine.here()?;
        if state.allocations.remove(&at.0).is_none() {
            return Err(Error::Fault(format!("nothing is allocated at {:#x}", at.0)));
        }
        let done = self.machine.reach_all(&mut state);
        let released = self.machine.emulator.try_release(at.0).map_err(lost);
        done.and(released)
    }

    fn pinned(&self, bytes: usize) -> Result<Box<dyn Pinned>, Error> {
        self.machine.check()?;
        let machine = Arc::clone(&self.machine);
        let words = vec![0; bytes.div_ceil(size_of::<u64>())];
        Ok(Box::new(Buffer { machine, words, len: bytes, copied: None }))
    }

    fn stream(&self) -> Result<Box<dyn Stream>, Error> {
        let mut state = self.machine.here()?;
        state.streams += 1;
        let number = state.streams;
        state.queues.insert(number, Queue::default());
        let machine = Arc::clone(&self.machine);
        Ok(Box::new(EmulatedStream { machine, number, captured: RefCell::new(None) }))
    }

    fn event(&self) -> Result<Box<dyn Event>, Error> {
        self.machine.check()?;
        let machine = Arc::clone(&self.machine);
        Ok(Box::new(EmulatedEvent { machine, recorded: Mutex::default() }))
    }

    fn prepare(&self, kernels: &[&'static str]) -> Result<(), Error> {
        self.machine.check()?;
        kernels.iter().try_for_each(|kernel| self.machine.known(kernel))
    }

    /// Nothing of it takes time.
    fn phases(&self) -> Vec<(&'static str, Duration)> {
        vec![("context", Duration::ZERO), ("module", Duration::ZERO)]
    }

    fn gauges(&self) -> Vec<DeviceGauge> {
        let Ok(free) = self.free() else { return Vec::new() };
        let used = self.machine.state().settings.memory.saturating_sub(free);
        let labels = || vec![("gpu", "0".to_owned()), ("name", self.machine.limits.name.clone())];
        let gauge = |name, help, value| DeviceGauge { name, help, labels: labels(), value };
        // What is asked for is done at once, so between two answers nothing runs.
        vec![
            gauge("nvml_gpu_utilization", super::UTILIZATION, 0.0),
            gauge("nvml_memory_used_bytes", super::MEMORY_USED, used as f64),
        ]
    }
}

#[derive(Debug)]
struct Buffer {
    machine: Arc<Machine>,
    /// Aligned as page-locked memory is for any number.
    words: Vec<u64>,
    len: usize,
    /// When the last copy from it is done.
    copied: Option<Point>,
}

impl Pinned for Buffer {
    fn len(&self) -> usize {
        self.len
    }

    fn bytes(&mut self) -> Result<&mut [u8], Error> {
        if let Some(copied) = self.copied {
            let mut state = self.machine.here()?;
            self.machine.reach(&mut state, copied)?;
        }
        Ok(&mut bytemuck::cast_slice_mut(&mut self.words)[..self.len])
    }

    fn upload(
        &mut self,
        stream: &dyn Stream,
        bytes: Range<usize>,
        to: Address,
    ) -> Result<(), Error> {
        let stream = own::<EmulatedStream>(stream)?;
        let all: &[u8] = &bytemuck::cast_slice(&self.words)[..self.len];
        let Some(part) = all.get(bytes.clone()) else {
            let len = self.len;
            return Err(Error::Fault(format!("bytes {bytes:?} of a buffer of {len}")));
        };
        self.copied = Some(stream.copy(part, to, "an upload")?);
        Ok(())
    }
}

#[derive(Debug)]
struct EmulatedStream {
    machine: Arc<Machine>,
    number: u64,
    /// The work of the capture that is under way.
    captured: RefCell<Option<Vec<Kept>>>,
}

impl EmulatedStream {
    fn not_captured(&self, what: &str) -> Result<(), Error> {
        if self.captured.borrow().is_none() {
            return Ok(());
        }
        Err(Error::Fault(format!("{what} cannot be captured")))
    }

    fn check(&self, at: Address, bytes: usize) -> Result<(), Error> {
        super::check(&self.machine.here()?.allocations, at, bytes)
    }

    fn copy(&self, bytes: &[u8], to: Address, what: &str) -> Result<Point, Error> {
        self.not_captured(what)?;
        self.check(to, bytes.len())?;
        self.machine.ask(self.number, Work::Write { bytes: bytes.to_vec(), to })
    }

    fn keep(&self, kept: Kept) -> Result<(), Error> {
        if let Some(captured) = &mut *self.captured.borrow_mut() {
            captured.push(kept);
            return self.machine.check();
        }
        self.machine.ask(self.number, Work::Kernel(kept)).map(drop)
    }
}

impl Stream for EmulatedStream {
    fn write(&self, bytes: &[u8], to: Address) -> Result<(), Error> {
        self.copy(bytes, to, "a write").map(drop)
    }

    fn zero(&self, at: Address, bytes: usize) -> Result<(), Error> {
        self.check(at, bytes)?;
        self.keep(Kept::Zero { at, bytes })
    }

    fn launch(&self, launch: &Launch) -> Result<(), Error> {
        self.machine.known(launch.kernel)?;
        let most = self.machine.limits.shared;
        if launch.shared > most {
            let (kernel, asked) = (launch.kernel, launch.shared);
            return Err(Error::Fault(format!(
                "{kernel}: {asked} bytes of shared memory, at most {most} can be had"
            )));
        }
        self.keep(Kept::Launch(Box::new(*launch)))
    }

    fn download(&self, from: Address, into: &mut [u8]) -> Result<(), Error> {
        self.check(from, into.len())?;
        self.synchronize()?;
        self.machine.emulator.try_read(from.0, into).map_err(lost)
    }

    fn record(&self, event: &dyn Event) -> Result<(), Error> {
        self.not_captured("an event")?;
        let event = own::<EmulatedEvent>(event)?;
        // What waits for an earlier point goes on to do so.
        let recorded = Arc::new(Mutex::new(Recorded::default()));
        let point = self.machine.ask(self.number, Work::Record(Arc::clone(&recorded)))?;
        lock(&recorded).at = Some(point);
        *lock(&event.recorded) = recorded;
        Ok(())
    }

    fn wait(&self, event: &dyn Event) -> Result<(), Error> {
        self.not_captured("a wait")?;
        match own::<EmulatedEvent>(event)?.point() {
            Some(point) => self.machine.ask(self.number, Work::Wait(point)).map(drop),
            None => Ok(()),
        }
    }

    fn synchronize(&self) -> Result<(), Error> {
        self.not_captured("a wait")?;
        let mut state = self.machine.here()?;
        let done = state.queues.get(&self.number).map_or(0, Queue::asked);
        self.machine.reach(&mut state, Point { stream: self.number, done })
    }

    fn capture(
        &self,
        work: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<Box<dyn Graph>, Error> {
        self.not_captured("a capture")?;
        *self.captured.borrow_mut() = Some(Vec::new());
        let worked = work();
        let kept = self.captured.take().unwrap_or_default();
        worked?;
        Ok(Box::new(EmulatedGraph { kept: kept.into() }))
    }

    fn start(&self, graph: &dyn Graph) -> Result<(), Error> {
        self.not_captured("a graph")?;
        let kept = Arc::clone(&own::<EmulatedGraph>(graph)?.kept);
        self.machine.ask(self.number, Work::Kernels(kept)).map(drop)
    }
}

impl Drop for EmulatedStream {
    fn drop(&mut self) {
        *self.captured.get_mut() = None;
        // What fails now has lost the device, which the next call says.
        let _ = self.synchronize();
        self.machine.state().queues.remove(&self.number);
    }
}

/// Where an event was recorded.
#[derive(Debug, Default)]
struct Recorded {
    at: Option<Point>,
    happened: Option<Instant>,
}

#[derive(Debug)]
struct EmulatedEvent {
    machine: Arc<Machine>,
    /// The last time that it was recorded.
    recorded: Mutex<Arc<Mutex<Recorded>>>,
}

impl EmulatedEvent {
    fn point(&self) -> Option<Point> {
        lock(&Arc::clone(&lock(&self.recorded))).at
    }

    fn happened(&self) -> Option<Instant> {
        lock(&Arc::clone(&lock(&self.recorded))).happened
    }
}

impl Event for EmulatedEvent {
    fn synchronize(&self) -> Result<(), Error> {
        let mut state = self.machine.here()?;
        self.point().map_or(Ok(()), |point| self.machine.reach(&mut state, point))
    }

    /// Does a piece of the work that is before it, since a device goes on while it is asked.
    fn is_done(&self) -> Result<bool, Error> {
        let mut state = self.machine.here()?;
        let Some(Point { stream, done }) = self.point() else { return Ok(true) };
        let so_far = state.queues.get(&stream).map_or(done, |queue| queue.done);
        self.machine.reach(&mut state, Point { stream, done: done.min(so_far + 1) })?;
        drop(state);
        Ok(self.happened().is_some())
    }

    fn since(&self, earlier: &dyn Event) -> Result<Duration, Error> {
        self.machine.check()?;
        match (own::<Self>(earlier)?.happened(), self.happened()) {
            (Some(earlier), Some(now)) => Ok(now.saturating_duration_since(earlier)),
            _ => Err(Error::Fault("the time between events that have not happened".to_owned())),
        }
    }
}

#[derive(Debug)]
struct EmulatedGraph {
    kept: Arc<[Kept]>,
}

impl Graph for EmulatedGraph {
    fn launches(&self) -> usize {
        self.kept.iter().filter(|kept| matches!(kept, Kept::Launch(_))).count()
    }
}

/// What a card's driver says of the like, too.
#[allow(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn lost(fault: Fault) -> Error {
    Error::Lost(fault.to_string())
}

/// What is one of this kind of device.
fn own<T: Any>(it: &dyn Any) -> Result<&T, Error> {
    it.downcast_ref().ok_or_else(|| Error::Fault("it belongs to another device".to_owned()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
