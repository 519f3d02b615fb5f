//! Values of one type as those of another, on the way.

use defrost_loader::Dtype;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

/// Values that are converted at once where there is no direct way: 16 KiB of f32, which stay in the first cache.
const AT_ONCE: usize = 4096;

/// Writes the values of `source` to `target` as another type; both are as many. False if one is out of its range.
///
/// # Panics
/// If one of the types is not a floating-point type and the other is another.
pub(super) fn convert(source: &[u8], from: Dtype, target: &mut [u8], to: Dtype) -> bool {
    if from == to {
        target.copy_from_slice(source);
        return true;
    }
    match (from, to) {
        (Dtype::F32, Dtype::Bf16) => {
            bf16s(target).convert_from_f32_slice(bytemuck::cast_slice(source));
            true
        }
        (Dtype::F32, Dtype::F16) => to_f16(bytemuck::cast_slice(source), f16s(target)),
        (Dtype::Bf16, Dtype::F16) => {
            let source = bytemuck::cast_slice::<u8, u16>(source).reinterpret_cast::<bf16>();
            through_f32(source, f16s(target), HalfFloatSliceExt::convert_to_f32_slice, to_f16)
        }
        (Dtype::F16, Dtype::Bf16) => {
            let source = bytemuck::cast_slice::<u8, u16>(source).reinterpret_cast::<f16>();
            through_f32(
                source,
                bf16s(target),
                HalfFloatSliceExt::convert_to_f32_slice,
                |between, target| {
                    target.convert_from_f32_slice(between);
                    true
                },
            )
        }
        _ => panic!("{from} does not become {to}"),
    }
}

fn bf16s(bytes: &mut [u8]) -> &mut [bf16] {
    bytemuck::cast_slice_mut::<u8, u16>(bytes).reinterpret_cast_mut()
}

fn f16s(bytes: &mut [u8]) -> &mut [f16] {
    bytemuck::cast_slice_mut::<u8, u16>(bytes).reinterpret_cast_mut()
}

/// False if a finite value has become infinite.
fn to_f16(source: &[f32], target: &mut [f16]) -> bool {
    target.convert_from_f32_slice(source);
    !target.iter().zip(source).any(|(value, source)| value.is_infinite() && source.is_finite())
}

fn through_f32<A, B>(
    source: &[A],
    target: &mut [B],
    widen: impl Fn(&[A], &mut [f32]),
    narrow: impl Fn(&[f32], &mut [B]) -> bool,
) -> bool {
    let mut between = [0.0; AT_ONCE];
    source.chunks(AT_ONCE).zip(target.chunks_mut(AT_ONCE)).all(|(source, target)| {
        let between = &mut between[..source.len()];
        widen(source, between);
        narrow(between, target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of a type, in memory that is aligned for any.
    fn stored(values: &[f32], dtype: Dtype) -> Vec<u64> {
        let mut words = vec![0_u64; values.len()];
        let bytes = bytemuck::cast_slice_mut::<u64, u8>(&mut words);
        for (at, value) in values.iter().enumerate() {
            match dtype {
                Dtype::F32 => bytes[at * 4..][..4].copy_from_slice(&value.to_le_bytes()),
                Dtype::Bf16 => {
                    bytes[at * 2..][..2].copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
                }
                _ => bytes[at * 2..][..2].copy_from_slice(&f16::from_f32(*value).to_le_bytes()),
            }
        }
        words
    }

    #[test]
    fn every_value_is_rounded_once() {
        let floats = [Dtype::F32, Dtype::Bf16, Dtype::F16];
        // More than are converted at once; all are exact in both types of two bytes, so that one rounding is seen.
        let many: Vec<f32> = (0..9001_u16).map(|at| (f32::from(at % 256) - 128.0) / 64.0).collect();
        let odd = [0.1, -3.999, 1.0 + 1.0 / 512.0, 65504.0, -0.0, 1e-5, f32::INFINITY];
        for to in [Dtype::Bf16, Dtype::F16] {
            for from in floats {
                for values in [&many[..], &odd[..]] {
                    // As the source holds them.
                    let held = stored(values, from);
                    let held_bytes =
                        &bytemuck::cast_slice::<u64, u8>(&held)[..values.len() * from.size()];
                    let exact: Vec<f32> = match from {
                        Dtype::F32 => values.to_vec(),
                        Dtype::Bf16 => {
                            values.iter().map(|value| bf16::from_f32(*value).to_f32()).collect()
                        }
                        _ => values.iter().map(|value| f16::from_f32(*value).to_f32()).collect(),
                    };
                    let expected = stored(&exact, to);
                    let mut words = vec![0_u64; values.len()];
                    let target = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut words)
                        [..values.len() * to.size()];
                    let fits = convert(held_bytes, from, target, to);
                    let expected =
                        &bytemuck::cast_slice::<u64, u8>(&expected)[..values.len() * to.size()];
                    assert_eq!(target, expected, "{from} {to}");
                    // bf16 rounds 65504 to 65536.
                    let beyond =
                        (from, to) == (Dtype::Bf16, Dtype::F16) && values.len() == odd.len();
                    assert_eq!(fits, !beyond, "{from} {to}");
                }
            }
        }
    }

    #[test]
    fn integers_stay_as_they_are() {
        let mut target = [0; 3];
        assert!(convert(&[1, 2, 255], Dtype::I8, &mut target, Dtype::I8));
        assert_eq!(target, [1, 2, 255]);
    }
}
