//! Copies of chosen rows (`kernels/gather.cu`): the rows of a batch that a last layer goes on with.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Launch, Params};

/// `out[i] = from[row_of[i]]`.
#[derive(Debug, Clone, Copy)]
pub struct Gather {
    /// Rows of `out`.
    pub rows: u32,
    /// Bytes of a row, a multiple of 4.
    pub width_bytes: u32,
    /// Where rows come from; 4 bytes aligned.
    pub from: Address,
    /// Which of them, u32.
    pub row_of: Address,
    /// Where they go; 4 bytes aligned, and no part of `from`.
    pub out: Address,
}

/// As `GatherParams` of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    from: Address,
    row_of: Address,
    out: Address,
    rows: u32,
    width: u32,
}

/// Threads of a block, each for a word of a row at a time.
const THREADS: u32 = 256;

impl Gather {
    /// How the kernel starts: with words of 16 bytes where the rows have them, otherwise of 4.
    ///
    /// # Panics
    /// If there is no row, or rows are not of whole words.
    pub fn launch(&self) -> Launch {
        assert!(self.rows > 0, "a gather of no rows");
        assert!(
            self.width_bytes > 0 && self.width_bytes.is_multiple_of(4),
            "rows of {} bytes are not of words",
            self.width_bytes
        );
        let wide = (u64::from(self.width_bytes) | self.from.0 | self.out.0).is_multiple_of(16);
        let (kernel, word) = if wide { ("gather_16", 16) } else { ("gather_4", 4) };
        let width = self.width_bytes / word;
        Launch {
            kernel,
            grid: [self.rows, 1, 1],
            block: width.next_multiple_of(32).min(THREADS),
            shared: 0,
            params: Params::of(&Raw {
                from: self.from,
                row_of: self.row_of,
                out: self.out,
                rows: self.rows,
                width,
            }),
        }
    }
}
