//! A loaded model: its threads, and one sequence after the other.

use std::fmt;

use candle_core::{DType, Device, Tensor};
use defrost_loader::Snapshot;
use defrost_model::{
    Answers, Batch, Error, Grouping, LoadOptions, ModelConfig, Planned, Precision, Runner, Tokens,
    Wanted,
};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::body::{self, Body};
use crate::device::Place;
use crate::fault;
use crate::head::HeadWeights;
use crate::weights::Target;

/// A model of candle's that is ready to run.
pub(crate) struct CandleModel {
    config: ModelConfig,
    device: Device,
    body: Box<dyn Body>,
    head: HeadWeights,
    threads: ThreadPool,
    notes: Vec<String>,
}

impl CandleModel {
    /// Copies the snapshot's weights into candle's tensors, where `DEVICE` says.
    pub(crate) fn load(
        snapshot: &Snapshot,
        config: ModelConfig,
        options: &LoadOptions,
    ) -> Result<Self, Error> {
        config.validate()?;
        let threads = options.threads.unwrap_or_else(default_threads).max(1);
        let threads = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|at| format!("defrost-candle-{at}"))
            .build()
            .map_err(|error| Error::Library {
                name: "candle",
                message: format!("cannot start {threads} threads: {error}"),
            })?;
        let (dtype, named) = match options.compute {
            // Asking for int8 is to insist on such a snapshot, which is refused below.
            // Blocks are of models that it takes none of.
            None | Some(Precision::F32 | Precision::Int8 | Precision::Blocks) => {
                (DType::F32, Precision::F32.name())
            }
            Some(Precision::Bf16) => (DType::BF16, Precision::Bf16.name()),
            Some(Precision::F16) => (DType::F16, Precision::F16.name()),
        };
        // Nothing is opened for a model that would be refused.
        body::check(&config, dtype)?;
        let place = Place::parse(options.device.as_deref())?;
        let device = place.open()?;
        let target = Target { device: device.clone(), dtype };
        let (body, weights) = body::load(snapshot, &config, &target)?;
        let head = HeadWeights::load(&config, &weights.to_dtype(DType::F32)).map_err(fault)?;
        device.synchronize().map_err(fault)?;
        let (to, faster) = match place {
            Place::Cpu => ("memory".to_owned(), "BACKEND=engine is faster"),
            Place::Cuda(_) => (place.to_string(), "it is for comparing"),
        };
        let notes = vec![format!(
            "weights are copied to {to} as {named}, and each sequence is run by itself: {faster}"
        )];
        Ok(Self { config, device, body, head, threads, notes })
    }

    fn one(&self, tokens: &Tokens, wanted: Wanted) -> Result<Answers, Error> {
        let mut batch = Batch::default();
        batch.push(&tokens.ids, &tokens.types);
        batch.check(&self.config)?;
        let row = |values: &[u32]| {
            Tensor::from_slice(values, (1, values.len()), &self.device).map_err(fault)
        };
        let states = self.body.run(&row(batch.ids())?, &row(batch.types())?);
        let states = states.and_then(|states| states.squeeze(0)?.to_dtype(DType::F32));
        let states = states.map_err(fault)?;
        self.head.answers(&states, wanted)
    }
}

impl Runner for CandleModel {
    fn outputs(&self) -> usize {
        self.config.outputs()
    }

    fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    fn kernel(&self) -> &'static str {
        if self.device.is_cuda() { "candle-cuda" } else { "candle" }
    }

    fn grouping(&self, _: Wanted) -> Grouping<'_> {
        Grouping::OneByOne
    }

    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        self.head.check(wanted)?;
        self.threads.install(|| {
            sequences.iter().map(|sequence| self.one(sequence.tokens, wanted)).collect()
        })
    }

    fn for_each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        self.threads.install(|| (0..count).into_par_iter().for_each(work));
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl fmt::Debug for CandleModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CandleModel").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Physical cores, no more than the affinity mask and the cgroup's quota allow.
fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    num_cpus::get_physical().clamp(1, allowed.max(1))
}
