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

use super::{EmbeddingSpec, ModelSpec, Template, TextRules};
use crate::{Attention, DenseActivation, DenseLayer, Error, Family, Head, ModelConfig, TokenHeads};

/// Metadata keys of the heads that answer for every token; absent where the model has none.
const SPARSE: &str = "model.sparse";
const COLBERT: &str = "model.colbert";
/// Metadata key of the layers after the pooling: `768:tanh:bias 16:identity`. Absent where there are none.
const DENSE: &str = "model.dense";
/// Metadata key of the family and what else must not be overlooked.
const FAMILY: &str = "model.family";
/// The names of what must not be overlooked.
const BIDIRECTIONAL: &str = "bidirectional";
const HAS_DENSE: &str = "dense";
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
        put("model.name", &self.name);
        put(FAMILY, &self.family());
        put("model.head", &config.head.name());
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
            (LOWERCASE, self.text.lowercase),
            (NO_TYPES, !self.text.token_types),
        ];
        let named = named.into_iter().filter(|&(_, set)| set).map(|(name, _)| name);
        std::iter::once(self.config.family.name).chain(named).collect::<Vec<_>>().join("+")
    }

    /// Reads it back; the error names the key at fault.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self, Error> {
        Self::from_meta(snapshot.path(), &|key| snapshot.meta(key))
    }

    /// Reads it from the metadata strings of the snapshot at `path`.
    pub fn from_meta<'a>(path: &'a Path, get: &'a Lookup<'a>) -> Result<Self, Error> {
        let meta = Meta { path, get };
        let stored_prefix = meta.ids(STORED_PREFIX)?;
        let (family, named) = meta.family()?;
        let known = [BIDIRECTIONAL, HAS_DENSE, LOWERCASE, NO_TYPES];
        let has = |name: &str| named.contains(&name);
        let dense = meta.dense()?;
        if named.iter().any(|name| !known.contains(name)) || has(HAS_DENSE) == dense.is_empty() {
            return Err(meta.unknown(FAMILY, meta.text(FAMILY)?));
        }
        let text = TextRules { lowercase: has(LOWERCASE), token_types: !has(NO_TYPES) };
        let config = ModelConfig {
            family,
            head: meta.named("model.head", Head::by_name)?,
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
            attention: Attention::default(),
            tied: false,
            pad_id: meta.parse("model.pad_id")?,
            stored_prefix: stored_prefix.len(),
        };
        config.validate()?;
        let template = meta.template()?;
        Ok(Self {
            name: meta.text("model.name")?.to_owned(),
            config,
            stored_prefix,
            text,
            template,
            max_length: meta.parse("reranker.max_length")?,
            estimated_max: meta.parse("reranker.estimated_max")?,
            embedding: EmbeddingSpec::from_meta(&meta)?,
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
            other => Err(self.unknown("reranker.template", other)),
        }
    }
}
