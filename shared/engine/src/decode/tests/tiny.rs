//! Random models of a few thousand weights.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use defrost_loader::{Dtype, Tensor};
use defrost_model::parts::{Naming, Part, Storage, plan};
use defrost_model::{Attention, BlockKind, Family, Precision, TokenHeads, isa};

use crate::blocks::{PANELS_OF, ROWS_OF, dequantize, pack, quantize};
use crate::layout::{PANEL64, ROW_MAJOR, panels};
use crate::{Encoding, Error, Head, Kernel, Model, ModelConfig, Threads, Weights};

/// Families that continue sequences.
pub(super) fn families() -> impl Iterator<Item = &'static str> {
    let known = |name: &&str| Family::by_name(name).is_some();
    ["qwen2", "qwen3", "llama", "gemma3_text"].into_iter().filter(known)
}

pub(super) fn config(family: &str) -> ModelConfig {
    ModelConfig {
        family: Family::by_name(family).expect("a known family"),
        head: Head::LanguageModel,
        token_heads: TokenHeads::default(),
        bidirectional: false,
        dense: Vec::new(),
        hidden: 36,
        layers: 3,
        heads: 6,
        kv_heads: 2,
        head_dim: 12,
        intermediate: 50,
        vocab: 47,
        max_positions: 1024,
        type_vocab: 0,
        norm_eps: 1e-6,
        rope_theta: 1e6,
        attention: Attention::default(),
        tied: false,
        pad_id: 0,
        stored_prefix: 0,
    }
}

/// A model whose rows are whole blocks.
pub(super) fn of_blocks(family: &str) -> ModelConfig {
    ModelConfig { hidden: 64, head_dim: 16, intermediate: 96, ..config(family) }
}

/// A model's weights.
pub(super) struct Tiny {
    pub(super) config: ModelConfig,
    /// Row-major values, as the encoded ones are meant.
    pub(super) values: BTreeMap<String, Vec<f32>>,
    tensors: BTreeMap<String, Tensor>,
}

struct Aligned(Vec<u64>);

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn aligned(bytes: &[u8]) -> Bytes {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    Bytes::from_owner(Aligned(words)).slice(..bytes.len())
}

/// A part in blocks, as a GGUF file has it: the values that they mean, and its tensors. Matrices of a part are of different kinds.
fn blocks(config: &ModelConfig, part: &Part, row: &[f32]) -> (Vec<f32>, Vec<(String, Tensor)>) {
    let (n, k) = (part.shape[0], part.shape[1]);
    let keys = config.kv_heads * config.head_dim;
    let sizes = match part.sources.len() {
        3 => vec![n - 2 * keys, keys, keys],
        2 => vec![n / 2, n / 2],
        _ => vec![n],
    };
    let kinds = [BlockKind::Q8_0, BlockKind::Q5_1, BlockKind::Q4_0];
    let (mut meant, mut tensors, mut first) = (vec![0.0; row.len()], Vec::new(), 0);
    for (at, &n) in sizes.iter().enumerate() {
        let kind = kinds[(at + part.name.len()) % kinds.len()];
        let gguf = quantize(kind, &row[first * k..][..n * k], k);
        dequantize(kind, &gguf, &mut meant[first * k..][..n * k]);
        first += n;
        let (name, tag, bytes) = if part.storage == Storage::Table {
            (part.name.clone(), ROWS_OF, gguf)
        } else {
            (format!("{}.{at}", part.name), PANELS_OF, pack(kind, &gguf, n, k))
        };
        let layout = format!("{tag}{}", kind.name());
        let shape = vec![bytes.len()];
        let tensor = Tensor::in_memory("", Dtype::U8, &layout, shape, aligned(&bytes));
        tensors.push((name, tensor));
    }
    (meant, tensors)
}

impl Weights for Tiny {
    fn get(&self, name: &str) -> Result<Option<Tensor>, Error> {
        Ok(self.tensors.get(name).cloned())
    }
}

impl Tiny {
    pub(super) fn new(config: &ModelConfig, precision: Precision, seed: u64) -> Self {
        let none = BTreeSet::new();
        let encoding = Encoding { precision, isa: isa::NATIVE, bf16: &none };
        let mut state = seed;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        };
        let (mut tensors, mut values) = (BTreeMap::new(), BTreeMap::new());
        for part in plan(config, &Naming::default()).iter().flat_map(|group| &group.parts) {
            let norm = part.storage == Storage::Vector;
            let bf16 = encoding.precision(part) == Precision::Bf16;
            let small = matches!(part.storage, Storage::Vector | Storage::Bias | Storage::Prefix);
            let row: Vec<f32> = (0..part.shape.iter().product())
                .map(|_| if norm { 1.0 + 0.3 * random() } else { 0.35 * random() })
                .map(|value| if bf16 { half::bf16::from_f32(value).to_f32() } else { value })
                .collect();
            if precision == Precision::Blocks && !small {
                let (meant, stored) = blocks(config, part, &row);
                values.insert(part.name.clone(), meant);
                tensors.extend(stored);
                continue;
            }
            values.insert(part.name.clone(), row.clone());
            for (tensor, bytes) in encoding.plan(part).into_iter().zip(encoding.fill(part, row)) {
                let (shape, bytes) = (tensor.shape, aligned(&bytes));
                let found = Tensor::in_memory("", tensor.dtype, &tensor.layout, shape, bytes);
                tensors.insert(tensor.name, found);
            }
        }
        Self { config: config.clone(), values, tensors }
    }

    /// The words of these ids as they are stored, of a model whose head they are.
    pub(super) fn table(&self, ids: &[u32]) -> Self {
        let (name, hidden) = ("embedding.words.weight", self.config.hidden);
        let rows = ids.iter().flat_map(|&id| &self.values[name][id as usize * hidden..][..hidden]);
        let rows: Vec<f32> = rows.copied().collect();
        let values = panels(&rows, ids.len(), hidden, 1);
        let shape = vec![ids.len(), hidden];
        let bytes = aligned(bytemuck::cast_slice(&values));
        let tensor = Tensor::in_memory("", Dtype::F32, PANEL64, shape, bytes);
        let tensors = BTreeMap::from([(name.to_owned(), tensor)]);
        Self { config: self.config.clone(), values: BTreeMap::new(), tensors }
    }

    /// Stores keys and values of a layer's prefix.
    pub(super) fn store(&mut self, layer: usize, rows: &[f32]) {
        let shape = vec![self.config.stored_prefix, self.config.stored_row()];
        let bytes = aligned(bytemuck::cast_slice(rows));
        let tensor = Tensor::in_memory("", Dtype::F32, ROW_MAJOR, shape, bytes);
        self.tensors.insert(format!("layer.{layer}.prefix"), tensor);
    }

    pub(super) fn model(&self, kernel: Kernel, threads: usize) -> Arc<Model> {
        let threads = Arc::new(Threads::new(Some(threads)));
        Arc::new(Model::load(self.config.clone(), self, kernel, threads).unwrap())
    }
}
