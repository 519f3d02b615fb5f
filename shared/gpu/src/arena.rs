//! All weights of a model in one allocation.
//!
//! ```text
//! snapshot's tensors ──ArenaPlan──> groups in the order in which a pass reads them: embedding | layer.0 | ... | head
//!                                   each tensor at a multiple of 256 bytes, under the name that the snapshot gives it
//! ArenaPlan ──Arena──> one allocation, whose bytes `upload` brings
//! ```
//!
//! One allocation because the driver's take a tenth of a millisecond each, and because a run of tensors that lie together
//! is one copy. What a tensor's values are on the device follows from how its part is stored:
//!
//! | part | in the snapshot | on the device |
//! |---|---|---|
//! | products | int8 with a scale a row | the same |
//! | | bf16, f16, f32 | the type that is computed in, bf16 or f16 |
//! | tables | int8, bf16, f16 | the same |
//! | | f32 | the type that is computed in |
//! | the stored prefix | f32 | the type that is computed in |
//! | heads, norms, biases, scales | f32 | the same |

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use defrost_loader::{Dtype, Snapshot, Tensor};
use defrost_model::parts::{Group, Naming, Part, Storage, plan};
use defrost_model::stored::ROW_MAJOR;
use defrost_model::{Error, ModelConfig};

use crate::Address;
use crate::device::{ALIGNMENT, Device, Memory};

/// A tensor on its way to the device.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The snapshot's tensor, whose bytes may still be on their way.
    pub(crate) tensor: Tensor,
    /// Where its values lie in the arena, and what they are there.
    pub(crate) slot: Slot,
}

/// A tensor in the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Bytes from the beginning of the arena.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
    /// The type of its values on the device.
    pub dtype: Dtype,
}

/// Tensors that a pass needs together.
#[derive(Debug, Clone)]
pub struct PlannedGroup {
    /// `embedding`, `layer.N` or `head`.
    pub name: String,
    /// Its bytes of the arena.
    pub(crate) bytes: Range<usize>,
    /// Its tensors, by offset.
    pub(crate) pieces: Vec<Piece>,
}

/// Where every tensor of a model is to lie.
#[derive(Debug, Clone)]
pub struct ArenaPlan {
    groups: Vec<PlannedGroup>,
    bytes: usize,
}

impl ArenaPlan {
    /// The plan for a portable snapshot of a model like this, which computes in `half`: bf16 or f16.
    ///
    /// # Errors
    /// If a tensor is missing, or is not what the model's parts are.
    pub fn new(snapshot: &Snapshot, config: &ModelConfig, half: Dtype) -> Result<Self, Error> {
        let mut parts = plan(config, &Naming::default());
        // Snapshots have the tables last, of whose rows the engine reads few; here they are needed first, whole.
        let tables = parts.iter().position(|group| group.sparse);
        parts[..tables.map_or(0, |at| at + 1)].rotate_right(1);
        let mut bytes = 0;
        let groups = parts
            .iter()
            .map(|group| planned(snapshot, group, half, &mut bytes))
            .collect::<Result<_, Error>>()?;
        Ok(Self { groups, bytes })
    }

    /// Bytes of the arena.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The groups, in the order in which a pass reads them.
    pub fn groups(&self) -> &[PlannedGroup] {
        &self.groups
    }
}

/// A group from byte `bytes` on, which then is the end of it.
fn planned(
    snapshot: &Snapshot,
    group: &Group,
    half: Dtype,
    bytes: &mut usize,
) -> Result<PlannedGroup, Error> {
    let start = *bytes;
    let mut pieces = Vec::new();
    for part in &group.parts {
        for (tensor, dtype) in tensors(snapshot, part, half)? {
            let len = tensor.bytes.len() / tensor.dtype.size() * dtype.size();
            let slot = Slot { offset: *bytes, len, dtype };
            *bytes += len.next_multiple_of(ALIGNMENT);
            pieces.push(Piece { tensor, slot });
        }
    }
    Ok(PlannedGroup { name: group.name.clone(), bytes: start..*bytes, pieces })
}

/// The tensors of a part, each with the type of its values on the device.
fn tensors(snapshot: &Snapshot, part: &Part, half: Dtype) -> Result<Vec<(Tensor, Dtype)>, Error> {
    let tensor = peek(snapshot, &part.name)?;
    let rows = part.shape[0];
    let found = &tensor.shape;
    let fits = match part.storage {
        // Snapshots pad them.
        Storage::Bias => matches!(found[..], [len] if len >= rows),
        _ => *found == part.shape,
    };
    if !fits {
        let (expected, found) = (format!("shape {:?}", part.shape), format!("{found:?}"));
        return Err(Error::mismatch(&part.name, expected, found));
    }
    let of_matrix = "int8, bf16, f16 or f32 elements";
    let (dtype, expected) = match (part.storage, tensor.dtype) {
        (Storage::Linear | Storage::Table, Dtype::I8) => {
            let stem = part.name.strip_suffix(".weight").unwrap_or(&part.name);
            let scales = peek(snapshot, &format!("{stem}.scale"))?;
            if scales.dtype != Dtype::F32 || scales.shape.iter().product::<usize>() < rows {
                let found = format!("{} {:?}", scales.dtype, scales.shape);
                return Err(Error::mismatch(&scales.name, format!("{rows} f32 values"), found));
            }
            return Ok(vec![(tensor, Dtype::I8), (scales, Dtype::F32)]);
        }
        (Storage::Linear, Dtype::Bf16 | Dtype::F16 | Dtype::F32)
        | (Storage::Table | Storage::FineTable | Storage::Prefix, Dtype::F32) => (Some(half), ""),
        (Storage::Table | Storage::FineTable, dtype @ (Dtype::Bf16 | Dtype::F16)) => {
            (Some(dtype), "")
        }
        (Storage::LinearF32 | Storage::Vector | Storage::Bias, Dtype::F32) => {
            (Some(Dtype::F32), "")
        }
        (Storage::Linear | Storage::Table, _) => (None, of_matrix),
        (Storage::FineTable, _) => (None, "bf16, f16 or f32 elements"),
        _ => (None, "f32 elements"),
    };
    match dtype {
        Some(dtype) => Ok(vec![(tensor, dtype)]),
        None => Err(Error::mismatch(&part.name, expected, tensor.dtype.to_string())),
    }
}

/// A tensor whose bytes are as many as its shape says, row by row.
fn peek(snapshot: &Snapshot, name: &str) -> Result<Tensor, Error> {
    if !snapshot.has(name) {
        return Err(Error::Missing { name: name.to_owned() });
    }
    let tensor = snapshot.peek(name)?;
    if tensor.layout != ROW_MAJOR {
        return Err(Error::mismatch(name, ROW_MAJOR, tensor.layout));
    }
    let bytes = tensor.shape.iter().product::<usize>() * tensor.dtype.size();
    if tensor.bytes.len() != bytes {
        let found = format!("{} bytes", tensor.bytes.len());
        return Err(Error::mismatch(name, format!("{bytes} bytes"), found));
    }
    Ok(tensor)
}

/// The allocation.
#[derive(Debug)]
pub struct Arena {
    memory: Memory,
    slots: HashMap<String, Slot>,
}

impl Arena {
    /// Allocates it.
    ///
    /// # Errors
    /// If the device has not so much memory.
    pub fn new(device: &Arc<dyn Device>, plan: &ArenaPlan) -> Result<Self, crate::device::Error> {
        let memory = Memory::new(device, plan.bytes)?;
        let pieces = plan.groups.iter().flat_map(|group| &group.pieces);
        let slots = pieces.map(|piece| (piece.tensor.name.clone(), piece.slot.clone())).collect();
        Ok(Self { memory, slots })
    }

    /// Where it begins.
    pub fn address(&self) -> Address {
        self.memory.address()
    }

    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// A tensor: where its values are, and what they are. `None` where the model has no such tensor.
    pub fn find(&self, name: &str) -> Option<(Address, Dtype)> {
        self.slots.get(name).map(|slot| (self.address().plus(slot.offset), slot.dtype))
    }
}
