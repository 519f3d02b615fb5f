//! Which tensors a model has, in the order a forward pass reads them.
//!
//! One list serves three readers: `pack` writes snapshots in this order, `synth` makes random models
//! of any size from it, and a runtime that loads it asks for exactly these names. Each part says how it
//! is stored; checkpoint names on the right-hand side are those of Hugging Face checkpoints, several
//! where the engine multiplies them as one matrix.

use crate::architecture::{Norm, Placed};
use crate::{Head, ModelConfig};

/// How a part is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// A matrix in panels, in the model's precision, with scale and offset vectors if int8.
    Linear,
    /// A matrix in panels, always f32: heads, which are small and decide the last digit.
    LinearF32,
    /// Rows gathered one by one, in the model's precision, row-major.
    Table,
    /// A matrix in panels as of [`Storage::Linear`] whose rows are also gathered one by one: the words of a language model whose
    /// head they are as well.
    Vocabulary,
    /// Rows as of a table, but bf16 where the model is int8: positions and token types, a hundredth
    /// of the bytes, whose error every token would carry.
    FineTable,
    /// A vector or small matrix of f32, row-major.
    Vector,
    /// A bias, f32, padded to whole panels.
    Bias,
    /// Keys and values of the stored prefix, f32, row-major: no checkpoint has them, packing computes them.
    Prefix,
}

/// One tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The name of the tensor in the snapshot.
    pub name: String,
    /// The form in which the tensor is stored.
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
    /// The name of the group: `embedding`, `layer.N` or `head`.
    pub name: String,
    /// Whether a pass reads only some rows of the group.
    pub sparse: bool,
    /// The parts of the group in the order of use.
    pub parts: Vec<Part>,
}

/// What checkpoints leave open.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    /// The prefix of every name of the transformer, such as `bert.` or `model.`.
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
            parts: layer(config, &naming.prefix, at),
        })
        .collect();
    let head = head(config, naming);
    if !head.is_empty() {
        groups.push(Group { name: "head".into(), sparse: false, parts: head });
    }
    let tables = embedding(config, &naming.prefix);
    groups.push(Group { name: "embedding".into(), sparse: !config.tied, parts: tables });
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

fn norm(name: &str, width: usize, source: &str, kind: Norm) -> Vec<Part> {
    ["weight", "bias"][..=usize::from(kind == Norm::Layer)]
        .iter()
        .map(|suffix| {
            let source = format!("{source}.{suffix}");
            part(format!("{name}.{suffix}"), Storage::Vector, &[width], &[source])
        })
        .collect()
}

fn embedding(config: &ModelConfig, prefix: &str) -> Vec<Part> {
    let (blueprint, names) = (&config.family.blueprint, &config.family.files.names);
    let hidden = config.hidden;
    let mut parts = Vec::new();
    if blueprint.embedding_norm {
        let source = format!("{prefix}{}", names.embedding_norm);
        parts.extend(norm("embedding.norm", hidden, &source, blueprint.norm));
    }
    let mut table = |storage: Storage, name: &str, rows: usize, source: &str| {
        let source = format!("{prefix}{source}.weight");
        parts.push(part(format!("{name}.weight"), storage, &[rows, hidden], &[source]));
    };
    if blueprint.token_types {
        table(Storage::FineTable, "embedding.types", config.type_vocab, names.types);
    }
    if blueprint.positions.are_learned() {
        let rows = config.position_rows();
        table(Storage::FineTable, "embedding.positions", rows, names.positions);
    }
    let words = if config.tied { Storage::Vocabulary } else { Storage::Table };
    table(words, "embedding.words", config.vocab, names.words);
    parts
}

/// A layer's parts, each norm where the layer normalises.
fn layer(config: &ModelConfig, prefix: &str, at: usize) -> Vec<Part> {
    let (blueprint, names) = (&config.family.blueprint, &config.family.files.names);
    let (hidden, inner, width) = (config.hidden, config.intermediate, config.head_dim);
    let own = |part: &str| format!("layer.{at}.{part}");
    let before = format!("{prefix}{}", names.layer.replace("{}", &at.to_string()));
    let source = |part: &str| format!("{before}{part}");
    let normed = |name: &str, width: usize, from: &str| {
        norm(&own(name), width, &source(from), blueprint.norm)
    };
    let attention_norm = normed("attention_norm", hidden, names.attention_norm);
    let output_norm = normed("output_norm", hidden, names.output_norm);

    let qkv_rows = (config.heads + 2 * config.kv_heads) * width;
    let qkv = linear(&own("qkv"), qkv_rows, hidden, &names.qkv.map(source), blueprint.biases.qkv);
    let head_norms = match (blueprint.head_norms, names.head_norms) {
        (true, [query, key]) => {
            [normed("query_norm", width, query), normed("key_norm", width, key)].concat()
        }
        (false, _) => Vec::new(),
    };
    let attended = config.heads * width;
    let out = linear(&own("out"), hidden, attended, &[source(names.out)], blueprint.biases.out);
    let ups: Vec<String> = names.up.iter().map(|up| source(up)).collect();
    let biased = blueprint.biases.feed_forward;
    let up = linear(&own(blueprint.feed_forward.up()), ups.len() * inner, hidden, &ups, biased);
    let down = linear(&own("down"), hidden, inner, &[source(names.down)], biased);

    let mut parts = match blueprint.placed {
        Placed::Post => [qkv, head_norms, out, attention_norm, up, down, output_norm].concat(),
        Placed::Pre => [attention_norm, qkv, head_norms, out, output_norm, up, down].concat(),
        Placed::Sandwich => {
            let after_attention =
                normed("after_attention_norm", hidden, names.after_attention_norm);
            let after_feed_forward =
                normed("after_feed_forward_norm", hidden, names.after_feed_forward_norm);
            let before = [attention_norm, qkv, head_norms, out, after_attention].concat();
            [before, output_norm, up, down, after_feed_forward].concat()
        }
    };
    if config.stored_prefix > 0 {
        let shape = [config.stored_prefix, config.stored_row()];
        parts.push(part(own("prefix"), Storage::Prefix, &shape, &[]));
    }
    parts
}

/// What the tensors of a dense layer are called in front of `.weight` and `.bias`, once they are among the checkpoint's.
pub fn dense_source(at: usize) -> String {
    format!("dense.{at}.linear")
}

fn head(config: &ModelConfig, naming: &Naming) -> Vec<Part> {
    let (blueprint, names) = (&config.family.blueprint, &config.family.files.names);
    let hidden = config.hidden;
    let mut parts = Vec::new();
    if blueprint.final_norm {
        let source = format!("{}{}", naming.prefix, names.final_norm);
        parts.extend(norm("norm", hidden, &source, blueprint.norm));
    }
    match config.head {
        Head::Classifier => {
            let [dense, out] = names.classifier.map(|name| name.replace("{}", &naming.prefix));
            let f32 = Storage::LinearF32;
            parts.extend(stored_linear(f32, "head.dense", hidden, hidden, &[dense], true));
            parts.extend(stored_linear(f32, "head.out", 1, hidden, &[out], true));
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
        Head::LanguageModel if !config.tied => {
            let source = std::slice::from_ref(&naming.lm_head);
            let shape = [config.vocab, hidden];
            parts.push(part("head.words.weight".into(), Storage::Linear, &shape, source));
        }
        _ => {}
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
