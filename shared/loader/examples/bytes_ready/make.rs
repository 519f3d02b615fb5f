//! The synthetic checkpoint: tensors as a small transformer has them, random bytes, in three formats.

use std::error::Error;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{BufWriter, Write};
use std::path::Path;

use defrost_loader::{Dtype, Plan, SegmentPlan, SnapshotWriter, TensorPlan};
use safetensors::tensor::TensorView;
use serde_json::json;
use twox_hash::XxHash3_64;

use crate::{ISA, LAYOUT_ABI};

const LAYERS: usize = 24;
const WIDTH: usize = 1024;
/// A quarter of the bytes is the embedding, in bf16; the rest are int8 matrices and small bf16 vectors.
const EMBEDDING_SHARE: usize = 4;
/// The matrices of a layer with their heights in units: four for attention, two four times as high after it.
const MATRICES: [(&str, usize); 6] =
    [("attn.k", 1), ("attn.o", 1), ("attn.q", 1), ("attn.v", 1), ("mlp.down", 4), ("mlp.up", 4)];
const UNITS: usize = 12;
const VECTORS: [&str; 4] = ["norm.bias", "norm.weight", "scale.attn", "scale.mlp"];

struct Made {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Writes about `mib` MiB of tensors into `dir` in every format, durable; returns what `model.json` says of them.
pub(crate) fn make(dir: &Path, mib: usize) -> Result<String, Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let tensors = tensors(mib * 1024 * 1024);
    let root = write_snapshot(&dir.join("model.snap"), &tensors)?;
    write_safetensors(&dir.join("model.safetensors"), &tensors)?;
    write_raw(&dir.join("model.raw"), &tensors)?;
    let mut whole = XxHash3_64::default();
    for tensor in &tensors {
        whole.write(&tensor.bytes);
    }
    let list: Vec<_> = tensors
        .iter()
        .map(|tensor| {
            let hash = XxHash3_64::oneshot(&tensor.bytes);
            json!({ "name": tensor.name, "dtype": tensor.dtype.name(), "shape": tensor.shape,
                    "bytes": tensor.bytes.len(), "xxh3": format!("{hash:016x}") })
        })
        .collect();
    let summary = json!({
        "mib": mib,
        "bytes": tensors.iter().map(|tensor| tensor.bytes.len()).sum::<usize>(),
        "checksum": format!("{:016x}", whole.finish()),
        "root": root,
        "tensors": list,
    });
    // Last: where it is, the rest is whole.
    fs::write(dir.join("model.json"), summary.to_string())?;
    Ok(summary.to_string())
}

/// The tensors, sorted by name.
fn tensors(bytes: usize) -> Vec<Made> {
    let height = (bytes - bytes / EMBEDDING_SHARE) / LAYERS / UNITS / WIDTH;
    let matrices = |layer| MATRICES.map(|(name, units)| int8(layer, name, units * height));
    let vectors = |layer| VECTORS.map(|name| bf16(format!("layers.{layer:02}.{name}"), [WIDTH]));
    let mut tensors: Vec<Made> =
        (0..LAYERS).flat_map(|layer| matrices(layer).into_iter().chain(vectors(layer))).collect();
    tensors.push(bf16("embed.weight".to_owned(), [bytes / EMBEDDING_SHARE / WIDTH / 2, WIDTH]));
    tensors.push(bf16("norm.weight".to_owned(), [WIDTH]));
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    for (seed, tensor) in (1..).zip(&mut tensors) {
        fill(&mut tensor.bytes, seed);
    }
    tensors
}

fn int8(layer: usize, name: &str, height: usize) -> Made {
    let name = format!("layers.{layer:02}.{name}.weight");
    let shape = vec![height.max(1), WIDTH];
    Made { name, dtype: Dtype::I8, bytes: vec![0; shape.iter().product()], shape }
}

fn bf16(name: String, shape: impl Into<Vec<usize>>) -> Made {
    let shape = shape.into();
    Made { name, dtype: Dtype::Bf16, bytes: vec![0; 2 * shape.iter().product::<usize>()], shape }
}

/// Fills with the output of `SplitMix64`: the same bytes each time, incompressible, no two tensors alike.
fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed << 40;
    for word in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..word.len()]);
    }
}

fn write_snapshot(path: &Path, tensors: &[Made]) -> Result<String, Box<dyn Error>> {
    let planned = tensors.iter().map(|tensor| TensorPlan {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        layout: "row-major".to_owned(),
        shape: tensor.shape.clone(),
        len: tensor.bytes.len(),
    });
    // Nothing is sparse, the embedding included: every contestant hands out all bytes.
    let segments =
        vec![SegmentPlan { name: "all".to_owned(), sparse: false, tensors: planned.collect() }];
    let plan = Plan { isa: ISA.to_owned(), layout_abi: LAYOUT_ABI, segments, ..Plan::default() };
    let mut writer = SnapshotWriter::create(path, plan)?;
    for tensor in tensors {
        writer.write(&tensor.name, &tensor.bytes)?;
    }
    Ok(writer.finish()?.to_string())
}

fn write_safetensors(path: &Path, tensors: &[Made]) -> Result<(), Box<dyn Error>> {
    let mut views = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let dtype = match tensor.dtype {
            Dtype::Bf16 => safetensors::Dtype::BF16,
            Dtype::I8 => safetensors::Dtype::I8,
            other => return Err(format!("expected bf16 or i8, found {other}").into()),
        };
        views.push((&tensor.name, TensorView::new(dtype, tensor.shape.clone(), &tensor.bytes)?));
    }
    safetensors::serialize_to_file(views, None, path)?;
    Ok(File::open(path)?.sync_all()?)
}

fn write_raw(path: &Path, tensors: &[Made]) -> Result<(), Box<dyn Error>> {
    let mut file = BufWriter::new(File::create(path)?);
    for tensor in tensors {
        file.write_all(&tensor.bytes)?;
    }
    Ok(file.into_inner()?.sync_all()?)
}
