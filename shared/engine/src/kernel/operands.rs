//! What tiles read and write. These types are made in one place each, where their bounds are checked, and their fields
//! are private: a kernel may follow their pointers without asking again.

use std::marker::PhantomData;

use defrost_model::BlockKind;
use half::bf16;

use crate::blocks::{QuantizedRuns, RUN, RunScale, form};
use crate::layout::{INT8_GROUP, PANEL};

/// A row of a tile's sums: a value a channel of the panel.
pub(crate) type RowOf<T> = [T; PANEL];

/// Columns of a panel come in whole 512-bit registers.
pub(crate) const COLUMN_STEP: usize = 16;

/// Rows of activations, `stride` apart, and the panel that they are multiplied with: `columns` channels side by side,
/// inputs in groups of `GROUP`.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a, X, W, const GROUP: usize> {
    x: &'a [X],
    stride: usize,
    rows: usize,
    panel: &'a [W],
    columns: usize,
    groups: usize,
    onto: bool,
}

/// Unsigned codes by int8 weights.
pub(crate) type Int8Operands<'a> = Operands<'a, u8, i8, INT8_GROUP>;
/// 16-bit integers in pairs.
pub(crate) type Int16Operands<'a> = Operands<'a, i16, i16, 2>;
/// f32 by f32.
pub(crate) type FloatOperands<'a> = Operands<'a, f32, f32, 1>;
/// f32 by bf16.
pub(crate) type Bf16Operands<'a> = Operands<'a, f32, bf16, 1>;

impl<'a, X, W, const GROUP: usize> Operands<'a, X, W, GROUP> {
    /// `rows` rows that begin at multiples of `stride`, against a panel of `columns` channels.
    ///
    /// # Panics
    /// If the columns are not whole registers of one panel, the panel not whole groups, or the last row shorter than
    /// the panel's inputs.
    pub(crate) fn new(
        x: &'a [X],
        stride: usize,
        rows: usize,
        panel: &'a [W],
        columns: usize,
    ) -> Self {
        assert!(columns.is_multiple_of(COLUMN_STEP) && (1..=PANEL).contains(&columns), "columns");
        let groups = panel.len() / (columns * GROUP);
        assert_eq!(panel.len(), groups * columns * GROUP, "values of a panel");
        let end = rows.saturating_sub(1).saturating_mul(stride).saturating_add(groups * GROUP);
        assert!(rows == 0 || x.len() >= end, "rows of activations");
        Self { x, stride, rows, panel, columns, groups, onto: false }
    }

    /// Whether products are added to what the sums hold, instead of replacing it.
    pub(crate) fn onto_sums(self, onto: bool) -> Self {
        Self { onto, ..self }
    }

    /// See [`Operands::onto_sums`].
    pub(crate) fn onto(&self) -> bool {
        self.onto
    }

    /// Rows of activations.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Channels of the panel.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Groups of inputs.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// The inputs of a row.
    pub(crate) fn row(&self, row: usize) -> &'a [X] {
        &self.x[row * self.stride..][..self.groups * GROUP]
    }

    /// The panel's values.
    pub(crate) fn panel(&self) -> &'a [W] {
        self.panel
    }

    /// The first row's first input, of at least `ROWS` rows [`Operands::stride`] apart, each as long as there are inputs.
    #[inline]
    pub(crate) fn first<const ROWS: usize>(&self) -> *const X {
        assert!(ROWS <= self.rows, "rows of a tile");
        self.x.as_ptr()
    }

    /// Values from one row to the next.
    #[inline]
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }
}

/// Rows of activations in int8, a scale for every run of 32, and the panel of blocks that they are multiplied with.
#[derive(Clone, Copy)]
pub(crate) struct BlockOperands<'a> {
    codes: &'a [i8],
    stride: usize,
    scales: &'a [RunScale],
    rows: usize,
    kind: BlockKind,
    panel: &'a [u8],
    runs: usize,
}

impl<'a> BlockOperands<'a> {
    /// The `rows` rows of `x` from `first` on, against a panel of blocks of that kind.
    ///
    /// # Panics
    /// If there are fewer rows, or the panel is not as long as they are.
    pub(crate) fn new(
        x: &'a QuantizedRuns,
        first: usize,
        rows: usize,
        kind: BlockKind,
        panel: &'a [u8],
    ) -> Self {
        let (stride, k) = (x.stride(), x.inputs());
        assert!(first + rows <= x.rows() && k <= stride, "rows of activations");
        assert!(k.is_multiple_of(form(kind).inputs()), "whole blocks of inputs");
        assert_eq!(panel.len(), form(kind).panel_bytes(k), "bytes of a panel");
        let runs = k / RUN;
        Self {
            codes: &x.codes()[first * stride..(first + rows) * stride],
            stride,
            scales: &x.runs()[first * runs..(first + rows) * runs],
            rows,
            kind,
            panel,
            runs,
        }
    }

    /// The same without the first rows.
    pub(crate) fn after(self, rows: usize) -> Self {
        Self {
            codes: &self.codes[rows * self.stride..],
            scales: &self.scales[rows * self.runs..],
            rows: self.rows - rows,
            ..self
        }
    }

    /// Rows of activations.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The kind of the panel's blocks.
    pub(crate) fn kind(&self) -> BlockKind {
        self.kind
    }

    /// Runs of a row, a whole number of blocks.
    pub(crate) fn runs(&self) -> usize {
        self.runs
    }

    /// The codes of a row.
    pub(crate) fn row(&self, row: usize) -> &'a [i8] {
        &self.codes[row * self.stride..][..self.runs * RUN]
    }

    /// The scales of a row.
    pub(crate) fn scales(&self, row: usize) -> &'a [RunScale] {
        &self.scales[row * self.runs..][..self.runs]
    }

    /// The panel's bytes: as many as there are runs.
    pub(crate) fn panel(&self) -> &'a [u8] {
        self.panel
    }

    /// The first row's first code and scale, of at least `ROWS` rows: codes [`BlockOperands::stride`] apart, scales
    /// [`BlockOperands::runs`].
    #[inline]
    pub(crate) fn first<const ROWS: usize>(&self) -> (*const i8, *const RunScale) {
        assert!(ROWS <= self.rows, "rows of a tile");
        (self.codes.as_ptr(), self.scales.as_ptr())
    }

    /// Codes from one row to the next.
    #[inline]
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }
}

/// What belongs to the channels of one panel.
#[derive(Clone, Copy)]
pub(crate) struct Channels<'a> {
    pub(crate) scales: &'a RowOf<f32>,
    pub(crate) bias: &'a RowOf<f32>,
}

/// The operands of an int8 tile, and what makes values of its sums.
pub(crate) struct Scaled<'a> {
    pub(crate) operands: Int8Operands<'a>,
    pub(crate) offsets: &'a RowOf<i32>,
    /// The scales of the rows, one for each.
    pub(crate) row_scales: &'a [f32],
    pub(crate) channels: Channels<'a>,
}

/// What is done with a scaled and biased value.
#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    /// The value replaces the output.
    Replace,
    /// The value is added to the output.
    Add,
    /// The value's GELU replaces the output.
    Gelu,
    /// The value's `SiLU` replaces the output.
    Silu,
    /// The product of the value with another tile's replaces the output.
    Multiply(&'a [RowOf<f32>]),
}

/// Rows of 64 values that a tile may read and write, `stride` apart.
pub(crate) struct OutRows<'a> {
    first: *mut f32,
    stride: usize,
    rows: usize,
    life: PhantomData<&'a mut f32>,
}

impl<'a> OutRows<'a> {
    /// The rows of a tile.
    pub(crate) fn of(tile: &'a mut [RowOf<f32>]) -> Self {
        let rows = tile.len();
        Self { first: tile.as_mut_ptr().cast(), stride: PANEL, rows, life: PhantomData }
    }

    /// Rows inside of something larger.
    ///
    /// # Safety
    /// From `first` on, `rows` runs of 64 values that begin at multiples of `stride` may be read and written while this
    /// lives, and no other code reads or writes them.
    #[allow(unsafe_code, reason = "the bounds of a matrix that other threads write too")]
    pub(crate) unsafe fn new(first: *mut f32, stride: usize, rows: usize) -> Self {
        Self { first, stride, rows, life: PhantomData }
    }

    /// The first row's first value, of at least `ROWS` rows [`OutRows::stride`] apart, each of 64 values.
    #[inline]
    pub(crate) fn first<const ROWS: usize>(&mut self) -> *mut f32 {
        assert!(ROWS <= self.rows, "rows of the output");
        self.first
    }

    /// Values from one row to the next.
    #[inline]
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }
}
