//! The kernels: what each is asked, and with which geometry it starts.

pub mod attention;
pub mod embed;
pub mod gather;
pub mod norm;
pub mod pool;
pub mod rotary;

/// A float of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Half {
    /// bfloat16: the range of f32, 8 bits of precision.
    Bf16,
    /// IEEE half: up to 65504, 11 bits of precision.
    F16,
}
