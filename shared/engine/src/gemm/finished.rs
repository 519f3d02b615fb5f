//! Int8 tiles that leave their registers as finished values, for kernel sets that have such.
//!
//! Sums that went through memory would be stored, loaded and waited for once a tile, which a short product has no time
//! to hide. The steps and their order are those of `epilogue`, and give the same bits.

use super::{Activation, Epilogue, Target};
use crate::kernel::Kernel;
use crate::kernel::operands::{OutRows, RowOf, Scaled, Step};
use crate::layout::PANEL;

/// Whether [`int8`] may be called.
pub(super) fn runs(kernel: Kernel, epilogue: &Epilogue<'_>) -> bool {
    kernel.finishes_int8() && step(epilogue).is_some()
}

/// What is done with a value, where tiles can do it.
fn step(epilogue: &Epilogue<'_>) -> Option<Step<'static>> {
    match (epilogue.activation, epilogue.accumulate) {
        (Activation::Identity, false) => Some(Step::Replace),
        (Activation::Identity, true) => Some(Step::Add),
        (Activation::Gelu, false) => Some(Step::Gelu),
        // Of the gate; the up projection's tile does the rest.
        (Activation::SwiGlu, false) => Some(Step::Silu),
        (Activation::Gelu | Activation::SwiGlu, true)
        | (Activation::Tanh | Activation::GeGlu, _) => None,
    }
}

/// A tile from operands to output. SwiGLU has the operands of its up projection too.
///
/// # Panics
/// Where [`runs`] says no.
pub(super) fn int8(
    kernel: Kernel,
    scaled: &Scaled<'_>,
    up: Option<&Scaled<'_>>,
    epilogue: &Epilogue<'_>,
    [gate, edge]: [&mut [RowOf<f32>]; 2],
    target: &mut Target<'_>,
) {
    let Some(step) = step(epilogue) else {
        panic!("no tile finishes {epilogue:?}: ask `runs` first");
    };
    if let Some(up) = up {
        kernel.finished_int8_tile(scaled, step, &mut OutRows::of(gate));
        finish(kernel, up, Step::Multiply(gate), edge, target);
        return;
    }
    finish(kernel, scaled, step, edge, target);
}

/// Runs the last step of a tile; at the edge of the matrix by way of a whole tile.
fn finish(
    kernel: Kernel,
    scaled: &Scaled<'_>,
    step: Step<'_>,
    edge: &mut [RowOf<f32>],
    target: &mut Target<'_>,
) {
    let rows = scaled.operands.rows();
    if target.width == PANEL {
        kernel.finished_int8_tile(scaled, step, &mut target.whole(rows));
        return;
    }
    for (row, edge) in edge.iter_mut().enumerate().take(rows) {
        let held = target.row(row);
        edge[..held.len()].copy_from_slice(held);
    }
    kernel.finished_int8_tile(scaled, step, &mut OutRows::of(edge));
    for (row, edge) in edge.iter().enumerate().take(rows) {
        let out = target.row(row);
        out.copy_from_slice(&edge[..out.len()]);
    }
}
