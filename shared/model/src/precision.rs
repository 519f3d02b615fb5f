//! In what precision the weights of a model are.

use defrost_loader::Dtype;

/// Precision of the large matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// int8 with one scale per output channel.
    Int8,
    /// bfloat16.
    Bf16,
    /// IEEE half precision, for GPUs: the CPU engine has no kernels for it.
    F16,
    /// 32-bit float.
    F32,
    /// Each matrix in the blocks that its GGUF file has it in, a [`crate::BlockKind`] a matrix; floats where it has floats.
    Blocks,
}

impl Precision {
    /// Those that the CPU engine computes with.
    pub const ALL: [Self; 3] = [Self::Int8, Self::Bf16, Self::F32];

    /// Every precision that a snapshot can be in.
    pub const OF_SNAPSHOTS: [Self; 5] =
        [Self::Int8, Self::Bf16, Self::F16, Self::F32, Self::Blocks];

    /// `int8`, `bf16`, `f16`, `f32` or `blocks`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::Blocks => "blocks",
        }
    }

    /// The precision of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::OF_SNAPSHOTS.into_iter().find(|precision| precision.name() == name)
    }

    /// The element type of its matrices.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::Int8 => Dtype::I8,
            Self::Bf16 => Dtype::Bf16,
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
            Self::Blocks => Dtype::U8,
        }
    }
}
