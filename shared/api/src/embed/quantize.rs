//! Floats as smaller numbers.
//!
//! The meanings are those of `sentence-transformers`' `quantize_embeddings`, Cohere and Voyage,
//! with one difference. That function spreads each dimension over the 256 values between the least
//! and the greatest number it has among the texts at hand (`((x - min) / (max - min) * 255` and,
//! for int8, minus 128), so the same text gets other bytes in other company. Here the range is
//! always [-1, 1], which holds every number of a vector of length 1:
//!
//! - uint8: `round((x + 1) * 127.5)`, which is that formula over [-1, 1], rounded to the nearest.
//! - int8: `round(x * 127)`. Zero stays zero and every value has its negative, so that products of
//!   bytes are in proportion to products of floats; the formula above would put zero at -0.5.
//! - ubinary: a bit for each number, 1 where it is greater than 0, the first in the highest bit of
//!   a byte (`numpy.packbits(x > 0)`); a last byte that is not full ends in zero bits.
//! - binary: the same bytes minus 128, signed.

use super::Dtype;

impl Dtype {
    /// The bytes of a vector in this number type; floats little-endian.
    pub fn to_bytes(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::Float => {
                let mut bytes = vec![0; size_of_val(values)];
                for (four, value) in bytes.chunks_exact_mut(4).zip(values) {
                    four.copy_from_slice(&value.to_le_bytes());
                }
                bytes
            }
            Self::Int8 => values.iter().map(|&value| int8(value).cast_unsigned()).collect(),
            Self::Uint8 => values.iter().map(|&value| uint8(value)).collect(),
            Self::Binary => binary(values).map(i8::cast_unsigned).collect(),
            Self::Ubinary => ubinary(values).collect(),
        }
    }
}

pub(super) fn int8(value: f32) -> i8 {
    #[allow(clippy::cast_possible_truncation, reason = "whole and within range")]
    let whole = (value * 127.0).round().clamp(-127.0, 127.0) as i8;
    whole
}

pub(super) fn uint8(value: f32) -> u8 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and within range"
    )]
    let whole = ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8;
    whole
}

pub(super) fn ubinary(values: &[f32]) -> impl Iterator<Item = u8> {
    values.chunks(8).map(|chunk| {
        let bits = chunk.iter().fold(0, |bits, &value| bits << 1 | u8::from(value > 0.0));
        bits << (8 - chunk.len())
    })
}

pub(super) fn binary(values: &[f32]) -> impl Iterator<Item = i8> {
    // Minus 128 modulo 256 flips the highest bit.
    ubinary(values).map(|byte| (byte ^ 0x80).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        let values = [-2.0, -1.0, -0.5, 0.0, 0.004, 0.5, 1.0, 2.0];
        assert_eq!(values.map(int8), [-127, -127, -64, 0, 1, 64, 127, 127]);
        assert_eq!(values.map(uint8), [0, 0, 64, 128, 128, 191, 255, 255]);
    }

    #[test]
    fn bits() {
        // numpy.packbits([1, 0, 0, 0, 0, 0, 0, 1, 1]) is [129, 128].
        let values = [0.1, -0.1, 0.0, -0.0, -1.0, -1.0, -1.0, 1.0, 1.0];
        assert_eq!(ubinary(&values).collect::<Vec<_>>(), [129, 128]);
        assert_eq!(binary(&values).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(binary(&[-1.0; 8]).collect::<Vec<_>>(), [-128]);
        assert_eq!(Dtype::Binary.to_bytes(&[-1.0; 8]), [128]);
    }
}
