//! One start of a kernel, as plain data: what a card's driver takes and what the emulator takes.

use bytemuck::{NoUninit, Pod, Zeroable};

/// Where something lies in a device's memory, in bytes; 0 where an argument may be absent and is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct Address(pub u64);

impl Address {
    /// The place so many bytes further on.
    #[must_use]
    pub fn plus(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// The most 8-byte words of a kernel's parameters; CUDA allows 512, and the largest of ours takes fewer than 20.
const MOST_WORDS: usize = 32;

/// The parameters of a kernel: the one struct that it takes by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    words: [u64; MOST_WORDS],
    len: usize,
}

impl Params {
    /// The bytes of such a struct, `#[repr(C)]` as the kernel's own is.
    ///
    /// # Panics
    /// If it has more than 256 bytes.
    pub fn of<T: NoUninit>(params: &T) -> Self {
        let bytes = bytemuck::bytes_of(params);
        let mut words = [0; MOST_WORDS];
        bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self { words, len: bytes.len() }
    }

    /// The bytes, aligned to 8.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

/// One start of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// The name of the kernel in the sources.
    pub kernel: &'static str,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block, a multiple of 32.
    pub block: u32,
    /// Bytes of shared memory of a block.
    pub shared: u32,
    /// What the kernel is asked.
    pub params: Params,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_the_bytes_of_the_struct() {
        #[derive(Clone, Copy, Pod, Zeroable)]
        #[repr(C)]
        struct Own {
            at: Address,
            rows: u32,
            eps: f32,
        }
        let params = Params::of(&Own { at: Address(7).plus(1), rows: 3, eps: 1.0 });
        assert_eq!(params.bytes(), [8, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0x80, 0x3f]);
    }
}
