//! Which tensors a model has, in the order a forward pass reads them.
//!
//! One list serves three readers: `pack` writes snapshots in this order, `synth` makes random models
//! of any size from it, and [`crate::Model::load`] asks for exactly these names. Each part says how it
//! is stored; checkpoint names on the right-hand side are those of Hugging Face checkpoints, several
//! where the engine multiplies them as one matrix.

use crate::{Family, Head, ModelConfig};

/// How a part is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// A matrix in panels, in the model's precision, with scale and offset vectors if int8.
    Linear,
    /// A matrix in panels, always f32: heads, which are small and decide the last digit.
    LinearF32,
    /// Rows gathered one by one, in the model's precision, row-major.
    Table,
    /// As a table, but bf16 where the model is int8: positions and token types, a hundredth of the
    /// bytes, whose error every token would carry.
    FineTable,
    /// A vector or small matrix of f32, row-major.
    Vector,
    /// A bias, f32, padded to whole panels.
    Bias,
    /// Keys and values of the stored prefix, f32, row-major: no checkpoint has them, [`crate::PrefixPass`] computes them.
    Prefix,
}

/// One tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name in the snapshot.
    pub name: String,
    /// How it is stored.
    pub storage: Storage,
    /// Rows by columns, or one length.
    pub shape: Vec<usize>,
    /// Checkpoint tensors whose rows, one after the other, make up this part.
    pub sources: Vec<String>,
    /// Rows to take from the (single) source; all when empty.
    pub rows: Vec<usize>,
}

/// Parts that are read together: the embedding, one layer, or the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `embedding`, `layer.N` or `head`.
    pub name: String,
    /// Whether a pass reads only some rows of it.
    pub sparse: bool,
    /// In the order of use.
    pub parts: Vec<Part>,
}

/// What checkpoints leave open.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    /// Before every name of the transformer, such as `bert.` or `model.`.
    pub prefix: String,
    /// The matrix that the yes/no rows are taken from.
    pub lm_head: String,
    /// Token ids of no and yes.
    pub no_yes: [usize; 2],
}

/// The tensors of `config`'s model in execution order; the embedding tables, of which few rows are
/// read, come last.
pub fn plan(config: &ModelConfig, naming: &Naming) -> Vec<Group> {
    let mut groups: Vec<Group> = (0..config.layers)
        .map(|at| Group {
            name: format!("layer.{at}"),
            sparse: false,
            parts: if config.family.is_decoder() {
                decoder_layer(config, &naming.prefix, at)
            } else {
                encoder_layer(config, &naming.prefix, at)
            },
        })
        .collect();
    let head = head(config, naming);
    if !head.is_empty() {
        groups.push(Group { name: "head".into(), sparse: false, parts: head });
    }
    let tables = embedding(config, &naming.prefix);
    groups.push(Group { name: "embedding".into(), sparse: true, parts: tables });
    groups
}

fn part(name: String, storage: Storage, shape: &[usize], sources: &[String]) -> Part {
    Part { name, storage, shape: shape.to_vec(), sources: sources.to_vec(), rows: Vec::new() }
}

fn linear(name: &str, n: usize, k: usize, sources: &[String], bias: bool) -> Vec<Part> {
    stored_linear(Storage::Linear, name, n, k, sources, bias)
}

fn stored_linear(
    storage: Storage,
    name: &str,
    n: usize,
    k: usize,
    sources: &[String],
    bias: bool,
) -> Vec<Part> {
    let with = |suffix: &str| -> Vec<String> {
        sources.iter().map(|source| format!("{source}.{suffix}")).collect()
    };
    let mut parts = vec![part(format!("{name}.weight"), storage, &[n, k], &with("weight"))];
    if bias {
        parts.push(part(format!("{name}.bias"), Storage::Bias, &[n], &with("bias")));
    }
    parts
}

fn norm(name: &str, width: usize, source: &str, bias: bool) -> Vec<Part> {
    ["weight", "bias"][..=usize::from(bias)]
        .iter()
        .map(|suffix| {
            let source = format!("{source}.{suffix}");
            part(format!("{name}.{suffix}"), Storage::Vector, &[width], &[source])
        })
        .collect()
}

fn embedding(config: &ModelConfig, prefix: &str) -> Vec<Part> {
    let hidden = config.hidden;
    let table = |storage: Storage, name: &str, rows: usize, source: &str| {
        let source = format!("{prefix}{source}.weight");
        part(format!("{name}.weight"), storage, &[rows, hidden], &[source])
    };
    let words = |source: &str| table(Storage::Table, "embedding.words", config.vocab, source);
    if config.family.is_decoder() {
        return vec![words("embed_tokens")];
    }
    let reserved = if config.family == Family::XlmRoberta { config.pad_id as usize + 1 } else { 0 };
    let positions = config.max_positions + reserved;
    let mut parts = norm("embedding.norm", hidden, &format!("{prefix}embeddings.LayerNorm"), true);
    let fine = Storage::FineTable;
    let (kinds, places) = ("embeddings.token_type_embeddings", "embeddings.position_embeddings");
    parts.push(table(fine, "embedding.types", config.type_vocab, kinds));
    parts.push(table(fine, "embedding.positions", positions, places));
    parts.push(words("embeddings.word_embeddings"));
    parts
}

fn encoder_layer(config: &ModelConfig, prefix: &str, at: usize) -> Vec<Part> {
    let (hidden, inner) = (config.hidden, config.intermediate);
    let name = |part: &str| format!("layer.{at}.{part}");
    let source = |part: &str| format!("{prefix}encoder.layer.{at}.{part}");
    let qkv = ["query", "key", "value"].map(|part| source(&format!("attention.self.{part}")));
    [
        linear(&name("qkv"), 3 * hidden, hidden, &qkv, true),
        linear(&name("out"), hidden, hidden, &[source("attention.output.dense")], true),
        norm(&name("attention_norm"), hidden, &source("attention.output.LayerNorm"), true),
        linear(&name("up"), inner, hidden, &[source("intermediate.dense")], true),
        linear(&name("down"), hidden, inner, &[source("output.dense")], true),
        norm(&name("output_norm"), hidden, &source("output.LayerNorm"), true),
    ]
    .concat()
}

fn decoder_layer(config: &ModelConfig, prefix: &str, at: usize) -> Vec<Part> {
    let (hidden, inner, width) = (config.hidden, config.intermediate, config.head_dim);
    let name = |part: &str| format!("layer.{at}.{part}");
    let source = |part: &str| format!("{prefix}layers.{at}.{part}");
    let qkv = ["q_proj", "k_proj", "v_proj"].map(|part| source(&format!("self_attn.{part}")));
    let gate_up = ["gate_proj", "up_proj"].map(|part| source(&format!("mlp.{part}")));
    let qkv_rows = (config.heads + 2 * config.kv_heads) * width;
    let bias = config.family == Family::Qwen2;
    let mut parts = norm(&name("attention_norm"), hidden, &source("input_layernorm"), false);
    parts.extend(linear(&name("qkv"), qkv_rows, hidden, &qkv, bias));
    if config.family == Family::Qwen3 {
        parts.extend(norm(&name("query_norm"), width, &source("self_attn.q_norm"), false));
        parts.extend(norm(&name("key_norm"), width, &source("self_attn.k_norm"), false));
    }
    let attended = config.heads * width;
    parts.extend(linear(&name("out"), hidden, attended, &[source("self_attn.o_proj")], false));
    let post = source("post_attention_layernorm");
    parts.extend(norm(&name("output_norm"), hidden, &post, false));
    parts.extend(linear(&name("gate_up"), 2 * inner, hidden, &gate_up, false));
    parts.extend(linear(&name("down"), hidden, inner, &[source("mlp.down_proj")], false));
    if config.stored_prefix > 0 {
        let shape = [config.stored_prefix, config.stored_row()];
        parts.push(part(name("prefix"), Storage::Prefix, &shape, &[]));
    }
    parts
}

/// What the tensors of a dense layer are called in front of `.weight` and `.bias`, once they are among the checkpoint's.
pub fn dense_source(at: usize) -> String {
    format!("dense.{at}.linear")
}

fn head(config: &ModelConfig, naming: &Naming) -> Vec<Part> {
    let hidden = config.hidden;
    let mut parts = Vec::new();
    if config.family.is_decoder() {
        parts.extend(norm("norm", hidden, &format!("{}norm", naming.prefix), false));
    }
    match config.head {
        Head::Classifier => {
            // BERT pools with its own dense layer; XLM-RoBERTa's classifier brings one.
            let (dense, out) = match config.family {
                Family::Bert => (format!("{}pooler.dense", naming.prefix), "classifier"),
                _ => ("classifier.dense".to_owned(), "classifier.out_proj"),
            };
            let f32 = Storage::LinearF32;
            parts.extend(stored_linear(f32, "head.dense", hidden, hidden, &[dense], true));
            parts.extend(stored_linear(f32, "head.out", 1, hidden, &[out.to_owned()], true));
        }
        Head::YesNo => parts.push(Part {
            rows: naming.no_yes.to_vec(),
            ..part(
                "head.tokens.weight".into(),
                Storage::Vector,
                &[2, hidden],
                std::slice::from_ref(&naming.lm_head),
            )
        }),
        Head::MeanPooling
        | Head::FirstPooling
        | Head::LastPooling
        | Head::MaxPooling
        | Head::SqrtPooling
        | Head::WeightedPooling => {}
    }
    let mut inputs = hidden;
    for (at, layer) in config.dense.iter().enumerate() {
        let (name, source) = (format!("head.dense.{at}"), dense_source(at));
        let (storage, outputs) = (Storage::LinearF32, layer.outputs);
        parts.extend(stored_linear(storage, &name, outputs, inputs, &[source], layer.bias));
        inputs = outputs;
    }
    let mut token_head = |name: &str, width: usize, source: &str| {
        let source = [source.to_owned()];
        parts.extend(stored_linear(Storage::LinearF32, name, width, hidden, &source, true));
    };
    if config.token_heads.sparse {
        token_head("head.sparse", 1, "sparse_linear");
    }
    if config.token_heads.colbert > 0 {
        token_head("head.colbert", config.token_heads.colbert, "colbert_linear");
    }
    parts
}
