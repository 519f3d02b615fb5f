//! A model on a device: its weights, its workspace, and one pass after the other.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use defrost_loader::{Dtype, Snapshot};
use defrost_model::{
    Answers, Batch, Error, Grouping, ModelConfig, Planned, Precision, Runner, Wanted, stored,
};

use crate::Address;
use crate::arena::{Arena, ArenaPlan};
use crate::device::{Device, Memory, Stream};
use crate::forward::{Forward, Results, rotates};
use crate::kernels::{Gemm, Half, Tile};
use crate::pass::Pass;
use crate::upload::Upload;
use crate::weights::Weights;
use crate::workspace::Workspace;

/// How a model is to run on a device.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The type that is computed in; `None`: the snapshot's own, or bf16 where that is int8 or f32.
    pub half: Option<Half>,
    /// The part of the device's memory that may be used, weights and all, from 0 to 1.
    pub memory_fraction: f64,
}

impl Default for Settings {
    /// A tenth of the memory is left to the driver, to graphs, and to whoever else is on the card.
    fn default() -> Self {
        Self { half: None, memory_fraction: 0.9 }
    }
}

/// A model that is ready to run, though its weights may still be on their way.
pub struct GpuModel {
    config: ModelConfig,
    /// Ids of the stored prefix.
    stored_prefix: Vec<u32>,
    weights: Weights,
    half: Half,
    device: Arc<dyn Device>,
    upload: Upload,
    /// Held by `weights` as addresses.
    _arena: Arc<Arena>,
    notes: Vec<String>,
    /// What opening the device was made of.
    phases: Vec<(&'static str, Duration)>,
    pass: Mutex<Running>,
}

/// What one pass at a time uses.
struct Running {
    stream: Box<dyn Stream>,
    workspace: Workspace,
    angles: Angles,
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
        settings: Settings,
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
        let allowed = (total as f64 * settings.memory_fraction) as u64;
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
        };
        let device = Arc::clone(device);
        let notes = Vec::new();
        let (pass, arena) = (Mutex::new(running), arena);
        Ok(Self {
            config,
            stored_prefix,
            weights,
            half,
            device,
            upload,
            _arena: arena,
            notes,
            phases: Vec::new(),
            pass,
        })
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
        Ok(self.upload.finish()?)
    }

    fn answer(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Answers, Error> {
        let batch = Batch::of(sequences);
        batch.check(&self.config)?;
        self.check(wanted)?;
        if batch.is_empty() {
            return Ok(Answers::default());
        }
        let pass = Pass::new(&batch, &self.config);
        let mut running = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let done = running.run(self, &pass, wanted);
        if matches!(done, Err(Error::OutOfMemory(_))) {
            running.workspace.clear();
        }
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
    fn run(&mut self, model: &GpuModel, pass: &Pass, wanted: Wanted) -> Result<Answers, Error> {
        let config = &model.config;
        let stream = &*self.stream;
        let buffers = self.workspace.buffers(config, pass, wanted)?;
        let angles = rotates(config)
            .then(|| self.angles.until(pass.longest, config, &model.device, stream))
            .transpose()?;
        stream.write(bytemuck::cast_slice(&pass.words), buffers.numbers)?;
        let tile = |_: &Gemm| -> Option<Tile> { None };
        let forward = Forward {
            config,
            weights: &model.weights,
            half: model.half,
            multiprocessors: model.device.limits().multiprocessors,
            angles,
            tile: &tile,
            pass,
            buffers: &buffers,
        };
        let results = forward.run(stream, &model.upload, wanted)?;
        self.answers(model, pass, &results)
    }

    /// Brings the answers back, which waits for the pass.
    fn answers(&self, model: &GpuModel, pass: &Pass, results: &Results) -> Result<Answers, Error> {
        let (rows, hidden) = (pass.rows as usize, model.config.hidden);
        let fetch = |at: Option<Address>, len: usize| {
            let Some(at) = at else { return Ok(Vec::new()) };
            let mut values = vec![0.0_f32; len];
            self.stream.download(at, bytemuck::cast_slice_mut(&mut values))?;
            Ok::<_, Error>(values)
        };
        let width = results.width as usize;
        let mut pooled = fetch(Some(results.pooled), pass.answers as usize * width)?;
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

/// Cosines and sines of places, on the device for as many as a sequence has needed so far.
#[derive(Debug, Default)]
struct Angles {
    places: usize,
    memory: Option<Memory>,
}

/// Places that there are angles for from the beginning on: most requests have no more.
const FIRST_PLACES: usize = 512;

impl Angles {
    /// A table of the places below `len` at least, rows of `[cos | sin]`; computed in f32 as `transformers` does, by the
    /// functions that the engine uses.
    fn until(
        &mut self,
        len: usize,
        config: &ModelConfig,
        device: &Arc<dyn Device>,
        stream: &dyn Stream,
    ) -> Result<Address, crate::device::Error> {
        if let Some(memory) = self.memory.as_ref().filter(|_| self.places >= len) {
            return Ok(memory.address());
        }
        let places = len.next_power_of_two().max(FIRST_PLACES).min(config.max_positions.max(len));
        let width = config.head_dim;
        let frequencies: Vec<f32> = (0..width / 2)
            .map(|pair| 1.0 / libm::powf(config.rope_theta, (2 * pair) as f32 / width as f32))
            .collect();
        let mut table = Vec::with_capacity(places * width);
        for place in 0..places {
            let angles = || frequencies.iter().map(|frequency| place as f32 * frequency);
            table.extend(angles().map(libm::cosf));
            table.extend(angles().map(libm::sinf));
        }
        let memory = Memory::new(device, 4 * table.len())?;
        stream.write(bytemuck::cast_slice(&table), memory.address())?;
        self.places = places;
        Ok(self.memory.insert(memory).address())
    }
}

impl Runner for GpuModel {
    fn outputs(&self) -> usize {
        self.config.outputs()
    }

    fn threads(&self) -> usize {
        1
    }

    fn kernel(&self) -> &'static str {
        match self.half {
            Half::Bf16 => "cuda-bf16",
            Half::F16 => "cuda-f16",
        }
    }

    /// As the engine groups them.
    fn grouping(&self, wanted: Wanted) -> Grouping<'_> {
        if wanted == Wanted::default() && self.config.shares_prefixes() {
            Grouping::ByBeginning(&self.stored_prefix)
        } else {
            Grouping::AsTheyCome
        }
    }

    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        Ok(self.answer(sequences, wanted)?.of_each(sequences, wanted))
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
        phases.extend(self.upload.took().map(|took| ("upload", took)));
        phases
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl fmt::Debug for GpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (config, device) = (&self.config, self.device.limits());
        let fields = ("config", config, "device", device);
        f.debug_struct("GpuModel")
            .field(fields.0, fields.1)
            .field(fields.2, fields.3)
            .field("half", &self.half)
            .finish_non_exhaustive()
    }
}

fn too_large(
    snapshot: &Snapshot,
    device: &Arc<dyn Device>,
    needed: u64,
    left: u64,
    settings: Settings,
) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    format!(
        "the weights of {} need {} MiB on the GPU and {} are left there ({}, GPU_MEMORY_FRACTION={}): use a card with more \
         memory, or an int8 snapshot; `{}` runs it without a GPU",
        snapshot.path().display(),
        mib(needed),
        mib(left),
        device.limits().name,
        settings.memory_fraction,
        crate::device::WITHOUT_A_GPU
    )
}
