//! From ids to the f32 rows that enter the first layer: sums of rows of up to three tables (`kernels/embed.cu`).

use bytemuck::{Pod, Zeroable};

use crate::{Address, Launch, Params};

/// What a table's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// f32.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half.
    F16,
    /// int8 with an f32 scale for each row.
    Int8,
}

/// A table of rows of `width` values.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its first row.
    pub address: Address,
    /// What its values are.
    pub kind: TableKind,
    /// The scales of an int8 table's rows.
    pub scales: Option<Address>,
}

/// Sums of rows of tables, in the order words, types, positions.
#[derive(Debug, Clone, Copy)]
pub struct Embed {
    /// Rows of the result.
    pub rows: u32,
    /// Values of a row.
    pub width: u32,
    /// Which rows of the words, u32. No kernel looks whether a table has the row: who plans a pass has checked it.
    pub ids: Address,
    /// The table of words.
    pub words: Table,
    /// Which rows of a table of positions.
    pub positions: Option<(Address, Table)>,
    /// Which rows of a table of types.
    pub types: Option<(Address, Table)>,
    /// f32 rows.
    pub out: Address,
}

/// As `EmbedTable` of the kernels.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct RawTable {
    ids: Address,
    rows: Address,
    scales: Address,
    kind: u32,
    unused: u32,
}

impl RawTable {
    fn new(ids: Address, table: Table) -> Self {
        assert_eq!(
            table.kind == TableKind::Int8,
            table.scales.is_some(),
            "int8 rows alone have scales"
        );
        Self {
            ids,
            rows: table.address,
            scales: table.scales.unwrap_or_default(),
            kind: table.kind as u32,
            unused: 0,
        }
    }
}

/// As `EmbedParams` of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    words: RawTable,
    types: RawTable,
    positions: RawTable,
    out: Address,
    rows: u32,
    width: u32,
}

/// Threads of a block, each for a column of a row at a time.
const THREADS: u32 = 256;

impl Embed {
    /// How the kernel starts.
    ///
    /// # Panics
    /// If there is no row or column, or a table's scales do not fit its kind.
    pub fn launch(&self) -> Launch {
        assert!(self.rows > 0 && self.width > 0, "{} rows of {}", self.rows, self.width);
        let table = |table: Option<(Address, Table)>| {
            table.map_or_else(RawTable::default, |(ids, table)| RawTable::new(ids, table))
        };
        Launch {
            kernel: "embed",
            grid: [self.rows, 1, 1],
            block: self.width.next_multiple_of(32).min(THREADS),
            shared: 0,
            params: Params::of(&Raw {
                words: RawTable::new(self.ids, self.words),
                types: table(self.types),
                positions: table(self.positions),
                out: self.out,
                rows: self.rows,
                width: self.width,
            }),
        }
    }
}
