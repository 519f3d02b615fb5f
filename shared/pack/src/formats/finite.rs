//! Finds what is no finite number among a tensor's elements, without converting or copying them.

use half::{bf16, f16};

use super::{CheckpointDtype, CheckpointTensor};

/// The first element of a float tensor that is infinite or no number, and that element; `None` if all are finite, or of a
/// type that has no others.
pub fn first_not_finite(tensor: &CheckpointTensor) -> Option<(usize, f64)> {
    let bytes = &tensor.bytes[..];
    match tensor.dtype {
        CheckpointDtype::F64 => first(bytes, f64::from_le_bytes),
        CheckpointDtype::F32 => first(bytes, |b| f64::from(f32::from_le_bytes(b))),
        CheckpointDtype::BF16 => first(bytes, |b| bf16::from_le_bytes(b).to_f64()),
        CheckpointDtype::F16 => first(bytes, |b| f16::from_le_bytes(b).to_f64()),
        _ => None,
    }
}

fn first<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Option<(usize, f64)> {
    let (whole, _) = bytes.as_chunks::<N>();
    let mut values = whole.iter().map(|&element| read(element)).enumerate();
    values.find(|(_, value)| !value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_no_number_is_found_in_every_type() {
        use CheckpointDtype::{BF16, F16, F32, F64};
        let floats = |values: &[f64], dtype| {
            let each = values.iter().flat_map(|&value| match dtype {
                CheckpointDtype::F64 => value.to_le_bytes().to_vec(),
                #[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
                CheckpointDtype::F32 => (value as f32).to_le_bytes().to_vec(),
                CheckpointDtype::BF16 => bf16::from_f64(value).to_le_bytes().to_vec(),
                _ => f16::from_f64(value).to_le_bytes().to_vec(),
            });
            let bytes: Vec<u8> = each.collect();
            CheckpointTensor { dtype, shape: vec![values.len()], bytes: bytes.into(), blocks: None }
        };
        for dtype in [F16, BF16, F32, F64] {
            assert_eq!(first_not_finite(&floats(&[0.0, -1.5, 60_000.0], dtype)), None);
            assert_eq!(first_not_finite(&floats(&[], dtype)), None);
            let found = first_not_finite(&floats(&[0.0, f64::NEG_INFINITY, f64::NAN], dtype));
            assert_eq!(found, Some((1, f64::NEG_INFINITY)));
            let (at, value) = first_not_finite(&floats(&[0.0, 1.0, f64::NAN], dtype)).unwrap();
            assert!(at == 2 && value.is_nan());
        }
        let ids = CheckpointTensor {
            dtype: CheckpointDtype::I64,
            shape: vec![1],
            bytes: vec![0xff; 8].into(),
            blocks: None,
        };
        assert_eq!(first_not_finite(&ids), None);
    }
}
