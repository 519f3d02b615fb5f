//! Which models there are to be, from the tiers, the command line and the settings of functions.

use std::path::Path;

use defrost_loader::inspect;
use defrost_pack::ModelKind;
use defrost_server::{Config, NamedModel, OwnSetting};

use crate::packing::{
    self,
    form::{self, Form},
};

use super::SERVICES;
use super::tiers::{Configured, TIERS, kind_of};

/// A model that is to be served, and the settings that only it has.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) model: NamedModel,
    pub(super) own: Vec<OwnSetting>,
}

/// The models that the command line names, or all that the settings do, and what is wrong with others.
pub(super) fn wanted(
    named: &[String],
    tiers: &[Configured],
    config: &Config,
    cache: &Path,
) -> (Vec<Wanted>, Vec<String>) {
    let (mut wanted, mut errors) = (Vec::new(), Vec::new());
    let mut add = |found: Result<Wanted, String>| match found {
        Ok(found) => wanted.push(found),
        Err(error) => errors.push(error),
    };
    if named.is_empty() {
        for tier in tiers {
            add(of_tier(tier));
        }
        for model in &config.models {
            add(of_place(model.names.clone(), &model.place, "MODELS", config));
        }
        if !config.model.is_empty() && config.models.is_empty() {
            let names = match config.served_model_name.as_slice() {
                [] => vec![form::stem(&config.model)],
                names => names.to_vec(),
            };
            add(of_place(names, &config.model, "MODEL", config));
        }
        if wanted.is_empty() && errors.is_empty() {
            let keys: Vec<String> =
                TIERS.iter().map(|tier| format!("{}_MODEL_PATH", tier.name)).collect();
            errors.push(format!(
                "nothing to serve: expected models on the command line (defrost serve NAME=PLACE), or one of {} in the \
                 environment or in .env",
                keys.join(", ")
            ));
        }
    } else {
        for name in named {
            add(of_argument(name, tiers, config, cache));
        }
    }
    (wanted, errors)
}

/// Names that two models have.
pub(super) fn same_names(wanted: &[Wanted]) -> Vec<String> {
    let mut names: Vec<String> =
        wanted.iter().flat_map(|one| &one.model.names).map(|name| name.to_lowercase()).collect();
    names.sort_unstable();
    let mut twice: Vec<String> =
        names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()).collect();
    twice.dedup();
    let told = |name| {
        format!(
            "two models are called {name}, in whatever case: give one of them another name, as NAME=PLACE"
        )
    };
    twice.into_iter().map(told).collect()
}

/// A tier's model. What it is for, the tier says; what lies there must not contradict it.
fn of_tier(Configured { tier, place, own }: &Configured) -> Result<Wanted, String> {
    let key = format!("{}_MODEL_PATH", tier.name);
    let form = form::look(place).map_err(|error| format!("{key}: {error}"))?;
    let service = tier.service.name();
    let wants = kind_of(service);
    let found = match form {
        Form::Snapshot { kind, .. } => Some(kind),
        Form::Gguf(_) => Some(ModelKind::Chat),
        // Whoever packs it is told what it is to be, and says what contradicts that.
        Form::Onnx | Form::Folder(_) | Form::Bucket | Form::Hub => None,
    };
    if let Some(found) = found.filter(|found| !serves(*found, wants)) {
        let elsewhere = TIERS.iter().find(|tier| kind_of(tier.service.name()) == found);
        let elsewhere = elsewhere.map_or("", |tier| tier.name);
        let gguf = if matches!(form, Form::Gguf(_)) {
            "; a GGUF file is packed for chat only, others from a folder of safetensors"
        } else {
            ""
        };
        return Err(format!(
            "{key}: expected a model of the kind {}, found {place}, which is one of the kind {}; name it as {elsewhere}_MODEL_PATH{gguf}",
            wants.name(),
            found.name()
        ));
    }
    let mut model = NamedModel::new(tier.name, place);
    model.kind = Some(service);
    model.owner = Some(format!("llmservice-{}", tier.name.to_lowercase()));
    model.bytes = form::bytes(&form);
    model.full_name = full_name(form, place);
    Ok(Wanted { model, own: own.clone() })
}

/// Whether a model of one kind may do another one's work: the vectors of an embedder rank.
fn serves(found: ModelKind, wanted: ModelKind) -> bool {
    found == wanted || (found, wanted) == (ModelKind::Embedder, ModelKind::Reranker)
}

/// The model's own name, where that is known without restoring it.
fn full_name(form: Form, place: &str) -> Option<String> {
    match form {
        Form::Snapshot { name, .. } => name,
        Form::Gguf(_) | Form::Folder(_) => Some(form::stem(place)),
        Form::Onnx | Form::Bucket | Form::Hub => None,
    }
}

/// A model of the command line: a tier, a place under a name, a place, or a name.
fn of_argument(
    argument: &str,
    tiers: &[Configured],
    config: &Config,
    cache: &Path,
) -> Result<Wanted, String> {
    if let Some(tier) = TIERS.iter().find(|tier| tier.name.eq_ignore_ascii_case(argument)) {
        let configured = tiers.iter().find(|known| known.tier.name == tier.name);
        return configured.map_or_else(
            || Err(format!("{argument}: expected {}_MODEL_PATH in the environment or in .env, which says where its model is", tier.name)),
            of_tier,
        );
    }
    if let Some((name, place)) = argument.split_once('=') {
        if name.is_empty() || place.is_empty() {
            return Err(format!(
                "{argument}: expected NAME=PLACE, as LIGHT=model.gguf or mine=hf://org/name"
            ));
        }
        if let Some(tier) = TIERS.iter().find(|tier| tier.name.eq_ignore_ascii_case(name)) {
            let known = tiers.iter().find(|known| known.tier.name == tier.name);
            let own = known.map(|known| known.own.clone()).unwrap_or_default();
            return of_tier(&Configured { tier: *tier, place: place.to_owned(), own });
        }
        return of_place(vec![name.to_owned()], place, argument, config);
    }
    if argument.contains("://") || Path::new(argument).exists() {
        return of_place(vec![form::stem(argument)], argument, argument, config);
    }
    match by_name(argument, cache) {
        Some(place) => of_place(vec![argument.to_owned()], &place, argument, config),
        None => Err(format!(
            "{argument}: expected a tier ({}), a place, NAME=PLACE, or the name of {argument}.snap or {argument}.gguf here or of a \
             model whose snapshot is in {}; found none of that name",
            TIERS.map(|tier| tier.name).join(", "),
            cache.display()
        )),
    }
}

/// A file of this name here, or a snapshot in the cache whose model has it.
fn by_name(name: &str, cache: &Path) -> Option<String> {
    let here = ["snap", "gguf"].map(|end| format!("{name}.{end}"));
    if let Some(here) = here.into_iter().find(|path| Path::new(path).is_file()) {
        return Some(here);
    }
    let mut snapshots: Vec<_> = [cache.to_path_buf(), packing::folder(cache)]
        .into_iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "snap"))
        .collect();
    snapshots.sort();
    let is_called = |path: &&std::path::PathBuf| {
        let Ok((_, manifest)) = inspect(path) else { return false };
        let own = manifest.meta.get("model.name").map(ToString::to_string).unwrap_or_default();
        let short = own.rsplit('/').next().unwrap_or_default();
        own.eq_ignore_ascii_case(name) || short.eq_ignore_ascii_case(name)
    };
    snapshots.iter().find(is_called).map(|path| path.display().to_string())
}

/// A model whose kind its files say.
fn of_place(
    names: Vec<String>,
    place: &str,
    from: &str,
    config: &Config,
) -> Result<Wanted, String> {
    let told = |error: String| format!("{from}: {error}");
    let mut place = place.to_owned();
    let mut form = form::look(&place).map_err(told)?;
    if matches!(form, Form::Bucket | Form::Hub) {
        // What it is for stands in it alone.
        place = packing::fetched(&place, config).map_err(|error| told(format!("{error:#}")))?;
        form = form::look(&place).map_err(told)?;
    }
    let kind = form::kind(&form, &place).map_err(told)?;
    let Some(kind) = kind else {
        let tiers = TIERS.map(|tier| tier.name).join(", ");
        return Err(told(format!(
            "what the model is for is not said by the files of {place}; expected a tier that says it ({tiers}), as RERANKER={place}"
        )));
    };
    let service =
        SERVICES.iter().map(|(service, _)| service.name()).find(|name| kind_of(name) == kind);
    let mut model = NamedModel::new("", place.as_str());
    model.names = names;
    model.kind = service;
    model.bytes = form::bytes(&form);
    model.full_name = full_name(form, &place);
    Ok(Wanted { model, own: Vec::new() })
}
