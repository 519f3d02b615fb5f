//! Which int8 tiles are finished in registers, and the checks before it: see `avx512::fused`.

pub(super) use super::avx512::fused::Operands;
use super::avx512::fused::{Step, int8_tile};
use super::{Activation, Epilogue, TILE_ROWS, Target, Tile};
use crate::kernel::{Kernel, Set};
use crate::layout::{INT8_GROUP, PANEL};

/// Whether [`int8`] may be called.
pub(super) fn runs(kernel: Kernel, epilogue: &Epilogue<'_>) -> bool {
    kernel.set() == Set::Avx512Vnni && epilogue.activation != Activation::Tanh
}

/// A tile from operands to output. SwiGLU has the operands of its up projection too.
pub(super) fn int8(
    operands: &Operands<'_>,
    up: Option<&Operands<'_>>,
    epilogue: &Epilogue<'_>,
    [gate, edge]: [&mut Tile<f32>; 2],
    target: &mut Target<'_>,
) {
    if let Some(up) = up {
        run(operands, Step::Silu, &mut Place::Tile(gate));
        finish(up, Step::Multiply(gate), edge, target);
        return;
    }
    let step = match (epilogue.activation, epilogue.accumulate) {
        (Activation::Gelu, _) => Step::Gelu,
        (_, true) => Step::Add,
        _ => Step::Replace,
    };
    finish(operands, step, edge, target);
}

/// Runs the last step of a tile; at the edge of the matrix by way of a whole tile.
fn finish(operands: &Operands<'_>, step: Step<'_>, edge: &mut Tile<f32>, target: &mut Target<'_>) {
    if target.width == PANEL {
        run(operands, step, &mut Place::Output(target));
        return;
    }
    let rows = operands.row_scales.len();
    for (row, edge) in edge.iter_mut().enumerate().take(rows) {
        let held = target.row(row);
        edge[..held.len()].copy_from_slice(held);
    }
    run(operands, step, &mut Place::Tile(edge));
    for (row, edge) in edge.iter().enumerate().take(rows) {
        let out = target.row(row);
        out.copy_from_slice(&edge[..out.len()]);
    }
}

/// Where a tile is written, whole panels wide.
enum Place<'a, 'b> {
    Tile(&'a mut Tile<f32>),
    Output(&'a mut Target<'b>),
}

#[allow(unsafe_code, reason = "calls a target_feature kernel")]
fn run(operands: &Operands<'_>, step: Step<'_>, place: &mut Place<'_, '_>) {
    let rows = operands.row_scales.len();
    let k = operands.panel.len() / PANEL;
    assert!(
        rows <= TILE_ROWS && (rows == 0 || operands.x.len() >= (rows - 1) * operands.stride + k)
    );
    assert!(k.is_multiple_of(INT8_GROUP) && operands.panel.len() == PANEL * k);
    assert_eq!(operands.offsets.len(), PANEL);
    let (out, stride) = match place {
        Place::Tile(tile) => (tile.as_mut_ptr().cast(), PANEL),
        Place::Output(target) => {
            assert_eq!(target.width, PANEL);
            (target.rows(rows), target.stride)
        }
    };
    // SAFETY: `runs` has asked for the kernel set; the operands were just checked; the rows written are a whole tile's,
    // or the output's, which `Target::rows` has checked.
    unsafe { int8_tile(operands, step, out, stride) }
}
