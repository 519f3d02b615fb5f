//! Five tiers, each with settings of its own: `LIGHT_MODEL_PATH`, `EMBEDDING_N_CTX` and so on, as an `.env` of services that
//! run llama.cpp or MLX has them. Each key is a row of [`KEYS`], which says what becomes of it: it is a setting of the tier's
//! model, or it is refused or told of, because here nothing would come of it.

use defrost_pack::ModelKind;
use defrost_server::{CHAT, EMBED, OwnSetting, RERANK, Service};

use super::dotenv::FromFile;

/// A tier.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tier {
    pub(super) name: &'static str,
    pub(super) service: &'static Service,
}

/// Every tier; the first that has a model is the default of requests that name none.
pub(super) static TIERS: [Tier; 5] = [
    Tier { name: "LIGHT", service: &CHAT },
    Tier { name: "MEDIUM", service: &CHAT },
    Tier { name: "HEAVY", service: &CHAT },
    Tier { name: "EMBEDDING", service: &EMBED },
    Tier { name: "RERANKER", service: &RERANK },
];

const MODEL_PATH: &str = "MODEL_PATH";

/// What becomes of a key.
enum Meaning {
    /// The place of the tier's model.
    Place,
    /// This setting, of models of every kind.
    Setting(&'static str),
    /// This setting of language models, of which others have none.
    OfChat(&'static str),
    /// This setting of embedders, of which others have none.
    OfEmbed(&'static str),
    /// Most tokens that are read at once, which has a name for each kind.
    Context,
    /// What runs the model.
    Backend,
    /// Whether the tier embeds, which its name says.
    EmbeddingMode,
    /// Something that is so or not, and cannot be otherwise; the values that say so, and why.
    Fixed(&'static [&'static str], &'static str),
}

use Meaning::{Backend, Context, EmbeddingMode, Fixed, OfChat, OfEmbed, Place, Setting};

const TRUE: &[&str] = &["true", "1", "yes", "on"];
const FALSE: &[&str] = &["false", "0", "no", "off"];

/// Every key, after the tier's name and an underscore.
const KEYS: [(&str, Meaning); 17] = [
    (MODEL_PATH, Place),
    ("N_CTX", Context),
    ("N_THREADS", Setting("NUM_THREADS")),
    ("N_BATCH", Setting("MAX_BATCH_TOKENS")),
    ("TEMPERATURE", OfChat("TEMPERATURE")),
    ("TOP_P", OfChat("TOP_P")),
    ("TOP_K", OfChat("TOP_K")),
    ("MIN_P", OfChat("MIN_P")),
    ("MAX_TOKENS", OfChat("MAX_TOKENS")),
    ("REPEAT_PENALTY", OfChat("REPEAT_PENALTY")),
    ("KV_TOKENS", OfChat("KV_TOKENS")),
    ("EMBEDDING_DIMENSION", OfEmbed("DIMENSIONS")),
    ("EMBEDDING_MODE", EmbeddingMode),
    ("BACKEND", Backend),
    (
        "N_GPU_LAYERS",
        Fixed(&["0"], "models run on the CPU; layers on a GPU are those of rerank-gpu"),
    ),
    ("USE_MMAP", Fixed(TRUE, "snapshots are always mapped")),
    (
        "USE_MLOCK",
        Fixed(
            FALSE,
            "pages of a snapshot are the kernel's, shared among processes; none is locked",
        ),
    ),
];

/// Words of `BACKEND` for what runs GGUF files elsewhere; here its blocks are read by the engine.
const LLAMA_CPP: [&str; 6] = ["llama.cpp", "llamacpp", "llama_cpp", "llama-cpp", "gguf", "auto"];

/// What the environment says of tiers.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) tiers: Vec<Configured>,
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// What it says of one tier that has a model.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) tier: Tier,
    pub(super) place: String,
    pub(super) own: Vec<OwnSetting>,
}

/// Whether this is a key of a tier.
pub(super) fn is_key(name: &str) -> bool {
    split(name).is_some_and(|(_, key)| KEYS.iter().any(|(known, _)| *known == key))
}

/// The tier and the rest of a name that begins with one.
fn split(name: &str) -> Option<(Tier, &str)> {
    TIERS.iter().find_map(|tier| {
        let rest = name.strip_prefix(tier.name)?.strip_prefix('_')?;
        Some((*tier, rest))
    })
}

/// What a service's models are.
pub(super) fn kind_of(service: &str) -> ModelKind {
    match service {
        name if name == CHAT.name() => ModelKind::Chat,
        name if name == EMBED.name() => ModelKind::Embedder,
        _ => ModelKind::Reranker,
    }
}

/// Reads the keys of all tiers.
pub(super) fn read(lookup: &dyn Fn(&str) -> Option<String>, file: &FromFile) -> Told {
    let mut told = Told::default();
    for tier in TIERS {
        read_tier(tier, lookup, &mut told);
    }
    for name in &file.names {
        let path = file.path.display();
        if name == "RELOAD" {
            told.warnings.push(format!(
                "{path}: RELOAD is ignored: a snapshot does not change while it is served"
            ));
        } else if let Some((tier, key)) = split(name).filter(|_| !is_key(name)) {
            let known: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
            told.errors.push(format!(
                "{path}: {name}: {} has no setting {key}; expected {}_ and one of {}",
                tier.name,
                tier.name,
                known.join(", ")
            ));
        }
    }
    told
}

fn read_tier(tier: Tier, lookup: &dyn Fn(&str) -> Option<String>, told: &mut Told) {
    let mut place = None;
    let mut own = Vec::new();
    let mut given = Vec::new();
    for (key, meaning) in &KEYS {
        let name = format!("{}_{key}", tier.name);
        let found = [name.clone(), format!("DEFROST_{name}")];
        let value = found.iter().find_map(|name| {
            lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        });
        let Some(value) = value else { continue };
        given.push(name.clone());
        let mut set =
            |setting| own.push(OwnSetting { setting, key: name.clone(), value: value.clone() });
        let is = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
        let kind = tier.service.name();
        match meaning {
            Place => place = Some(value),
            Setting(setting) => set(setting),
            OfChat(setting) if kind == CHAT.name() => set(setting),
            OfEmbed(setting) if kind == EMBED.name() => set(setting),
            OfChat(_) => told.warnings.push(format!("{name} is ignored: the model of {} generates nothing", tier.name)),
            OfEmbed(_) => told.warnings.push(format!("{name} is ignored: the model of {} gives no vectors", tier.name)),
            Context if kind == CHAT.name() => set("CONTEXT_LENGTH"),
            Context => set("MAX_LENGTH"),
            Backend if is(&LLAMA_CPP) => {
                if !is(&["auto"]) {
                    told.warnings.push(format!("{name}={value}: blocks of GGUF files are run by the engine of this tool, as all else"));
                }
            }
            Backend if is(&["mlx"]) => told.errors.push(format!(
                "{name}: expected engine, or nothing at all, found mlx, which needs Apple's GPUs; leave it out, and name a GGUF \
                 file or a folder of safetensors as {}_{MODEL_PATH}",
                tier.name
            )),
            Backend => set("BACKEND"),
            EmbeddingMode if is(TRUE) == (kind == EMBED.name()) && is(&[TRUE, FALSE].concat()) => {}
            EmbeddingMode => told.errors.push(format!(
                "{name}: expected {}, found {value}: the model that embeds is that of EMBEDDING_{MODEL_PATH}; leave {name} out",
                kind == EMBED.name()
            )),
            Fixed(words, _) if is(words) => {}
            Fixed(_, why) => told.warnings.push(format!("{name}={value} is ignored: {why}")),
        }
    }
    match place {
        Some(place) => told.tiers.push(Configured { tier, place, own }),
        None if given.is_empty() => {}
        None => told.warnings.push(format!(
            "{} is ignored: {}_{MODEL_PATH} is not set, so that this tier has no model",
            given.join(", "),
            tier.name
        )),
    }
}

/// What `--help` says of the keys.
pub(super) fn help() -> String {
    let tiers: Vec<String> =
        TIERS.iter().map(|tier| format!("{} ({})", tier.name, tier.service.name())).collect();
    let keys: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
    format!(
        "Tiers: {}. Each has settings of its own, in the environment or the file: its name, an underscore, and {}. PORT_FILE=none \
         writes no file.",
        tiers.join(", "),
        keys.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn told(vars: &[(&str, &str)]) -> Told {
        let lookup = |name: &str| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let names = vars.iter().map(|(name, _)| (*name).to_owned()).collect();
        read(&lookup, &FromFile { path: PathBuf::from(".env"), names })
    }

    /// A row for each key and each kind of tier: the setting that it becomes, or what is said of it.
    #[test]
    fn every_key_is_honoured_refused_or_told_of() {
        let rows: [(&str, &str, Result<&str, &str>); 39] = [
            ("LIGHT_N_CTX", "2048", Ok("CONTEXT_LENGTH")),
            ("EMBEDDING_N_CTX", "512", Ok("MAX_LENGTH")),
            ("RERANKER_N_CTX", "512", Ok("MAX_LENGTH")),
            ("MEDIUM_N_THREADS", "4", Ok("NUM_THREADS")),
            ("EMBEDDING_N_THREADS", "4", Ok("NUM_THREADS")),
            ("HEAVY_N_BATCH", "512", Ok("MAX_BATCH_TOKENS")),
            ("LIGHT_TEMPERATURE", "0.7", Ok("TEMPERATURE")),
            ("LIGHT_TOP_P", "0.9", Ok("TOP_P")),
            ("LIGHT_TOP_K", "40", Ok("TOP_K")),
            ("LIGHT_MIN_P", "0.1", Ok("MIN_P")),
            ("LIGHT_MAX_TOKENS", "100", Ok("MAX_TOKENS")),
            ("LIGHT_REPEAT_PENALTY", "1.1", Ok("REPEAT_PENALTY")),
            ("LIGHT_KV_TOKENS", "4096", Ok("KV_TOKENS")),
            ("EMBEDDING_TEMPERATURE", "0.7", Err("generates nothing")),
            ("RERANKER_TOP_P", "0.9", Err("generates nothing")),
            ("EMBEDDING_TOP_K", "40", Err("generates nothing")),
            ("EMBEDDING_MIN_P", "0.1", Err("generates nothing")),
            ("RERANKER_MAX_TOKENS", "1", Err("generates nothing")),
            ("RERANKER_REPEAT_PENALTY", "1", Err("generates nothing")),
            ("RERANKER_KV_TOKENS", "1", Err("generates nothing")),
            ("EMBEDDING_EMBEDDING_DIMENSION", "256", Ok("DIMENSIONS")),
            ("LIGHT_EMBEDDING_DIMENSION", "256", Err("gives no vectors")),
            ("EMBEDDING_EMBEDDING_MODE", "True", Ok("")),
            ("LIGHT_EMBEDDING_MODE", "false", Ok("")),
            ("EMBEDDING_EMBEDDING_MODE", "false", Err("expected true, found false")),
            ("LIGHT_EMBEDDING_MODE", "true", Err("expected false, found true")),
            ("LIGHT_EMBEDDING_MODE", "maybe", Err("expected false, found maybe")),
            ("LIGHT_BACKEND", "engine", Ok("BACKEND")),
            ("LIGHT_BACKEND", "auto", Ok("")),
            ("LIGHT_BACKEND", "llama.cpp", Err("are run by the engine of this tool")),
            ("LIGHT_BACKEND", "MLX", Err("needs Apple's GPUs")),
            ("LIGHT_N_GPU_LAYERS", "0", Ok("")),
            ("LIGHT_N_GPU_LAYERS", "-1", Err("is ignored: models run on the CPU")),
            ("LIGHT_USE_MMAP", "true", Ok("")),
            ("LIGHT_USE_MMAP", "false", Err("is ignored: snapshots are always mapped")),
            ("LIGHT_USE_MLOCK", "false", Ok("")),
            ("LIGHT_USE_MLOCK", "true", Err("none is locked")),
            ("LIGHT_TEMPRATURE", "1", Err("LIGHT has no setting TEMPRATURE")),
            ("RELOAD", "true", Err("RELOAD is ignored")),
        ];
        for (key, value, expected) in rows {
            let tier = key.split('_').next().unwrap_or_default();
            let place = format!("{tier}_MODEL_PATH");
            let Told { tiers, errors, warnings } = told(&[(&place, "a.snap"), (key, value)]);
            let said = [errors, warnings].concat().join("\n");
            match expected {
                Err(part) => {
                    assert!(said.contains(part) && said.contains(key), "{key}={value}: {said}");
                }
                Ok(setting) => {
                    assert_eq!(said, "", "{key}={value}");
                    let own = tiers.iter().flat_map(|tier| &tier.own);
                    let found: Vec<_> =
                        own.map(|own| (own.setting, &*own.key, &*own.value)).collect();
                    let expected: &[_] =
                        if setting.is_empty() { &[] } else { &[(setting, key, value)] };
                    assert_eq!(found, expected, "{key}={value}");
                }
            }
        }
        for (key, _) in &KEYS {
            let has = |(row, ..): &(&str, &str, Result<&str, &str>)| {
                split(row).is_some_and(|(_, rest)| rest == *key)
            };
            assert!(*key == MODEL_PATH || rows.iter().any(has), "{key} has no row");
        }
    }

    #[test]
    fn settings_of_a_tier_without_a_model_are_told_of() {
        let Told { tiers, errors, warnings } =
            told(&[("HEAVY_TOP_K", "3"), ("LIGHT_MODEL_PATH", "")]);
        assert!(tiers.is_empty() && errors.is_empty());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("HEAVY_MODEL_PATH is not set"), "{warnings:?}");
        let prefixed = told(&[("DEFROST_LIGHT_MODEL_PATH", "a.gguf")]).tiers;
        assert_eq!(prefixed[0].place, "a.gguf");
    }
}
