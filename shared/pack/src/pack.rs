//! From a checkpoint to a snapshot.
//!
//! The file is a function of the checkpoint's bytes and the options alone: no time, no path, no
//! thread count enters it, so packing twice gives the same root. Parts are encoded several at a time
//! by a pool of threads and written in execution order. An int8 model's activations are looked at
//! first ([`crate::quality`]); what that decides is written into the metadata. What prompts begin with runs through the
//! layers as they are written ([`crate::prefix`]).

mod blocks;
mod pool;

use std::path::Path;

use bytes::Bytes;
use defrost_engine::{Encoding, Weights};
use defrost_loader::{Dtype, Plan, Root, SegmentPlan, SnapshotWriter, Tensor, TensorPlan};
use defrost_model::parts::{Group, Part, Storage, plan};
use defrost_model::stored::{
    CHAT, COMPILED_TOKENIZER, FILE, IMAGE, PRECISION, TOKEN_PIECES, TOKENIZER,
};
use defrost_model::{ChatSpec, ModelSpec, Precision, isa};
use defrost_tasks::Pieces;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

pub use self::blocks::usual_precision;
use crate::Error;
use crate::checkpoint::{SpecOptions, Told, check_all_read, prepare, read};
use crate::formats::{Checkpoint, CheckpointTensor, first_not_finite, to_f32};
use crate::prefix::StoredPrefix;
use crate::quality::{self, Outliers, Report, Treatment};

/// What to make of a checkpoint.
#[derive(Debug, Clone)]
pub struct PackOptions {
    /// Model name and what the checkpoint's files leave open.
    pub spec: SpecOptions,
    /// Precision of the large matrices.
    pub precision: Precision,
    /// [`isa::NATIVE`] or [`isa::PORTABLE`]; only the latter for f16.
    pub isa: String,
    /// The treatment of outlier channels where `precision` is int8.
    pub outliers: Outliers,
    /// Whether keys and values of what prompts begin with are stored: 4 bytes for each value of each layer, half a
    /// megabyte for a Qwen2 of 0.5B. Only causal models have any.
    pub store_prefix: bool,
}

/// The snapshot that was packed.
#[derive(Debug)]
pub struct Packed {
    /// The hash that names the snapshot.
    pub root: Root,
    /// The specification that the snapshot holds.
    pub spec: ModelSpec,
    /// The decisions about the model, and the files that made them.
    pub told: Vec<Told>,
    /// Why the tokenizer is not in the snapshot in compiled form, if it is not: every start reads tokenizer.json then,
    /// which takes up to a second.
    pub tokenizer_not_compiled: Option<String>,
}

/// Packs the checkpoint directory into the file `out`. `progress` gets bytes done and in all.
pub fn pack(
    checkpoint: &Checkpoint,
    options: &PackOptions,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Packed, Error> {
    if options.isa != isa::PORTABLE && options.isa != isa::NATIVE {
        return Err(Error::Model(format!(
            "cannot pack for isa {:?} here, expected {} or {}",
            options.isa,
            isa::NATIVE,
            isa::PORTABLE
        )));
    }
    if options.precision == Precision::F16 && options.isa != isa::PORTABLE {
        return Err(Error::Model(format!(
            "f16 is for GPUs, which read it row by row: expected --isa {}, found {}; for a CPU pack with --precision bf16",
            isa::PORTABLE,
            options.isa
        )));
    }
    if options.precision == Precision::Blocks {
        blocks::check(checkpoint, &options.isa)?;
    }
    pool::start()?;
    let checkpoint = &*prepare(checkpoint)?;
    let mut source = read(checkpoint, &options.spec)?;
    let groups = plan(&source.spec.config, &source.naming);
    source.told.extend(check_all_read(checkpoint, &groups, source.spec.config.family)?);
    let (compiled, tokenizer_not_compiled) = match defrost_tokenizer::compile(&source.tokenizer) {
        Ok(image) => (Some(image), None),
        Err(reason) => (None, Some(reason.to_string())),
    };
    let chat = source.spec.chat.as_ref().map(ChatSpec::to_json).transpose()?;
    let pieces = chat.as_ref().map(|_| Pieces::compile(&source.tokenizer)).transpose()?;
    let files = Files {
        tokenizer: &source.tokenizer,
        compiled: compiled.as_deref(),
        pieces: pieces.as_deref(),
        chat: chat.as_deref(),
    };
    // The walk over layers knows texts of rerankers and embedders, and plain layers.
    let calibrated = options.precision == Precision::Int8
        && options.outliers == Outliers::Auto
        && source.spec.config.is_plain();
    let mut done = 0;
    let treatment = if calibrated {
        let total = expected_bytes(checkpoint, &source.spec, &groups, options, files)?;
        quality::decide(checkpoint, &source, &groups, &mut |values| {
            done += values as u64;
            progress(done, total);
        })?
    } else {
        Treatment::default()
    };
    let bf16 = treatment.report.bf16_parts();
    let encoding = Encoding { precision: options.precision, isa: &options.isa, bf16: &bf16 };
    if !options.store_prefix {
        source.beginning.clear();
    }
    let mut prefix = StoredPrefix::start(
        checkpoint,
        &mut source.spec,
        source.beginning,
        &groups,
        &treatment,
        encoding,
    )?;
    let groups = plan(&source.spec.config, &source.naming);
    let mut snapshot_plan = snapshot_plan(checkpoint, &source.spec, &groups, encoding, files)?;
    if calibrated {
        snapshot_plan.meta.insert(quality::KEY.into(), treatment.report.to_string());
    }
    let total = done + total_bytes(&snapshot_plan);
    let mut writer = SnapshotWriter::create(out, snapshot_plan)?;
    done += files.write(&mut writer)?;
    progress(done, total);
    for group in &groups {
        // One group at a time bounds memory to the group's values, which is one layer or a table.
        let encode = |encoding| encode(checkpoint, group, &treatment, encoding);
        let mut tensors = encode(encoding)?;
        if let Some(prefix) = &mut prefix {
            prefix.layer(group, &mut tensors, &encode, encoding)?;
        }
        for (tensor, bytes) in tensors {
            writer.write(&tensor.name, &bytes)?;
            done += bytes.len() as u64;
            progress(done, total);
        }
    }
    let (spec, told) = (source.spec, source.told);
    Ok(Packed { root: writer.finish()?, spec, told, tokenizer_not_compiled })
}

/// A tensor and its bytes.
pub(crate) type Encoded = (TensorPlan, Bytes);

/// Encoded tensors as the engine's weights. Their memory comes from the allocator and so is aligned for any element.
#[derive(Debug)]
pub(crate) struct Tensors(pub(crate) Vec<Encoded>);

impl Weights for Tensors {
    fn get(&self, name: &str) -> Result<Option<Tensor>, defrost_model::Error> {
        let found = self.0.iter().find(|(tensor, _)| tensor.name == name);
        Ok(found.map(|(tensor, bytes)| {
            let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
            Tensor::in_memory(name, dtype, &tensor.layout, shape, bytes.clone())
        }))
    }
}

/// The tensors of a group that come from the checkpoint.
pub(crate) fn encode(
    checkpoint: &Checkpoint,
    group: &Group,
    treatment: &Treatment,
    encoding: Encoding<'_>,
) -> Result<Vec<Encoded>, Error> {
    let stored = group.parts.par_iter().filter(|part| part.storage != Storage::Prefix);
    let parts: Vec<Result<Vec<Encoded>, Error>> = stored
        .map(|part| {
            if encoding.precision == Precision::Blocks {
                return blocks::encode(checkpoint, part, encoding);
            }
            let mut values = values(checkpoint, part)?;
            let precision = encoding.precision(part);
            check_range(checkpoint, part, &values, precision)?;
            treatment.apply(part, &mut values);
            check_range(checkpoint, part, &values, precision)?;
            let bytes = encoding.fill(part, values).into_iter().map(Bytes::from);
            Ok(encoding.plan(part).into_iter().zip(bytes).collect())
        })
        .collect();
    Ok(parts.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// The files that lie beside the weights: how a language model converses, and the tokenizer in its two forms. A start uses
/// the compiled one, if it is there and of its own version; what else
/// reads snapshots has the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    /// The bytes of tokenizer.json.
    pub(crate) tokenizer: &'a [u8],
    /// The image that `defrost_tokenizer` compiles from the file, if it can.
    pub(crate) compiled: Option<&'a [u8]>,
    /// What [`Pieces::compile`] makes of the file, of a language model.
    pub(crate) pieces: Option<&'a [u8]>,
    /// What [`ChatSpec::to_json`] makes.
    pub(crate) chat: Option<&'a [u8]>,
}

impl<'a> Files<'a> {
    /// Name, layout and bytes of each tensor. What a start waits for comes first.
    fn tensors(self) -> impl Iterator<Item = (&'static str, &'static str, &'a [u8])> {
        let compiled = self.compiled.map(|bytes| (COMPILED_TOKENIZER, IMAGE, bytes));
        let pieces = self.pieces.map(|bytes| (TOKEN_PIECES, IMAGE, bytes));
        let chat = self.chat.map(|bytes| (CHAT, FILE, bytes));
        let first = compiled.into_iter().chain(pieces);
        first.chain([(TOKENIZER, FILE, self.tokenizer)]).chain(chat)
    }

    /// Writes all; gives the number of bytes.
    pub(crate) fn write(self, writer: &mut SnapshotWriter) -> Result<u64, Error> {
        let mut done = 0;
        for (name, _, bytes) in self.tensors() {
            writer.write(name, bytes)?;
            done += bytes.len() as u64;
        }
        Ok(done)
    }
}

impl Files<'_> {
    /// The tensors of all, as the head of the segment `files`.
    pub(crate) fn plan(self) -> Vec<TensorPlan> {
        self.tensors()
            .map(|(name, layout, bytes)| TensorPlan {
                name: name.into(),
                dtype: Dtype::U8,
                layout: layout.into(),
                shape: vec![bytes.len()],
                len: bytes.len(),
            })
            .collect()
    }
}

/// The plan of a whole snapshot: the tokenizer first, then the groups in execution order.
pub(crate) fn snapshot_plan(
    checkpoint: &Checkpoint,
    spec: &ModelSpec,
    groups: &[Group],
    encoding: Encoding<'_>,
    files: Files<'_>,
) -> Result<Plan, Error> {
    let own = SegmentPlan { name: "files".into(), sparse: false, tensors: files.plan() };
    let segments = groups.iter().map(|group| {
        let tensors = group.parts.iter().map(|part| match encoding.precision {
            Precision::Blocks => blocks::plan(checkpoint, part, encoding),
            _ => Ok(encoding.plan(part)),
        });
        let tensors = tensors.collect::<Result<Vec<_>, Error>>()?.concat();
        Ok(SegmentPlan { name: group.name.clone(), sparse: group.sparse, tensors })
    });
    let segments = segments.collect::<Result<Vec<_>, Error>>()?;
    let mut meta = spec.to_meta();
    meta.insert(PRECISION.into(), encoding.precision.name().into());
    Ok(Plan {
        isa: encoding.isa.to_owned(),
        layout_abi: isa::LAYOUT_ABI,
        meta,
        segments: std::iter::once(own).chain(segments).collect(),
    })
}

/// What progress counts to before the decisions are known: a value that is looked at takes about as
/// long as a byte that is written.
fn expected_bytes(
    checkpoint: &Checkpoint,
    spec: &ModelSpec,
    groups: &[Group],
    options: &PackOptions,
    files: Files<'_>,
) -> Result<u64, Error> {
    let bf16 = Report::default().bf16_parts();
    let encoding = Encoding { precision: options.precision, isa: &options.isa, bf16: &bf16 };
    let layers = groups.iter().filter(|group| group.name.starts_with("layer."));
    let values: usize = layers
        .flat_map(|group| &group.parts)
        .map(|part| part.shape.iter().product::<usize>())
        .sum();
    let plan = snapshot_plan(checkpoint, spec, groups, encoding, files)?;
    Ok(values as u64 + total_bytes(&plan))
}

pub(crate) fn total_bytes(plan: &Plan) -> u64 {
    plan.segments.iter().flat_map(|segment| &segment.tensors).map(|tensor| tensor.len as u64).sum()
}

/// Refuses weights of which one is not a number: int8 would make a zero of it, and a score with it means nothing.
fn check_finite(name: &str, tensor: &CheckpointTensor, values: &[f32]) -> Result<(), Error> {
    // A sum is not finite if a value is not; most tensors are done after one fast pass.
    let suspicious = !values.iter().map(|value| value * 0.0).sum::<f32>().is_finite();
    let found = values.iter().position(|value| suspicious && !value.is_finite());
    let Some(at) = found else {
        return Ok(());
    };
    let shape = &tensor.shape;
    // Of f64 it may be the conversion that made it infinite.
    let written = first_not_finite(tensor).filter(|&(first, _)| first == at);
    let expected = match written {
        Some(_) => "expected finite numbers",
        None => "and its value in f64 is more than f32 holds: expected numbers up to 3.4e38",
    };
    Err(Error::Model(format!(
        "tensor {name:?} of shape {shape:?} has {} at {:?}: {expected}. The file is damaged, or the training went wrong: \
         get it again, or take an earlier checkpoint",
        values[at],
        place(shape, at)
    )))
}

/// The index of the `at`th element of a row-major tensor.
pub(crate) fn place(shape: &[usize], at: usize) -> Vec<usize> {
    let mut place = Vec::new();
    let mut rest = at;
    for &dim in shape.iter().rev() {
        place.push(rest % dim.max(1));
        rest /= dim.max(1);
    }
    place.reverse();
    place
}

/// The largest number that bf16 does not round to infinity; int8 rows with a larger one could not be scaled back either.
const MOST_IN_BF16: f32 = f32::from_bits(0x7f7f_7fff);
/// The same of f16: half a step above 65504, and less.
const MOST_IN_F16: f32 = 65520.0_f32.next_down();

/// Refuses values of a part that its precision would make infinite.
fn check_range(
    checkpoint: &Checkpoint,
    part: &Part,
    values: &[f32],
    precision: Precision,
) -> Result<(), Error> {
    let (most, instead) = match precision {
        Precision::F32 | Precision::Blocks => return Ok(()),
        Precision::F16 => (MOST_IN_F16, Precision::Bf16.name()),
        Precision::Bf16 | Precision::Int8 => (MOST_IN_BF16, Precision::F32.name()),
    };
    let fits = |value: &f32| value.abs() <= most;
    let Some(at) = values.iter().position(|value| !fits(value)) else {
        return Ok(());
    };
    let columns = if part.shape.len() > 1 { part.shape[1] } else { 1 };
    let mut row = at / columns.max(1);
    for source in &part.sources {
        let Some(tensor) = checkpoint.get(source) else { continue };
        let rows = match part.rows.len() {
            0 => tensor.shape.first().copied().unwrap_or_default(),
            some => some,
        };
        if row < rows {
            let row = part.rows.get(row).copied().unwrap_or(row);
            return Err(Error::Model(format!(
                "tensor {source:?} of shape {:?} has {:e} at {:?}, which {} makes infinite: expected numbers up to \
                 {most:e}. The file is damaged, or the training went wrong: get it again, or pack with --precision {instead}",
                tensor.shape,
                values[at],
                place(&tensor.shape, row * columns + at % columns.max(1)),
                precision.name()
            )));
        }
        row -= rows;
    }
    Err(Error::Model(format!(
        "{} has {:e} at {:?}, which {} makes infinite: pack with --precision {instead}",
        part.name,
        values[at],
        place(&part.shape, at),
        precision.name()
    )))
}

/// Some rows of a tensor, whose rows all take as many bytes; else the first that it does not have.
fn chosen(tensor: &CheckpointTensor, rows: &[usize]) -> Result<CheckpointTensor, usize> {
    let count = tensor.shape.first().copied().unwrap_or(0);
    let len = tensor.bytes.len() / count.max(1);
    let mut bytes = Vec::with_capacity(rows.len() * len);
    for &row in rows {
        let range = row * len..(row + 1) * len;
        bytes.extend_from_slice(tensor.bytes.get(range).filter(|_| row < count).ok_or(row)?);
    }
    let shape = std::iter::once(rows.len()).chain(tensor.shape.iter().skip(1).copied()).collect();
    Ok(CheckpointTensor { dtype: tensor.dtype, shape, bytes: bytes.into(), blocks: tensor.blocks })
}

/// The row-major values of a part, put together from its checkpoint tensors.
pub(crate) fn values(checkpoint: &Checkpoint, part: &Part) -> Result<Vec<f32>, Error> {
    let expected: usize = part.shape.iter().product();
    let columns = if part.shape.len() > 1 { part.shape[1] } else { 1 };
    let mut all = Vec::new();
    for source in &part.sources {
        let tensor = checkpoint.get(source).ok_or_else(|| {
            Error::Model(format!(
                "the checkpoint has no tensor {source:?}, which {} needs",
                part.name
            ))
        })?;
        let rows = tensor.shape.first().copied().unwrap_or(0);
        let width: usize = tensor.shape.iter().skip(1).product();
        if width != columns {
            return Err(Error::Model(format!(
                "tensor {source:?} has shape {:?}, expected rows of {columns} for {}",
                tensor.shape, part.name
            )));
        }
        let missing =
            |row| Error::Model(format!("tensor {source:?} has {rows} rows, row {row} is needed"));
        // Of a file's blocks, which are not widened whole elsewhere either, only these rows are.
        if tensor.blocks.is_some() && !part.rows.is_empty() {
            let chosen = chosen(&tensor, &part.rows).map_err(missing)?;
            let values = to_f32(&chosen)?;
            check_finite(source, &chosen, &values)?;
            all.extend_from_slice(&values);
            continue;
        }
        let values = to_f32(&tensor)?;
        check_finite(source, &tensor, &values)?;
        if part.rows.is_empty() {
            if all.is_empty() {
                all = values;
            } else {
                all.extend_from_slice(&values);
            }
            continue;
        }
        for &row in &part.rows {
            let row_values = values.get(row * width..(row + 1) * width);
            all.extend_from_slice(row_values.ok_or_else(|| missing(row))?);
        }
    }
    let is_norm = part.storage == Storage::Vector && part.name.ends_with("norm.weight");
    let offset = checkpoint.norm_offset();
    if is_norm && offset != 0.0 {
        for value in &mut all {
            *value += offset;
        }
    }
    if all.len() != expected {
        return Err(Error::Model(format!(
            "{} is put together from {} values of {:?}, expected {:?} by config.json",
            part.name,
            all.len(),
            part.sources,
            part.shape
        )));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::CheckpointDtype;

    /// The file's number is none that f32 has; the message does not blame a number that it does not hold.
    #[test]
    fn a_number_that_only_f64_holds_is_told_from_an_infinite_one() {
        for (value, part) in [(1e300, "is more than f32 holds"), (f64::INFINITY, "expected finite")]
        {
            let bytes: Vec<u8> = [0.5, value].into_iter().flat_map(f64::to_le_bytes).collect();
            let shape = vec![1, 2];
            let tensor = CheckpointTensor {
                dtype: CheckpointDtype::F64,
                shape,
                bytes: bytes.into(),
                blocks: None,
            };
            let values = to_f32(&tensor).unwrap();
            let error = check_finite("a", &tensor, &values).unwrap_err().to_string();
            assert!(error.contains("inf at [0, 1]") && error.contains(part), "{error}");
        }
    }
}
