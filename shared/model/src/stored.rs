//! How the tensors of a snapshot that are no part of the model itself are called.

/// The bytes of tokenizer.json.
pub const TOKENIZER: &str = "tokenizer.json";
/// The bytes of each token, a table of the tasks; absent in snapshots that generate nothing.
pub const TOKEN_PIECES: &str = "tokenizer.pieces";
/// The compiled tokenizer; absent where tokenizer.json has a part that is not compiled.
pub const COMPILED_TOKENIZER: &str = "tokenizer.compiled";
/// What a language model's files say about conversations ([`crate::ChatSpec`]), as JSON.
pub const CHAT: &str = "chat.json";
/// An ONNX model's graph.
pub const GRAPH: &str = "graph.onnx";
/// What the names of an ONNX model's weights begin with.
pub const ONNX_WEIGHT: &str = "onnx/";
/// Layout tag of raw files.
pub const FILE: &str = "file";
/// Layout tag of compiled tokenizers, which say their version themselves.
pub const IMAGE: &str = "image";
/// Layout tag of row-major tensors.
pub const ROW_MAJOR: &str = "row-major";
/// Metadata key of the precision of the large matrices.
pub const PRECISION: &str = "precision";
/// Metadata key of what was decided about outliers in an int8 model.
pub const QUALITY: &str = "quality.products";
