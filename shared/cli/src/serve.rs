//! `defrost serve`: rerankers, embedders and language models in one process behind one port.
//!
//! ```text
//! .env, environment ── tiers (LIGHT_MODEL_PATH …) ─┐
//! command line ─────── NAME=PLACE, NAME, tiers ────┴─> places ──> kinds ──> settings of each ──> the server
//!                                                      snapshot, GGUF, checkpoint, s3://, hf://
//! ```
//!
//! The process is that of a function, with the services of all of them (`defrost-server`): a request's path says which one it
//! is for, its `model` which of its models. What is no snapshot yet is packed when it is first loaded ([`packing`]). Every
//! mistake of the settings is told at once, a line each.

mod dotenv;
mod models;
mod tiers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use defrost_loader::default_cache;
use defrost_server::{
    BootError, CHAT, Config, EMBED, Function, Loaded, Offer, OwnSetting, PhaseRecorder, RERANK,
    Service, SettingsSource, arguments, restore_completer, restore_embedder, restore_reranker,
    run_with_config,
};

use crate::backend::LINKED;
use crate::packing;
use crate::print::note;

use self::models::Wanted;

const FUNCTION: Function = Function {
    name: "defrost",
    version: env!("CARGO_PKG_VERSION"),
    about: "reranks, embeds and chats on a CPU with models restored from snapshots",
    runtimes: LINKED,
};

/// What restores a service's models.
type Restore = fn(&Config, &PhaseRecorder) -> Result<Loaded, BootError>;

/// What there is to offer.
const SERVICES: [(&Service, Restore); 3] =
    [(&CHAT, restore_completer), (&EMBED, restore_embedder), (&RERANK, restore_reranker)];

/// Settings whose usual values are others than a function's: models that nobody asks for take no memory, other programs find
/// the port where they look for it, and clients of the service whose settings these are read `data`.
const USUAL: [(&str, &str); 3] =
    [("LAZY_LOAD", "true"), ("PORT_FILE", PORT_FILE), ("RETURN_DATA", "always")];

/// Where clients look for the port.
const PORT_FILE: &str = ".port";

const MODELS: &str = "models";
const ENV_FILE: &str = "env-file";

/// Arguments of `defrost serve`.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    models: Vec<String>,
    env_file: Option<PathBuf>,
    /// The settings that were given as flags.
    settings: ArgMatches,
}

impl clap::FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            models: matches.get_many(MODELS).into_iter().flatten().cloned().collect(),
            env_file: matches.get_one(ENV_FILE).cloned(),
            settings: matches.clone(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Args {
    fn augment_args(command: Command) -> Command {
        let models = Arg::new(MODELS)
            .value_name("NAME|PLACE|NAME=PLACE")
            .num_args(0..)
            .help(
                "Models to serve: a tier (LIGHT), a place, or a name for a place. A place is a snapshot, a .gguf file, a \
                 checkpoint's folder, s3://bucket/key or hf://org/name; a name alone is looked for here and in the cache. \
                 Default: every tier that has a MODEL_PATH, and MODEL or MODELS",
            );
        let env_file = Arg::new(ENV_FILE)
            .long(ENV_FILE)
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .help("File of settings, NAME=value a line; what the environment says counts more; default: .env, if it is there");
        let kinds = SERVICES.map(|(service, _)| service.name());
        command
            .arg(models)
            .arg(env_file)
            .args(arguments(&FUNCTION, &kinds, &USUAL))
            .after_help(tiers::help())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Serves until it is told to end.
pub(crate) fn run(args: &Args) -> ExitCode {
    let phases = PhaseRecorder::start();
    defrost_loader::share_memory_among_threads();
    match settings(args) {
        Ok(config) => {
            let cache = config.cache_dir.clone().unwrap_or_else(default_cache);
            let offers = SERVICES.map(|(service, restore)| offer(service, restore, cache.clone()));
            run_with_config(FUNCTION, offers, config, phases)
        }
        Err(errors) => {
            for error in errors {
                note!("{error}");
            }
            ExitCode::from(2)
        }
    }
}

/// A service whose models are packed before they are restored where they are no snapshots yet.
fn offer(service: &'static Service, restore: Restore, cache: PathBuf) -> Offer {
    let kind = tiers::kind_of(service.name());
    Offer::new(service, move |config, phases| {
        let place = packing::place(&config.model, kind, &cache)
            .map_err(|error| BootError::new(format!("{error:#}").replace('\n', " ")))?;
        restore(&config.at(place), phases)
    })
}

/// What the environment and the command line say, or everything that is wrong with it.
fn settings(args: &Args) -> Result<Config, Vec<String>> {
    let from_file = dotenv::load(args.env_file.as_deref()).map_err(|error| vec![error])?;
    let lookup = |name: &str| std::env::var(name).ok();
    let usual: Vec<_> = USUAL
        .into_iter()
        // Where no file can be written here, nobody asked for one.
        .filter(|(name, _)| *name != "PORT_FILE" || tempfile::tempfile_in(Path::new(".")).is_ok())
        .collect();
    let source = SettingsSource {
        function: &FUNCTION,
        matches: &args.settings,
        usual: &usual,
        lookup: &lookup,
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let names = names.filter(|name| !tiers::is_key(name.trim_start_matches("DEFROST_")));
    let (mut config, mut errors) = source.read(names);
    if config.port_file.as_deref() == Some(Path::new("none")) {
        config.port_file = None;
    }
    let cache = config.cache_dir.clone().unwrap_or_else(default_cache);
    let told = tiers::read(&lookup, &from_file);
    errors.extend(told.errors);
    for warning in told.warnings {
        note!("{warning}");
    }
    let (wanted, more) = models::wanted(&args.models, &told.tiers, &config, &cache);
    errors.extend(more);
    errors.extend(models::same_names(&wanted));
    let known = errors.clone();
    let mut read_for = |own: &[OwnSetting]| {
        let (own, more) = source.read_for(own);
        errors.extend(more.into_iter().filter(|error| !known.contains(error)));
        own
    };
    // What is wrong with a tier's other settings is told beside what is wrong with its place.
    for tier in told.tiers.iter().filter(|_| args.models.is_empty()) {
        if !wanted.iter().any(|one| one.model.names == [tier.tier.name]) {
            read_for(&tier.own);
        }
    }
    config.models = wanted
        .into_iter()
        .map(|Wanted { mut model, own }| {
            model.own = Some(Box::new(read_for(&own)));
            model
        })
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    if let Some(first) = config.models.first() {
        config.model.clone_from(&first.place);
    }
    // Names of MODEL are those of one model of several now.
    config.served_model_name.clear();
    config.tiers = true;
    Ok(config)
}
