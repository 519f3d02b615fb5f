//! Snapshots of ONNX models: for models that the engine does not know, and as a yardstick for those it does.
//!
//! `pack` takes the model apart. What is left of the graph without its large weights is the tensor [`GRAPH`], a protobuf
//! of some hundred kilobytes; every weight is a tensor of its own, named [`defrost_model::stored::ONNX_WEIGHT`] and the initializer's name, hashed and
//! mapped like any other tensor of a snapshot. Nothing here needs ONNX Runtime: packing works in every build, running only
//! in those with the feature `ort`.
//!
//! Files are looked for where exporters put them: the model under one of [`NAMES`], or the very file that was named;
//! config.json and tokenizer.json in the same folder or, as on the hub, in the one above.

mod spec;
mod weights;

use std::path::{Path, PathBuf};

use defrost_loader::{Dtype, Plan, Root, SegmentPlan, SnapshotWriter, TensorPlan};
use defrost_model::isa;
use defrost_model::spec::OnnxSpec;
use defrost_model::stored::{FILE, GRAPH};

use crate::Error;
use crate::checkpoint::{SpecOptions, Told, refuse_adapters};
use crate::formats::{Checkpoint, OnnxModel};
use crate::pack::{Files, total_bytes};

/// Where models lie in a folder, the first one that exists.
const NAMES: [&str; 4] =
    ["model.onnx", "model_quantized.onnx", "onnx/model.onnx", "onnx/model_quantized.onnx"];

/// The files of an ONNX model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxSource {
    /// The model.
    pub model: PathBuf,
    /// The folder of config.json and tokenizer.json.
    pub dir: PathBuf,
}

impl OnnxSource {
    /// The model that `path` names: a file `*.onnx`, or a folder that holds one and no safetensors. `None` if it is
    /// something else, which [`Checkpoint::open`] has better words for.
    pub fn find(path: &Path) -> Option<Self> {
        let model = if path.is_dir() {
            let engine = ["model.safetensors", "model.safetensors.index.json"];
            if engine.iter().any(|name| path.join(name).is_file()) {
                return None;
            }
            NAMES.iter().map(|name| path.join(name)).find(|model| model.is_file())?
        } else {
            let named = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("onnx"));
            named.then(|| path.to_path_buf())?
        };
        let beside = match model.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let above = beside.join("..");
        let dir = [&beside, &above].into_iter().find(|dir| dir.join("config.json").is_file());
        Some(Self { dir: dir.unwrap_or(&beside).clone(), model })
    }
}

/// The snapshot that was packed of an ONNX model.
#[derive(Debug)]
pub struct PackedOnnx {
    /// Hash that names the snapshot.
    pub root: Root,
    /// The decisions about the model, and the files that made them.
    pub told: Vec<Told>,
}

/// Packs an ONNX model into the file `out`, byte for byte the same each time. `progress` gets bytes done and in all.
pub fn pack_onnx(
    source: &OnnxSource,
    options: &SpecOptions,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PackedOnnx, Error> {
    let file = OnnxModel::map(&source.model)?;
    let model = OnnxModel::open(&source.model)?;
    let checkpoint = Checkpoint::without_weights(&source.dir);
    refuse_adapters(&source.dir)?;
    if checkpoint.file("tokenizer.json")?.is_none() {
        return Err(Error::Model(format!(
            "{} has no tokenizer.json (the fast tokenizer's file), which an ONNX model needs beside it",
            source.dir.display()
        )));
    }
    let folder = source.model.parent().unwrap_or_else(|| Path::new(""));
    let (graph, weights) = weights::take_apart(&file, folder)?;
    let (spec, tokenizer, told) = spec::read(&checkpoint, &model, &weights, options)?;
    // What cannot be compiled is read from tokenizer.json at every start.
    let compiled = defrost_tokenizer::compile(&tokenizer).ok();
    let tokenizer =
        Files { tokenizer: &tokenizer, compiled: compiled.as_deref(), pieces: None, chat: None };
    let plan = plan(&spec, &weights, tokenizer, graph.len());
    let total = total_bytes(&plan);
    let mut writer = SnapshotWriter::create(out, plan)?;
    let mut done = tokenizer.write(&mut writer)? + graph.len() as u64;
    writer.write(GRAPH, &graph)?;
    progress(done, total);
    for weight in &weights {
        writer.write(&weight.plan.name, &weight.bytes)?;
        done += weight.bytes.len() as u64;
        progress(done, total);
    }
    Ok(PackedOnnx { root: writer.finish()?, told })
}

fn plan(
    spec: &OnnxSpec,
    weights: &[weights::Weight],
    tokenizer: Files<'_>,
    graph_len: usize,
) -> Plan {
    let file = |name: &str, len: usize| TensorPlan {
        name: name.to_owned(),
        dtype: Dtype::U8,
        layout: FILE.to_owned(),
        shape: vec![len],
        len,
    };
    let segment = |name: &str, tensors: Vec<TensorPlan>| SegmentPlan {
        name: name.to_owned(),
        sparse: false,
        tensors,
    };
    let mut files = tokenizer.plan();
    files.push(file(GRAPH, graph_len));
    let mut segments = vec![segment("files", files)];
    if !weights.is_empty() {
        let tensors = weights.iter().map(|weight| weight.plan.clone()).collect();
        segments.push(segment("weights", tensors));
    }
    Plan {
        // ONNX Runtime packs weights for the processor by itself.
        isa: isa::PORTABLE.to_owned(),
        layout_abi: isa::LAYOUT_ABI,
        meta: spec.to_meta(),
        segments,
    }
}
