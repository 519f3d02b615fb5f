//! A model that answers at once, and a process around it whose loads fail as drawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use defrost_model::{Answers, Grouping, Planned, RerankerKind, Tokens, Wanted};
use defrost_tasks::{Error, ModelInfo, Prepared, Score, ScoreScale, ScoreTask};
use shuttle::rand::{Rng as _, thread_rng};

use crate::app::App;
use crate::boot_error::BootError;
use crate::config::{Action, Config};
use crate::function::Function;
use crate::life::phases::PhaseRecorder;
use crate::models::info::Info;
use crate::models::loaded::Loaded;
use crate::models::pipeline::Pipeline;
use crate::service::{Offer, Service};
use crate::services::embed::EMBED;
use crate::services::rerank::RERANK;
use crate::services::rerank::scorer::{ScoreLists, ScoreQuestion, Scorer};

/// Length of each snapshot, and room for one of them.
pub(super) const FILE_BYTES: &str = "100";

pub(super) const FUNCTION: Function =
    Function { name: "toy", version: "1", about: "a toy", runtimes: &[] };

/// The service that a model of this name is for: one of three is for another than the others.
pub(super) fn service_of(name: &str) -> &'static Service {
    if name == "b" { &EMBED } else { &RERANK }
}

/// What all models of a process share.
#[derive(Debug, Default)]
struct Shared {
    /// Whether nothing may run or load.
    quiet: AtomicBool,
    /// Whether loads succeed from now on.
    healed: AtomicBool,
    /// Bytes of the models that are there.
    loaded: AtomicU64,
}

/// A folder of three snapshots, and the rules of what happens to them.
#[derive(Debug, Clone)]
pub(super) struct World {
    folder: Arc<tempfile::TempDir>,
    shared: Arc<std::sync::Mutex<Arc<Shared>>>,
}

impl World {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a", "b", "c"] {
            std::fs::write(folder.path().join(name), [0; 100]).expect("a file");
        }
        Self { folder: Arc::new(folder), shared: Arc::default() }
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared.lock().expect("no panic"))
    }

    pub(super) fn heal(&self) {
        self.shared().healed.store(true, Ordering::SeqCst);
    }

    pub(super) fn quiet(&self, quiet: bool) {
        self.shared().quiet.store(quiet, Ordering::SeqCst);
    }

    /// A process of three models, or of one where the settings bound no memory, of whose loads one
    /// in `odds` fails.
    pub(super) fn start(&self, settings: &[(&str, &str)], odds: u32) -> Arc<App> {
        let shared = Arc::new(Shared::default());
        *self.shared.lock().expect("no panic") = Arc::clone(&shared);
        let place = |name: &str| self.folder.path().join(name).display().to_string();
        let [a, b, c] = ["a", "b", "c"].map(place);
        let several = format!("a={a},b={b},c={c}");
        let models =
            if settings.is_empty() { ("MODEL", a.as_str()) } else { ("MODELS", &*several) };
        let vars: Vec<(&str, &str)> = settings.iter().copied().chain([models]).collect();
        let lookup = |name: &str| {
            let known = vars.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| (*value).to_owned())
        };
        let names = vars.iter().map(|(name, _)| (*name).to_owned());
        let config =
            match Config::from_lookup(&FUNCTION, &["rerank", "embed"], ["toy"], lookup, names) {
                Ok(Action::Serve(mut config)) => {
                    for model in &mut config.models {
                        model.kind = Some(service_of(&model.names[0]).name());
                    }
                    *config
                }
                other => panic!("not a configuration to serve: {other:?}"),
            };
        let most = if settings.is_empty() { u64::MAX } else { 100 };
        let load = move |config: &Config, _: &PhaseRecorder| {
            assert!(!shared.quiet.load(Ordering::SeqCst), "loaded while it was quiet");
            let before = shared.loaded.fetch_add(100, Ordering::SeqCst);
            let name = config.served_model_name.first().map_or("toy", String::as_str);
            let toy = Toy { info: info(name), shared: Arc::clone(&shared) };
            assert!(before + 100 <= most, "two models where there is room for one");
            shuttle::thread::yield_now();
            if !shared.healed.load(Ordering::SeqCst) && thread_rng().gen_range(0..odds) == 0 {
                return Err(BootError::new("drawn to fail"));
            }
            Ok(Loaded::scorer(toy))
        };
        // One fleet, whatever its models are for.
        let load = Arc::new(load);
        let offer = |service| {
            let load = Arc::clone(&load);
            Offer::new(service, move |config: &Config, phases: &PhaseRecorder| load(config, phases))
        };
        let offers = [offer(&RERANK), offer(&EMBED)];
        crate::life::start::start(FUNCTION, config, Arc::new(PhaseRecorder::start()), offers)
            .expect("threads start")
    }
}

/// A question that is tokenised where it is, or one that is handed over for it.
pub(super) fn question(scorer: Arc<dyn Scorer>) -> ScoreQuestion {
    let length = if thread_rng().gen_range(0..2) == 0 { 1 } else { 10_000 };
    let (query, documents) = ("q".into(), vec!["d".repeat(length), "e".into()]);
    let request = ScoreTask { query, documents, ..ScoreTask::default() };
    ScoreQuestion { scorer, requests: Arc::new(vec![request]) }
}

struct Toy {
    info: ModelInfo,
    shared: Arc<Shared>,
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.shared.loaded.fetch_sub(100, Ordering::SeqCst);
    }
}

pub(crate) fn info(name: &str) -> ModelInfo {
    ModelInfo {
        name: name.into(),
        family: "bert".into(),
        template: "pair",
        kind: RerankerKind::CrossEncoder,
        precision: "f32".into(),
        hidden: 1,
        layers: 1,
        max_length: 8,
        max_sequence: 1,
        vocab: 1,
        takes_instruction: false,
        estimated_max: 1.0,
        backend: "engine",
        kernel: "portable",
        threads: 1,
        snapshot: "00".into(),
        bytes: 100,
        default_normalization: ScoreScale::Sigmoid,
    }
}

impl Scorer for Toy {
    fn facts(&self) -> &ModelInfo {
        &self.info
    }

    fn prepare(&self, _: &[ScoreTask]) -> Result<Prepared<ScoreLists>, Error> {
        let sequences = [1, 2].map(|id| Tokens { ids: vec![id], types: Vec::new() });
        Ok(Prepared::new(sequences.into(), Grouping::AsTheyCome, Wanted::default(), |_| {
            let score = Score { raw: 0.0, tokens: 1, truncated: false, query_truncated: false };
            Ok(vec![vec![score; 2]])
        }))
    }
}

impl Pipeline for Toy {
    fn info(&self) -> Info {
        (&self.info).into()
    }

    fn run(&self, sequences: &[Planned<'_>], _: Wanted) -> Result<Vec<Answers>, Error> {
        shuttle::thread::yield_now();
        assert!(!self.shared.quiet.load(Ordering::SeqCst), "run while it was quiet");
        Ok(vec![Answers::default(); sequences.len()])
    }

    fn sample(&self) -> Result<Prepared<()>, Error> {
        Ok(self.prepare(&[])?.map(drop))
    }
}
