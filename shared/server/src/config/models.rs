//! `MODELS` and `MODEL_ALIASES`: several models under names of their own.

use super::parse::Reader;
use super::settings::{Config, NamedModel};

impl Reader<'_> {
    pub(super) fn models(&mut self) -> Vec<NamedModel> {
        let mut models: Vec<NamedModel> = self
            .pairs("MODELS", "name=place")
            .into_iter()
            .map(|(name, place)| NamedModel::new(name, place))
            .collect();
        for (alias, name) in self.pairs("MODEL_ALIASES", "alias=name") {
            // Not an alias of an alias: each list is read by itself.
            match models.iter_mut().find(|model| model.names.first() == Some(&name)) {
                Some(model) => model.names.push(alias),
                None => {
                    self.errors
                        .push(format!("MODEL_ALIASES: {alias}={name}: MODELS has no {name}"));
                }
            }
        }
        let mut names: Vec<&String> = models.iter().flat_map(|model| &model.names).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone());
        if let Some(name) = twice {
            self.errors.push(format!(
                "MODELS, MODEL_ALIASES: {name} is there twice; each name means one model"
            ));
        }
        models
    }

    fn pairs(&mut self, setting: &'static str, form: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for item in self.list(setting) {
            match item.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                    pairs.push((name.to_owned(), value.to_owned()));
                }
                _ => {
                    self.errors.push(format!("{setting}: expected {form}, found {item:?}"));
                }
            }
        }
        pairs
    }

    /// There must be a model, said in one way.
    pub(super) fn check_models(&mut self, config: &mut Config) {
        match (config.model.is_empty(), config.models.first()) {
            (true, None) if !self.needs_model => {}
            (true, None) => {
                self.errors.push(
                    "MODEL: not set; name the snapshot to serve, or several in MODELS".to_owned(),
                );
            }
            (false, Some(_)) => {
                self.errors.push("MODEL, MODELS: set one of them".to_owned());
            }
            (false, None) => {}
            (true, Some(first)) => config.model.clone_from(&first.place),
        }
        if !config.models.is_empty() && !config.served_model_name.is_empty() {
            self.errors.push(
                "SERVED_MODEL_NAME: names the model of MODEL; for MODELS use MODEL_ALIASES"
                    .to_owned(),
            );
        }
    }
}
