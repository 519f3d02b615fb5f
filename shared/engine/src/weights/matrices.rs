//! A layer whose matrices are stored one by one, as a GGUF file has them: `L.weight.0`, `L.weight.1` and so on.
//!
//! Each is in blocks of its own kind, bytes of the layout `blocks64/KIND`, or in panels of bf16 or f32. All are multiplied in one
//! parallel step.

use defrost_loader::{Dtype, Place, Tensor};
use defrost_model::{BlockKind, TokenMask};
use half::bf16;

use super::{Values, Weights, require};
use crate::blocks::{self, PANELS_OF};
use crate::gate::ReadinessGate;
use crate::gemm::{self, Context, Epilogue, Segment, SegmentPanels, Segments};
use crate::layout::{PANEL, panel_len};
use crate::quantize::QuantizedRows;
use crate::{Error, Kernel};

/// The matrices of a layer, their channels one after the other.
#[derive(Debug)]
pub(super) struct Matrices {
    k: usize,
    matrices: Vec<Matrix>,
}

#[derive(Debug)]
struct Matrix {
    n: usize,
    panels: MatrixPanels,
}

#[derive(Debug)]
enum MatrixPanels {
    Blocks(BlockKind, Values<u8>),
    Bf16(Values<bf16>),
    F32(Values<f32>),
}

impl Matrices {
    /// Those of the layer `name`, if it is stored this way: of `parts` channels each and `k` inputs.
    pub(super) fn load(
        weights: &dyn Weights,
        name: &str,
        parts: &[usize],
        k: usize,
        kernel: Kernel,
    ) -> Result<Option<Self>, Error> {
        let name_of = |at: usize| format!("{name}.weight.{at}");
        if weights.get(&name_of(0))?.is_none() {
            return Ok(None);
        }
        let load = |(at, &n): (usize, &usize)| {
            let name = name_of(at);
            let panels = MatrixPanels::load(&name, &require(weights, &name)?, n, k, kernel)?;
            Ok(Matrix { n, panels })
        };
        let matrices = parts.iter().enumerate().map(load).collect::<Result<_, Error>>()?;
        Ok(Some(Self { k, matrices }))
    }

    /// Returns when all may be read.
    pub(super) fn wait(&self, gate: &dyn ReadinessGate) -> Result<(), Error> {
        self.matrices.iter().try_for_each(|matrix| gate.wait(matrix.panels.memory().0))
    }

    /// Whether there are two, whose channels can be a gate and what goes through it.
    pub(super) fn are_two(&self) -> bool {
        self.matrices.len() == 2
    }

    /// Whether all weights are f32.
    pub(super) fn are_f32(&self) -> bool {
        self.matrices.iter().all(|matrix| matches!(matrix.panels, MatrixPanels::F32(_)))
    }

    /// Fills `out` with a row of outputs per row of `x`; of one matrix, only what is `allowed` of each row, if that is said, and
    /// the outputs around it.
    pub(super) fn run(
        &self,
        cx: Context<'_>,
        x: &[f32],
        allowed: Option<&[Option<&TokenMask>]>,
        epilogue: &Epilogue<'_>,
        quantized: &mut QuantizedRows,
        out: &mut [f32],
    ) {
        let matrices: Vec<Segment<'_>> = self.matrices.iter().map(Matrix::segment).collect();
        if matrices.iter().any(|matrix| matches!(matrix.panels, SegmentPanels::Blocks(..))) {
            quantized.runs.fill(cx.kernel, cx.threads, x, self.k);
        }
        run(cx, x, self.k, &matrices, allowed, epilogue, quantized, out);
    }

    /// The matrix of an output, and its number in it.
    fn matrix_of(&self, mut row: usize) -> (&Matrix, usize) {
        for matrix in &self.matrices {
            if row < matrix.n {
                return (matrix, row);
            }
            row -= matrix.n;
        }
        panic!("a row after the last of {} matrices", self.matrices.len())
    }

    /// Where the panel of an output lies.
    pub(super) fn row_place(&self, row: usize) -> Place {
        let (matrix, row) = self.matrix_of(row);
        let (place, len) = matrix.panels.memory();
        let (panel, len) = (row / PANEL, len / matrix.n.div_ceil(PANEL));
        place.part(panel * len..(panel + 1) * len)
    }

    /// Adds the weights of an output to `out`.
    pub(super) fn add_row(&self, row: usize, out: &mut [f32]) {
        let (Matrix { n, panels }, row) = self.matrix_of(row);
        let k = self.k;
        let float = |at: usize| ((row / PANEL) * k + at) * PANEL + row % PANEL;
        match panels {
            MatrixPanels::Blocks(kind, panels) => {
                let mut values = vec![0.0; k];
                blocks::unpack_row(*kind, panels.as_slice(), *n, k, row, &mut values);
                out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
            }
            MatrixPanels::Bf16(panels) => {
                let panels = panels.as_slice();
                out.iter_mut().enumerate().for_each(|(at, out)| *out += panels[float(at)].to_f32());
            }
            MatrixPanels::F32(panels) => {
                let panels = panels.as_slice();
                out.iter_mut().enumerate().for_each(|(at, out)| *out += panels[float(at)]);
            }
        }
    }
}

/// See [`Matrices::run`]; blocks' rows are quantised.
#[allow(clippy::too_many_arguments, reason = "a product of lists, and which of it is wanted")]
pub(super) fn run(
    cx: Context<'_>,
    x: &[f32],
    k: usize,
    matrices: &[Segment<'_>],
    allowed: Option<&[Option<&TokenMask>]>,
    epilogue: &Epilogue<'_>,
    quantized: &QuantizedRows,
    out: &mut [f32],
) {
    /// Words of a mask that are a panel's.
    const WORDS: usize = PANEL / 32;
    let needed = |panel: usize, rows: std::ops::Range<usize>| {
        let any = |mask: &TokenMask| {
            mask.words().iter().skip(panel * WORDS).take(WORDS).any(|&word| word != 0)
        };
        allowed.is_none_or(|allowed| allowed[rows].iter().any(|mask| mask.is_none_or(any)))
    };
    let of = Segments {
        x,
        k,
        quantized: &quantized.runs,
        matrices,
        only: allowed.is_some().then_some(&needed),
    };
    gemm::segments(cx, &of, epilogue, out);
}

impl Matrix {
    fn segment(&self) -> Segment<'_> {
        let panels = match &self.panels {
            MatrixPanels::Blocks(kind, panels) => SegmentPanels::Blocks(*kind, panels.as_slice()),
            MatrixPanels::Bf16(panels) => SegmentPanels::Bf16(panels.as_slice()),
            MatrixPanels::F32(panels) => SegmentPanels::F32(panels.as_slice()),
        };
        Segment { n: self.n, panels }
    }
}

impl MatrixPanels {
    fn load(name: &str, view: &Tensor, n: usize, k: usize, kernel: Kernel) -> Result<Self, Error> {
        if let Some(kind) = view.layout.strip_prefix(PANELS_OF) {
            let kind = kind_of_rows(name, kind, k)?;
            let len = blocks::panels_len(kind, n, k);
            return Ok(Self::Blocks(kind, Values::new(name, view, Dtype::U8, len)?));
        }
        if view.layout != kernel.layout() {
            let expected = format!("{} or {PANELS_OF}KIND", kernel.layout());
            return Err(Error::mismatch(name, expected, &view.layout));
        }
        if view.shape != [n, k] {
            let found = format!("{:?}", view.shape);
            return Err(Error::mismatch(name, format!("shape [{n}, {k}]"), found));
        }
        match view.dtype {
            Dtype::Bf16 => {
                Ok(Self::Bf16(Values::new(name, view, Dtype::Bf16, panel_len(n, k, 1))?))
            }
            Dtype::F32 => Ok(Self::F32(Values::new(name, view, Dtype::F32, panel_len(n, k, 1))?)),
            other => {
                Err(Error::mismatch(name, "bf16 or f32 elements, or blocks", other.to_string()))
            }
        }
    }

    /// Where its bytes lie, and how many they are.
    fn memory(&self) -> (Place, usize) {
        match self {
            Self::Blocks(_, panels) => (panels.place, panels.bytes.len()),
            Self::Bf16(panels) => (panels.place, panels.bytes.len()),
            Self::F32(panels) => (panels.place, panels.bytes.len()),
        }
    }
}

/// The kind of that name, of which rows of `k` weights are whole blocks.
pub(super) fn kind_of_rows(tensor: &str, name: &str, k: usize) -> Result<BlockKind, Error> {
    let kind = BlockKind::by_name(name).ok_or_else(|| {
        let known = BlockKind::ALL.map(BlockKind::name).join(", ");
        Error::mismatch(tensor, format!("blocks of a kind of {known}"), name)
    })?;
    let (weights, _) = kind.gguf_block();
    if !k.is_multiple_of(weights) {
        let expected = format!("rows of whole blocks of {weights} weights for {name}");
        return Err(Error::mismatch(tensor, expected, format!("rows of {k}")));
    }
    Ok(kind)
}
