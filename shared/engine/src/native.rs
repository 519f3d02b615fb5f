//! The native copy of a portable snapshot: panels instead of rows, the rest as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use defrost_loader::{Dtype, Plan, SegmentPlan, Snapshot, SnapshotWriter, Tensor, TensorPlan};
use defrost_model::parts::{Naming, Part, Storage, plan};
use defrost_model::{Error, ModelSpec, Precision, isa, stored};

use crate::encode::Encoding;
use crate::layout::INT8_GROUP;

/// Metadata key of a native copy: the root of the portable snapshot it was made from.
const PARENT: &str = "portable.root";

/// Whether `copy` is what [`write`] made of the snapshot.
pub(crate) fn is_of(copy: &Snapshot, portable: &Snapshot) -> bool {
    copy.meta(PARENT) == Some(&portable.root().to_string())
}

/// Writes the copy.
pub(crate) fn write(portable: &Snapshot, out: &Path) -> Result<(), Error> {
    let spec = ModelSpec::from_snapshot(portable)?;
    let precision = portable
        .meta(stored::PRECISION)
        .and_then(Precision::by_name)
        .ok_or_else(|| Error::Model("the snapshot does not say its precision".into()))?;
    if precision == Precision::F16 {
        return Err(Error::Model(format!(
            "snapshot {} is in f16, for which there are no CPU kernels: expected int8, bf16 or f32. Pack the model again with \
             `defrost pack --precision int8` (or bf16, f32), or serve it on a GPU",
            portable.path().display()
        )));
    }
    let groups = plan(&spec.config, &Naming::default());
    let parts: Vec<&Part> = groups.iter().flat_map(|group| &group.parts).collect();
    // Which parts of an int8 model are bf16 is seen from how they are stored.
    let in_bf16 = |part: &&&Part| {
        let entry = portable.manifest().tensors.iter().find(|entry| *entry.name == part.name);
        entry.is_some_and(|entry| entry.dtype == Dtype::Bf16)
    };
    let bf16: BTreeSet<String> =
        parts.iter().filter(in_bf16).map(|part| part.name.clone()).collect();
    let native = Encoding { precision, isa: isa::NATIVE, bf16: &bf16 };
    let rows = Encoding { isa: isa::PORTABLE, ..native };
    let files = files(portable, &parts, rows)?;
    let segments = groups.iter().map(|group| SegmentPlan {
        name: group.name.clone(),
        sparse: group.sparse,
        tensors: group.parts.iter().flat_map(|part| native.plan(part)).collect(),
    });
    let own = SegmentPlan {
        name: "files".into(),
        sparse: false,
        tensors: files.iter().map(planned).collect(),
    };
    let text = |(key, value): (&Arc<str>, &Arc<str>)| (key.to_string(), value.to_string());
    let mut meta: BTreeMap<String, String> = portable.manifest().meta.iter().map(text).collect();
    meta.insert(PARENT.to_owned(), portable.root().to_string());
    let plan = Plan {
        isa: isa::NATIVE.to_owned(),
        layout_abi: isa::LAYOUT_ABI,
        meta,
        segments: std::iter::once(own).chain(segments).collect(),
    };
    let mut writer = SnapshotWriter::create(out, plan)?;
    for file in &files {
        writer.write(&file.name, &file.bytes)?;
    }
    for part in parts {
        for (planned, expected) in native.plan(part).iter().zip(rows.plan(part)) {
            let tensor = portable.tensor(&planned.name)?;
            check(&tensor, &expected)?;
            let is_matrix = planned.name == part.name
                && matches!(
                    part.storage,
                    Storage::Linear | Storage::LinearF32 | Storage::Vocabulary
                );
            if is_matrix {
                writer.write(&planned.name, &panels(native, part, &tensor))?;
            } else {
                writer.write(&planned.name, &tensor.bytes)?;
            }
        }
    }
    writer.finish()?;
    Ok(())
}

/// The tensors that are no part of the model.
fn files(portable: &Snapshot, parts: &[&Part], rows: Encoding<'_>) -> Result<Vec<Tensor>, Error> {
    let weights: BTreeSet<String> =
        parts.iter().flat_map(|part| rows.plan(part)).map(|tensor| tensor.name).collect();
    let names = portable.manifest().tensors.iter().map(|entry| &*entry.name);
    names.filter(|name| !weights.contains(*name)).map(|name| Ok(portable.tensor(name)?)).collect()
}

fn planned(tensor: &Tensor) -> TensorPlan {
    TensorPlan {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        layout: tensor.layout.clone(),
        shape: tensor.shape.clone(),
        len: tensor.bytes.len(),
    }
}

fn check(tensor: &Tensor, expected: &TensorPlan) -> Result<(), Error> {
    if planned(tensor) == *expected {
        return Ok(());
    }
    Err(Error::Model(format!(
        "tensor {:?} is {} {} {:?} of {} bytes, its metadata imply {} {} {:?} of {} bytes: the portable snapshot was not \
         written by `defrost pack`",
        tensor.name,
        tensor.dtype,
        tensor.layout,
        tensor.shape,
        tensor.bytes.len(),
        expected.dtype,
        expected.layout,
        expected.shape,
        expected.len
    )))
}

fn panels(native: Encoding<'_>, part: &Part, tensor: &Tensor) -> Vec<u8> {
    match tensor.dtype {
        Dtype::I8 => native.matrix(part, bytemuck::cast_slice::<u8, i8>(&tensor.bytes), INT8_GROUP),
        Dtype::Bf16 => native.matrix(part, bytemuck::cast_slice::<u8, u16>(&tensor.bytes), 1),
        _ => native.matrix(part, bytemuck::cast_slice::<u8, u32>(&tensor.bytes), 1),
    }
}
