//! [`ModelSpec`] as the snapshot's metadata strings, and back.
//!
//! `model.family` also names what a version that does not know it would overlook, and so compute something else without a
//! word: `qwen3+bidirectional`, `bert+dense+lowercase`. Such a version takes that for a family it does not know and refuses
//! it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use defrost_loader::Snapshot;

use super::{ChatSpec, EmbeddingSpec, ModelSpec, Template, TextRules};
use crate::{
    Attention, DenseActivation, DenseLayer, Error, Family, Head, LocalLayers, ModelConfig,
    RopeScaling, TokenHeads,
};

/// Metadata keys of name and head.
pub(crate) const NAME: &str = "model.name";
pub(crate) const HEAD: &str = "model.head";
/// Metadata keys of the heads that answer for every token; absent where the model has none.
const SPARSE: &str = "model.sparse";
const COLBERT: &str = "model.colbert";
/// Metadata key of the layers after the pooling: `768:tanh:bias 16:identity`. Absent where there are none.
const DENSE: &str = "model.dense";
/// Metadata keys of where attention departs from the usual; absent where it does not.
const SCALE: &str = "model.attention.scale";
/// `linear:8` or `llama3:32:1:4:8192`: factor, low, high, original.
const ROPE_SCALING: &str = "model.rope_scaling";
/// `512:6:10000`: window, how many layers have one that sees all, base of the rotary frequencies.
const LOCAL: &str = "model.local_layers";
/// Metadata key of the family and what else must not be overlooked.
const FAMILY: &str = "model.family";
/// The names of what must not be overlooked.
const BIDIRECTIONAL: &str = "bidirectional";
const HAS_DENSE: &str = "dense";
const HAS_ATTENTION: &str = "attention";
const TIED: &str = "tied";
/// Names that are also keys of ONNX models' metadata.
pub(crate) const LOWERCASE: &str = "lowercase";
pub(crate) const NO_TYPES: &str = "no-token-types";

impl ModelSpec {
    /// The metadata strings of this model.
    pub fn to_meta(&self) -> BTreeMap<String, String> {
        let config = &self.config;
        let mut meta = BTreeMap::new();
        let mut put = |key: &str, value: &dyn Display| {
            meta.insert(key.to_owned(), value.to_string());
        };
        put(NAME, &self.name);
        put(FAMILY, &self.family());
        put(HEAD, &config.head.name());
        put("model.hidden", &config.hidden);
        put("model.layers", &config.layers);
        put("model.heads", &config.heads);
        put("model.kv_heads", &config.kv_heads);
        put("model.head_dim", &config.head_dim);
        put("model.intermediate", &config.intermediate);
        put("model.vocab", &config.vocab);
        put("model.max_positions", &config.max_positions);
        put("model.type_vocab", &config.type_vocab);
        put("model.norm_eps", &config.norm_eps);
        put("model.rope_theta", &config.rope_theta);
        put("model.pad_id", &config.pad_id);
        if !self.stored_prefix.is_empty() {
            let ids: Vec<String> = self.stored_prefix.iter().map(u32::to_string).collect();
            put(STORED_PREFIX, &ids.join(","));
        }
        put("reranker.max_length", &self.max_length);
        put("reranker.estimated_max", &self.estimated_max);
        // Snapshots of models without such heads stay as they were.
        if config.token_heads.sparse {
            put(SPARSE, &true);
        }
        if config.token_heads.colbert > 0 {
            put(COLBERT, &config.token_heads.colbert);
        }
        if !config.dense.is_empty() {
            let layers: Vec<String> = config.dense.iter().map(dense_text).collect();
            put(DENSE, &layers.join(" "));
        }
        let Attention { scale, rope, local } = config.attention;
        if let Some(scale) = scale {
            put(SCALE, &scale);
        }
        match rope {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => put(ROPE_SCALING, &format_args!("linear:{factor}")),
            RopeScaling::Llama3 { factor, low, high, original } => {
                put(ROPE_SCALING, &format_args!("llama3:{factor}:{low}:{high}:{original}"));
            }
        }
        if let Some(LocalLayers { window, every, theta }) = local {
            put(LOCAL, &format_args!("{window}:{every}:{theta}"));
        }
        self.template.put_meta(&mut meta);
        if let Some(embedding) = &self.embedding {
            embedding.put_meta(&mut meta);
        }
        meta
    }

    /// The family's name and what must not be overlooked, joined by `+`.
    fn family(&self) -> String {
        let named = [
            (BIDIRECTIONAL, self.config.bidirectional),
            (HAS_DENSE, !self.config.dense.is_empty()),
            (HAS_ATTENTION, self.config.attention != Attention::default()),
            (TIED, self.config.tied),
            (LOWERCASE, self.text.lowercase),
            (NO_TYPES, !self.text.token_types),
        ];
        let named = named.into_iter().filter(|&(_, set)| set).map(|(name, _)| name);
        std::iter::once(self.config.family.name).chain(named).collect::<Vec<_>>().join("+")
    }

    /// Reads it back; the error names the key at fault.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self, Error> {
        let mut spec = Self::from_meta(snapshot.path(), &|key| snapshot.meta(key))?;
        if spec.config.head == Head::LanguageModel {
            spec.chat = Some(ChatSpec::of(snapshot, spec.config.vocab)?);
        }
        Ok(spec)
    }

    /// Reads it from the metadata strings of the snapshot at `path`, which say nothing of [`ModelSpec::chat`].
    pub fn from_meta<'a>(path: &'a Path, get: &'a Lookup<'a>) -> Result<Self, Error> {
        let meta = Meta { path, get };
        let stored_prefix = meta.ids(STORED_PREFIX)?;
        let (family, named) = meta.family()?;
        let known = [BIDIRECTIONAL, HAS_DENSE, HAS_ATTENTION, TIED, LOWERCASE, NO_TYPES];
        let has = |name: &str| named.contains(&name);
        let dense = meta.dense()?;
        let attention = meta.attention()?;
        if named.iter().any(|name| !known.contains(name))
            || has(HAS_DENSE) == dense.is_empty()
            || has(HAS_ATTENTION) == (attention == Attention::default())
        {
            return Err(meta.unknown(FAMILY, meta.text(FAMILY)?));
        }
        let text = TextRules { lowercase: has(LOWERCASE), token_types: !has(NO_TYPES) };
        let config = ModelConfig {
            family,
            head: meta.named(HEAD, Head::by_name)?,
            token_heads: TokenHeads {
                sparse: meta.parse_or(SPARSE, false)?,
                colbert: meta.parse_or(COLBERT, 0)?,
            },
            bidirectional: has(BIDIRECTIONAL),
            dense,
            hidden: meta.parse("model.hidden")?,
            layers: meta.parse("model.layers")?,
            heads: meta.parse("model.heads")?,
            kv_heads: meta.parse("model.kv_heads")?,
            head_dim: meta.parse("model.head_dim")?,
            intermediate: meta.parse("model.intermediate")?,
            vocab: meta.parse("model.vocab")?,
            max_positions: meta.parse("model.max_positions")?,
            type_vocab: meta.parse("model.type_vocab")?,
            norm_eps: meta.parse("model.norm_eps")?,
            rope_theta: meta.parse("model.rope_theta")?,
            attention,
            tied: has(TIED),
            pad_id: meta.parse("model.pad_id")?,
            stored_prefix: stored_prefix.len(),
        };
        config.validate()?;
        let template = meta.template()?;
        Ok(Self {
            name: meta.text(NAME)?.to_owned(),
            config,
            stored_prefix,
            text,
            template,
            max_length: meta.parse("reranker.max_length")?,
            estimated_max: meta.parse("reranker.estimated_max")?,
            embedding: EmbeddingSpec::from_meta(&meta)?,
            chat: None,
        })
    }
}

/// Metadata key of the stored prefix: ids with commas between them. Absent where there is none.
const STORED_PREFIX: &str = "prompt.stored_prefix";

impl Template {
    /// Adds the metadata strings that [`Meta::template`] reads.
    pub(crate) fn put_meta(&self, meta: &mut BTreeMap<String, String>) {
        meta.insert("reranker.template".to_owned(), self.name().to_owned());
        if let Self::Embedding { query_prompt, document_prompt } = self {
            meta.insert("reranker.query_prompt".to_owned(), query_prompt.clone());
            meta.insert("reranker.document_prompt".to_owned(), document_prompt.clone());
        }
    }
}

/// Outputs, activation and perhaps the bias, with colons between them.
fn dense_text(layer: &DenseLayer) -> String {
    let bias = if layer.bias { ":bias" } else { "" };
    format!("{}:{}{bias}", layer.outputs, layer.activation.name())
}

fn dense_layer(text: &str) -> Option<DenseLayer> {
    let mut parts = text.split(':');
    let outputs = parts.next()?.parse().ok()?;
    let activation = DenseActivation::by_name(parts.next()?)?;
    let bias = match (parts.next(), parts.next()) {
        (None, _) => false,
        (Some("bias"), None) => true,
        _ => return None,
    };
    Some(DenseLayer { outputs, activation, bias })
}

fn rope_scaling(text: &str) -> Option<RopeScaling> {
    let (kind, numbers) = text.split_once(':')?;
    let numbers = numbers.split(':').map(str::parse).collect::<Result<Vec<f32>, _>>().ok()?;
    match (kind, &numbers[..]) {
        ("linear", &[factor]) => Some(RopeScaling::Linear { factor }),
        ("llama3", &[factor, low, high, original]) => {
            Some(RopeScaling::Llama3 { factor, low, high, original })
        }
        _ => None,
    }
}

fn local_layers(text: &str) -> Option<LocalLayers> {
    let mut numbers = text.split(':');
    let (window, every) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    let theta = numbers.next()?.parse().ok()?;
    numbers.next().is_none().then_some(LocalLayers { window, every, theta })
}

/// How a metadata string is looked up.
pub type Lookup<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

/// Metadata strings of the snapshot at a path.
pub(crate) struct Meta<'a> {
    pub(crate) path: &'a Path,
    pub(crate) get: &'a Lookup<'a>,
}

impl<'a> Meta<'a> {
    pub(crate) fn text(&self, key: &str) -> Result<&'a str, Error> {
        (self.get)(key).ok_or_else(|| {
            Error::Model(format!(
                "snapshot {} has no metadata {key:?}: it is not a model that `defrost pack` wrote",
                self.path.display()
            ))
        })
    }

    pub(crate) fn unknown(&self, key: &str, found: &str) -> Error {
        Error::Model(format!(
            "snapshot {}: metadata {key:?} is {found:?}, which this version does not know; \
             pack the model again or use the version that packed it",
            self.path.display()
        ))
    }

    pub(crate) fn parse<T: FromStr>(&self, key: &str) -> Result<T, Error> {
        let text = self.text(key)?;
        text.parse().map_err(|_| self.unknown(key, text))
    }

    /// Parses as [`Meta::parse`] does a key that may be absent.
    pub(crate) fn parse_or<T: FromStr>(&self, key: &str, absent: T) -> Result<T, Error> {
        if (self.get)(key).is_none() { Ok(absent) } else { self.parse(key) }
    }

    pub(crate) fn named<T>(
        &self,
        key: &str,
        by_name: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let text = self.text(key)?;
        by_name(text).ok_or_else(|| self.unknown(key, text))
    }

    /// Ids with commas between them; none without the key.
    fn ids(&self, key: &str) -> Result<Vec<u32>, Error> {
        let Some(text) = (self.get)(key) else { return Ok(Vec::new()) };
        let ids = text.split(',').map(str::parse).collect::<Result<_, _>>();
        ids.map_err(|_| self.unknown(key, text))
    }

    /// The family, and the names that come after it.
    fn family(&self) -> Result<(Family, Vec<&'a str>), Error> {
        let text = self.text(FAMILY)?;
        let mut names = text.split('+');
        let family = names.next().and_then(Family::by_name);
        Ok((family.ok_or_else(|| self.unknown(FAMILY, text))?, names.collect()))
    }

    /// The layers after the pooling; none without the key.
    fn dense(&self) -> Result<Vec<DenseLayer>, Error> {
        let Some(text) = (self.get)(DENSE) else { return Ok(Vec::new()) };
        let layers: Option<Vec<DenseLayer>> = text.split(' ').map(dense_layer).collect();
        layers.ok_or_else(|| self.unknown(DENSE, text))
    }

    /// Where attention departs from the usual; nowhere without the keys.
    fn attention(&self) -> Result<Attention, Error> {
        let scale = (self.get)(SCALE).map(|_| self.parse(SCALE)).transpose()?;
        let rope = match (self.get)(ROPE_SCALING) {
            None => RopeScaling::None,
            Some(text) => rope_scaling(text).ok_or_else(|| self.unknown(ROPE_SCALING, text))?,
        };
        let local = match (self.get)(LOCAL) {
            None => None,
            Some(text) => Some(local_layers(text).ok_or_else(|| self.unknown(LOCAL, text))?),
        };
        Ok(Attention { scale, rope, local })
    }

    /// How pairs become token ids.
    pub(crate) fn template(&self) -> Result<Template, Error> {
        match self.text("reranker.template")? {
            "pair" => Ok(Template::Pair),
            "mxbai-rerank-v2" => Ok(Template::MxbaiRerankV2),
            "qwen3-reranker" => Ok(Template::Qwen3Reranker),
            "embedding" => Ok(Template::Embedding {
                query_prompt: self.text("reranker.query_prompt")?.to_owned(),
                document_prompt: self.text("reranker.document_prompt")?.to_owned(),
            }),
            "chat" => Ok(Template::Chat),
            other => Err(self.unknown("reranker.template", other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(attention: Attention, tied: bool) -> ModelSpec {
        ModelSpec {
            name: "m".into(),
            config: ModelConfig {
                family: Family::by_name("qwen3").unwrap(),
                head: Head::LanguageModel,
                token_heads: TokenHeads::default(),
                bidirectional: false,
                dense: Vec::new(),
                hidden: 32,
                layers: 3,
                heads: 2,
                kv_heads: 1,
                head_dim: 16,
                intermediate: 96,
                vocab: 647,
                max_positions: 4096,
                type_vocab: 0,
                norm_eps: 1e-6,
                rope_theta: 1e6,
                attention,
                tied,
                pad_id: 0,
                stored_prefix: 0,
            },
            stored_prefix: Vec::new(),
            text: TextRules::default(),
            template: Template::Chat,
            max_length: 4096,
            estimated_max: 12.0,
            embedding: None,
            chat: None,
        }
    }

    fn read(meta: &BTreeMap<String, String>) -> Result<ModelSpec, Error> {
        ModelSpec::from_meta(Path::new("m.snap"), &|key| meta.get(key).map(String::as_str))
    }

    #[test]
    fn attention_is_read_as_it_is_written() {
        let local = Some(LocalLayers { window: 512, every: 6, theta: 1e4 });
        let llama3 = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 };
        for (scale, rope, local, family) in [
            (None, RopeScaling::None, None, "qwen3"),
            (Some(0.1), RopeScaling::None, None, "qwen3+attention"),
            (None, RopeScaling::Linear { factor: 8.0 }, local, "qwen3+attention"),
            (Some(0.062_5), llama3, local, "qwen3+attention"),
        ] {
            for tied in [false, true] {
                let spec = spec(Attention { scale, rope, local }, tied);
                let meta = spec.to_meta();
                let tied = if tied { "+tied" } else { "" };
                assert_eq!(meta[FAMILY], format!("{family}{tied}"));
                assert_eq!(read(&meta).unwrap(), spec);
            }
        }
    }

    /// The names of what must not be overlooked, and the keys, stand for each other.
    #[test]
    fn attention_that_is_half_said() {
        let plain = spec(Attention::default(), false).to_meta();
        for (key, value) in [
            (SCALE, "0.5"),
            (SCALE, "much"),
            (ROPE_SCALING, "linear:8"),
            (ROPE_SCALING, "llama3:8"),
            (ROPE_SCALING, "yarn:4"),
            (LOCAL, "512:6:10000"),
            (FAMILY, "qwen3+attention"),
            (FAMILY, "qwen3+windows"),
        ] {
            let mut meta = plain.clone();
            meta.insert(key.to_owned(), value.to_owned());
            read(&meta).unwrap_err();
        }
        for (key, value) in [
            (SCALE, "much"),
            (SCALE, "inf"),
            (ROPE_SCALING, "linear:8:1"),
            (ROPE_SCALING, "llama3:8:1:4"),
            (ROPE_SCALING, "yarn:4"),
            (LOCAL, "512:6"),
            (LOCAL, "512:6:10000:1"),
            (LOCAL, "0:6:10000"),
        ] {
            let mut meta = plain.clone();
            meta.insert(FAMILY.to_owned(), "qwen3+attention".to_owned());
            meta.insert(key.to_owned(), value.to_owned());
            read(&meta).unwrap_err();
        }
    }
}
