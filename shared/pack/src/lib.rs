//! From checkpoints to snapshots: formats, specifications, calibration, random models.
//!
//! ```text
//! checkpoint folder, model.gguf --open_checkpoint--> Checkpoint --pack--> snapshot
//!   formats   tensors of safetensors, `torch.save` and GGUF files; ONNX files are looked into
//!   gguf      a GGUF file as the folder that it was made of
//!   read      ModelSpec and the names of tensors, by what the files say (see [`checkpoint`])
//!   quality   which products of an int8 model need scales, or stay in bf16
//!   prefix    keys and values of what prompts begin with
//!   encode    values as the engine stores them
//! model.onnx --pack_onnx--> snapshot
//! Shape --synthesize--> a checkpoint of random weights in true dimensions; synthesize_gguf: a GGUF file
//! ```
//!
//! No function links this: what runs needs snapshots only.

mod checkpoint;
mod formats;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gguf;
mod onnx;
mod pack;
mod prefix;
mod quality;
mod quantized;
mod synth;

use defrost_tasks::Error;

pub use checkpoint::{AttentionMask, ModelKind, SpecOptions, Told, kind_of, open_checkpoint};
pub use formats::{
    Checkpoint, CheckpointDtype, CheckpointTensor, Gguf, GgufArray, GgufKind, GgufTensor, GgufType,
    GgufValue, GgufValues, OnnxData, OnnxModel, OnnxTensor, OnnxType, Placement, first_not_finite,
    to_f32,
};
pub use gguf::find as find_gguf;
pub use onnx::{OnnxSource, PackedOnnx, pack_onnx};
pub use pack::{PackOptions, Packed, pack, usual_precision};
pub use quality::{Outliers, summary as quality_summary};
pub use quantized::quantized;
pub use synth::{Quantization, Shape, synthesize, synthesize_gguf};
