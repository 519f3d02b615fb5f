//! The kernels: what each is asked, and with which geometry it starts.
//!
//! Each is a struct of its arguments with a `launch`, which says what a device starts: the name of the kernel, blocks,
//! threads, shared memory, and the struct of parameters as the source in `kernels/` declares it.

pub mod attention;
pub mod dense;
pub mod embed;
pub mod gather;
pub mod gemm;
pub mod norm;
pub mod pool;
pub mod quantize;
pub mod rotary;

pub use attention::{Attention, SequenceRow};
pub use dense::{Activation, Dense};
pub use embed::{Embed, Table, TableKind};
pub use gather::Gather;
pub use gemm::{Element, Epilogue, Gemm, OutType, Tile};
pub use norm::{Norm, NormKind};
pub use pool::{Pool, Pooling};
pub use quantize::Quantize;
pub use rotary::{HeadNorms, Rotary, Rotation};

/// The floating-point types of two bytes that tensor cores multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Half {
    /// The upper half of an f32: its range, with 8 bits of precision.
    Bf16,
    /// IEEE's type of two bytes: 11 bits of precision, up to 65504.
    F16,
}

impl Half {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bf16, Self::F16];
}

/// The type of floating-point values in a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Float {
    /// Two bytes a value.
    Half(Half),
    /// Four bytes a value.
    F32,
}

impl Float {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Half(Half::Bf16), Self::Half(Half::F16), Self::F32];

    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::Half(_) => 2,
            Self::F32 => 4,
        }
    }
}

impl From<Half> for Float {
    fn from(half: Half) -> Self {
        Self::Half(half)
    }
}
