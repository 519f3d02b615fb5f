//! From checkpoints to snapshots: formats, specifications, calibration, random models.
//!
//! ```text
//! checkpoint folder --open_checkpoint--> Checkpoint --pack--> snapshot
//!   formats   tensors of safetensors and `torch.save`; GGUF and ONNX files are looked into
//!   read      ModelSpec and the names of tensors, by what the files say (see [`checkpoint`])
//!   quality   which products of an int8 model need scales, or stay in bf16
//!   prefix    keys and values of what prompts begin with
//!   encode    values as the engine stores them
//! model.onnx --pack_onnx--> snapshot
//! Shape --synthesize--> a checkpoint of random weights in true dimensions
//! ```
//!
//! No function links this: what runs needs snapshots only.

mod checkpoint;
mod formats;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod onnx;
mod pack;
mod prefix;
mod quality;
mod synth;

use defrost_tasks::Error;

pub use checkpoint::{AttentionMask, ModelKind, SpecOptions, Told, open_checkpoint};
pub use formats::{
    Checkpoint, CheckpointDtype, CheckpointTensor, Gguf, GgufArray, GgufKind, GgufTensor, GgufType,
    GgufValue, GgufValues, OnnxData, OnnxModel, OnnxTensor, OnnxType, Placement, first_not_finite,
    to_f32,
};
pub use onnx::{OnnxSource, PackedOnnx, pack_onnx};
pub use pack::{PackOptions, Packed, pack};
pub use quality::{Outliers, summary as quality_summary};
pub use synth::{Shape, synthesize};
