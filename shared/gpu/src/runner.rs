//! A model on a device: its weights, its workspace, and one pass after the other.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use defrost_loader::{Dtype, Snapshot};
use defrost_model::{
    Answers, Batch, Error, Grouping, ModelConfig, Planned, Precision, Runner, Wanted, stored,
};

use crate::Address;
use crate::angles::Angles;
use crate::arena::{Arena, ArenaPlan};
use crate::compile::Turns;
use crate::device::{self, Device, Stream};
use crate::forward::{Forward, Results, rotates};
use crate::graphs::{Capacity, Graphs, Key};
use crate::kernels::{Gemm, Half};
use crate::pass::Pass;
use crate::tuned::Tuned;
use crate::upload::Upload;
use crate::weights::Weights;
use crate::workspace::Workspace;

/// How a model is to run on a device.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The type that is computed in; `None`: the snapshot's own, or bf16 where that is int8 or f32.
    pub half: Option<Half>,
    /// The part of the device's memory that may be used, weights and all, from 0 to 1.
    pub memory_fraction: f64,
    /// When the fastest tile of each product is measured.
    pub tune: Tune,
    /// The most rows at which it is.
    pub most_rows: u32,
    /// The folder in which it is kept; `None`: nowhere.
    pub cache_dir: Option<PathBuf>,
}

/// When tiles are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tune {
    /// Not at all: what was kept counts, and the table.
    Never,
    /// Between passes, once there has been one.
    Behind,
    /// Before the model is ready.
    Before,
}

impl Default for Settings {
    /// A tenth of the memory is left to the driver, to graphs, and to whoever else is on the card.
    fn default() -> Self {
        Self {
            half: None,
            memory_fraction: 0.9,
            tune: Tune::Never,
            most_rows: u32::MAX,
            cache_dir: None,
        }
    }
}

/// A model that is ready to run, though its weights may still be on their way.
pub struct GpuModel {
    loaded: Arc<Loaded>,
    notes: Vec<String>,
    /// What loading was made of.
    phases: Vec<(&'static str, Duration)>,
    /// Compiles between passes.
    compiling: Option<JoinHandle<()>>,
}

/// What passes and the compiling between them share.
pub(crate) struct Loaded {
    pub(crate) config: ModelConfig,
    /// Ids of the stored prefix.
    stored_prefix: Vec<u32>,
    pub(crate) weights: Weights,
    half: Half,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) upload: Upload,
    /// Held by `weights` as addresses.
    _arena: Arc<Arena>,
    pub(crate) tuned: Tuned,
    pass: Mutex<Running>,
    /// Whose turn it is beside passes.
    pub(crate) turns: Turns,
}

/// What one pass at a time uses.
pub(crate) struct Running {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) workspace: Workspace,
    angles: Angles,
    pub(crate) graphs: Graphs,
}

impl GpuModel {
    /// Plans the memory, and begins to bring the weights there.
    ///
    /// # Errors
    /// If the model is of a kind that the kernels do not run, or does not fit in the memory.
    pub fn load(
        device: &Arc<dyn Device>,
        snapshot: &Snapshot,
        config: ModelConfig,
        stored_prefix: Vec<u32>,
        settings: &Settings,
    ) -> Result<Self, Error> {
        config.validate()?;
        let own = match snapshot.meta(stored::PRECISION).and_then(Precision::by_name) {
            Some(Precision::F16) => Half::F16,
            _ => Half::Bf16,
        };
        let half = settings.half.unwrap_or(own);
        let dtype = match half {
            Half::Bf16 => Dtype::Bf16,
            Half::F16 => Dtype::F16,
        };
        let plan = ArenaPlan::new(snapshot, &config, dtype)?;
        let (free, total) = (device.free()?, device.limits().memory);
        let allowed = part(total, settings.memory_fraction);
        let left = allowed.saturating_sub(total.saturating_sub(free));
        let needed = plan.bytes() as u64;
        if needed > left {
            return Err(Error::Model(too_large(snapshot, device, needed, left, settings)));
        }
        let arena = Arc::new(Arena::new(device, &plan)?);
        let weights = Weights::find(&arena, &config)?;
        let stream = device.stream()?;
        let upload = Upload::start(device, snapshot, plan, &arena);
        let running = Running {
            stream,
            workspace: Workspace::new(device, left - needed),
            angles: Angles::default(),
            graphs: Graphs::default(),
        };
        let loaded = Arc::new(Loaded {
            config,
            stored_prefix,
            weights,
            half,
            device: Arc::clone(device),
            upload,
            _arena: arena,
            tuned: Tuned::read(settings.cache_dir.as_deref(), device.limits()),
            pass: Mutex::new(running),
            turns: Turns::default(),
        });
        let mut model = Self { loaded, notes: Vec::new(), phases: Vec::new(), compiling: None };
        match settings.tune {
            Tune::Never => {}
            Tune::Before => {
                let began = Instant::now();
                let most = settings.most_rows;
                let done = model.loaded.compile(most).and_then(|()| model.loaded.make_graphs(most));
                match done {
                    Err(Error::OutOfMemory(why)) => {
                        model.loaded.turn().workspace.clear();
                        model.notes.push(format!(
                            "not compiled, though FAST_BOOT=false: {why}; it serves with the usual tiles"
                        ));
                    }
                    done => done?,
                }
                model.note_phase("compile", began.elapsed());
            }
            Tune::Behind => {
                let (loaded, most_rows) = (Arc::clone(&model.loaded), settings.most_rows);
                let work = move || {
                    loaded.turns.wait_for_a_pass();
                    // A device that fails is told by the next pass; without memory, the table's tiles do.
                    let _ = loaded.compile(most_rows);
                };
                model.compiling = Builder::new().name("compile".into()).spawn(work).ok();
            }
        }
        Ok(model)
    }

    /// Notes what came before it was loaded.
    pub(crate) fn note_phase(&mut self, name: &'static str, took: Duration) {
        self.phases.push((name, took));
    }

    /// Returns when all weights are on the device, with the time that took.
    ///
    /// # Errors
    /// Why they will not be.
    pub fn uploaded(&self) -> Result<Duration, Error> {
        Ok(self.loaded.upload.finish()?)
    }

    /// Graphs that passes have been captured in.
    pub fn graphs(&self) -> usize {
        self.loaded.turn().graphs.len()
    }

    /// Products of which the fastest tile is known.
    pub fn tuned(&self) -> usize {
        self.loaded.tuned.len()
    }
}

impl Drop for GpuModel {
    fn drop(&mut self) {
        self.loaded.turns.end();
        if let Some(thread) = self.compiling.take() {
            // What it had measured is lost with a panic, no more.
            let _ = thread.join();
        }
    }
}

impl Loaded {
    /// The device, after whichever pass has it.
    pub(crate) fn turn(&self) -> MutexGuard<'_, Running> {
        self.pass.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Answers, Error> {
        let batch = Batch::of(sequences);
        batch.check(&self.config)?;
        self.check(wanted)?;
        if batch.is_empty() {
            return Ok(Answers::default());
        }
        let mut running = self.turns.first(|| self.turn());
        let done = running.run(self, &batch, wanted);
        if matches!(done, Err(Error::OutOfMemory(_))) {
            running.workspace.clear();
        }
        drop(running);
        self.turns.begin();
        done
    }

    fn check(&self, wanted: Wanted) -> Result<(), Error> {
        for (name, wanted, there) in [
            ("sparse", wanted.sparse, self.weights.sparse.is_some()),
            ("ColBERT", wanted.colbert, self.weights.colbert.is_some()),
        ] {
            if wanted && !there {
                return Err(Error::Config(format!("the model has no {name} head")));
            }
        }
        Ok(())
    }
}

impl Running {
    /// Runs a batch, as a graph where it is small enough for one.
    pub(crate) fn run(
        &mut self,
        model: &Loaded,
        batch: &Batch,
        wanted: Wanted,
    ) -> Result<Answers, Error> {
        let config = &model.config;
        let stream = &*self.stream;
        let exact = Capacity::of(batch);
        let as_graph = self.graphs.are_wanted && wanted == Wanted::default();
        let rounded = exact.rounded().filter(|_| as_graph);
        let pass = Pass::new(batch, config, rounded.unwrap_or(exact));
        let buffers = self.workspace.buffers(config, &pass, wanted)?;
        let angles = rotates(config)
            .then(|| self.angles.until(pass.longest, config, &model.device, stream))
            .transpose()?;
        stream.write(bytemuck::cast_slice(&pass.words), buffers.numbers)?;
        let tile = |gemm: &Gemm| model.tuned.tile(gemm);
        let forward = Forward {
            config,
            weights: &model.weights,
            half: model.half,
            multiprocessors: model.device.limits().multiprocessors,
            angles,
            tile: &tile,
            pass: &pass,
            buffers: &buffers,
        };
        let Some(capacity) = rounded else {
            let results = forward.run(stream, &model.upload, wanted)?;
            return self.answers(model, &pass, &results);
        };
        let key = Key { capacity, places: (buffers.numbers, angles) };
        if let Some((graph, results)) = self.graphs.find(&key) {
            stream.start(graph)?;
            return self.answers(model, &pass, &results);
        }
        let (mut results, mut failed) = (None, None);
        let captured = stream.capture(&mut || {
            match forward.run(stream, &model.upload, wanted) {
                Ok(found) => results = Some(found),
                // What ends a capture is a device's error; this one is told instead of it.
                Err(error) => failed = Some(error),
            }
            Ok(())
        });
        if let Some(error) = failed {
            return Err(error);
        }
        match (captured, results) {
            (Ok(graph), Some(results)) => {
                stream.start(&*graph)?;
                self.graphs.keep(key, graph, results);
                self.answers(model, &pass, &results)
            }
            (Err(lost @ device::Error::Lost(_)), _) => Err(lost.into()),
            // A driver that captures nothing runs all the same.
            _ => {
                self.graphs.are_wanted = false;
                let results = forward.run(stream, &model.upload, wanted)?;
                self.answers(model, &pass, &results)
            }
        }
    }

    /// Brings the answers back, which waits for the pass.
    fn answers(&self, model: &Loaded, pass: &Pass, results: &Results) -> Result<Answers, Error> {
        let (rows, hidden) = (pass.rows as usize, model.config.hidden);
        let fetch = |at: Option<Address>, len: usize| {
            let Some(at) = at else { return Ok(Vec::new()) };
            let mut values = vec![0.0_f32; len];
            self.stream.download(at, bytemuck::cast_slice_mut(&mut values))?;
            Ok::<_, Error>(values)
        };
        let width = results.width as usize;
        let mut pooled = fetch(Some(results.pooled), pass.asked as usize * width)?;
        if model.weights.no_yes.is_some() {
            pooled = pooled.as_chunks::<2>().0.iter().map(|[no, yes]| yes - no).collect();
        }
        Ok(Answers {
            pooled,
            hidden: fetch(results.hidden, rows * hidden)?,
            sparse: fetch(results.sparse, rows)?,
            colbert: fetch(results.colbert, rows * model.config.token_heads.colbert)?,
        })
    }
}

impl Runner for GpuModel {
    fn outputs(&self) -> usize {
        self.loaded.config.outputs()
    }

    fn threads(&self) -> usize {
        1
    }

    fn kernel(&self) -> &'static str {
        match self.loaded.half {
            Half::Bf16 => "cuda-bf16",
            Half::F16 => "cuda-f16",
        }
    }

    /// As the engine groups them.
    fn grouping(&self, wanted: Wanted) -> Grouping<'_> {
        if wanted == Wanted::default() && self.loaded.config.shares_prefixes() {
            Grouping::ByBeginning(&self.loaded.stored_prefix)
        } else {
            Grouping::AsTheyCome
        }
    }

    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        match self.loaded.answer(sequences, wanted) {
            // What is too much at once is run in halves: none of the requests in it asked for the others.
            Err(Error::OutOfMemory(_)) if sequences.len() > 1 => {
                let (first, rest) = sequences.split_at(sequences.len() / 2);
                let mut rest = rest.to_vec();
                rest[0].share.joins = false;
                let mut answers = self.run(first, wanted)?;
                answers.extend(self.run(&rest, wanted)?);
                Ok(answers)
            }
            done => Ok(done?.of_each(sequences, wanted)),
        }
    }

    /// The device's work needs none of the processor's threads.
    fn for_each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count);
        let next = AtomicUsize::new(0);
        let drain = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return;
                }
                work(at);
            }
        };
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(drain)));
            drain();
        });
    }

    fn phases(&self) -> Vec<(&'static str, Duration)> {
        let mut phases = self.phases.clone();
        let upload = &self.loaded.upload;
        // A pass has waited for all weights; the thread that brought them ends at the same time.
        let took = if self.loaded.turns.has_begun() { upload.finish().ok() } else { upload.took() };
        phases.extend(took.map(|took| ("upload", took)));
        phases
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl fmt::Debug for GpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (config, device) = (&self.loaded.config, self.loaded.device.limits());
        let fields = ("config", config, "device", device);
        f.debug_struct("GpuModel")
            .field(fields.0, fields.1)
            .field(fields.2, fields.3)
            .field("half", &self.loaded.half)
            .finish_non_exhaustive()
    }
}

/// A part of so many bytes.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the part is between 0 and 1"
)]
fn part(bytes: u64, fraction: f64) -> u64 {
    (bytes as f64 * fraction.clamp(0.0, 1.0)) as u64
}

fn too_large(
    snapshot: &Snapshot,
    device: &Arc<dyn Device>,
    needed: u64,
    left: u64,
    settings: &Settings,
) -> String {
    // Rounded so that what is needed is more than what is left.
    let unit = if needed < 16 << 20 { ("KiB", 10) } else { ("MiB", 20) };
    format!(
        "the weights of {} need {} {} on the GPU and {} are left there ({}, GPU_MEMORY_FRACTION={}): use a card with more \
         memory, or an int8 snapshot; `{}` runs it without a GPU",
        snapshot.path().display(),
        needed.div_ceil(1 << unit.1),
        unit.0,
        left >> unit.1,
        device.limits().name,
        settings.memory_fraction,
        crate::device::WITHOUT_A_GPU
    )
}
