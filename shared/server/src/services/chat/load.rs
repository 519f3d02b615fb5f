//! From a snapshot to a model that chats.

use std::sync::Arc;

use defrost_tasks::{Generator, GeneratorOptions, SchedulerOptions};

use super::chat_model::ChatModel;
use super::completer::Completer;
use super::turns::Generation;
use crate::boot_error::BootError;
use crate::config::Config;
use crate::life::phases::PhaseRecorder;
use crate::models::loaded::Loaded;
use crate::models::pipeline::Pipeline;
use crate::models::restore;
use crate::models::turns::Turns;

/// Restores the snapshot named by `MODEL` and builds a generator over it.
pub fn restore_completer(config: &Config, phases: &PhaseRecorder) -> Result<Loaded, BootError> {
    let snapshot = restore::snapshot(config, phases)?;
    let scheduler = scheduler_options(config);
    let options = GeneratorOptions { model: restore::options(config), scheduler };
    let generator = Generator::load(config.runtimes, &snapshot, &options)
        .map_err(|error| BootError::from_error(&error))?;
    restore::note(phases, generator.notes(), generator.timings());
    let info = generator.info();
    tracing::info!(
        context = info.context,
        kv_tokens = info.kv_tokens,
        "a conversation has {} tokens at most, all of them together {} (CONTEXT_LENGTH, KV_TOKENS)",
        info.context,
        info.kv_tokens
    );
    let loaded = Loaded::completer(generator);
    if let Some(chat) = loaded.own::<ChatModel>() {
        // Beside the rest of boot; without the thread, the first conversation waits for it.
        let prepare = move || chat.prepare();
        let _ = std::thread::Builder::new().name("template".into()).spawn(prepare);
    }
    Ok(loaded)
}

/// How requests share a model, by the settings.
fn scheduler_options(config: &Config) -> SchedulerOptions {
    let usual = SchedulerOptions::default();
    SchedulerOptions {
        slots: config.chat.max_running,
        step_tokens: usual.step_tokens.min(config.max_batch_tokens),
        ..usual
    }
}

impl Loaded {
    /// A model that continues texts and conversations.
    pub fn completer(model: impl Completer + 'static) -> Self {
        let model = Arc::new(model);
        let pipeline = Arc::clone(&model) as Arc<dyn Pipeline>;
        let chat = Arc::new(ChatModel::new(model));
        let own = Arc::clone(&chat);
        let turns = move |config: &Config| -> Box<dyn Turns> {
            Box::new(Generation::new(Arc::clone(&chat), scheduler_options(config)))
        };
        Self::with_turns(pipeline, own, turns)
    }
}
