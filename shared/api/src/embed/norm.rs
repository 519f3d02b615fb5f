//! llama.cpp's `embd_normalize`: vectors scaled by another norm than the Euclidean.

use super::{EmbedBody, EmbedShape};
use crate::checks;
use crate::error::Invalid;
use crate::lenient::{Count, Flag};

/// The number that the largest of a vector becomes under [`Norm::Largest`], as in llama.cpp: what
/// 16 bits hold.
const LARGEST: f64 = 32760.0;

/// By what vectors are divided where it is not their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// Vectors are divided so that the largest number is 32,760.
    Largest,
    /// Vectors are divided so that the `p`-th root of the sum of all `p`-th powers is 1.
    Power(u32),
}

impl Norm {
    /// Scales a vector; one of zeros stays what it is.
    pub fn apply(self, vector: &mut [f32]) {
        let numbers = || vector.iter().map(|&value| f64::from(value).abs());
        let norm = match self {
            Self::Largest => numbers().fold(0.0, f64::max) / LARGEST,
            Self::Power(p) => {
                let p = f64::from(p);
                numbers().map(|value| value.powf(p)).sum::<f64>().powf(p.recip())
            }
        };
        if norm > 0.0 {
            for value in vector {
                #[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
                let scaled = (f64::from(*value) / norm) as f32;
                *value = scaled;
            }
        }
    }
}

impl EmbedBody {
    /// Whether vectors are to have length 1, or by what they are scaled instead.
    ///
    /// Where the request does not say, TEI, llama.cpp and the BAAI and MLX services scale them
    /// whatever the model, and TEI's `/embed_all` never does. In the other shapes the model's own
    /// files decide, as in vLLM.
    pub(super) fn scale(&self, shape: EmbedShape) -> Result<(Option<bool>, Option<Norm>), Invalid> {
        let (own, norm) = match self.embd_normalize {
            None => (None, None),
            Some(Count(-1)) => (Some(Flag(false)), None),
            Some(Count(2)) => (Some(Flag(true)), None),
            Some(Count(0)) => (Some(Flag(false)), Some(Norm::Largest)),
            Some(Count(p)) => {
                let power = u32::try_from(p).map_err(|_| {
                    let message = format!("embd_normalize: expected -1 (none), 0 (largest), 1, 2 or a power, found {p}");
                    Invalid::new("embd_normalize", message)
                })?;
                (Some(Flag(false)), Some(Norm::Power(power)))
            }
        };
        let asked = checks::agreed([
            ("normalize", self.normalize),
            ("normalized", self.normalized),
            ("use_activation", self.use_activation),
            ("embd_normalize", own),
        ])?;
        let by_default = match shape {
            EmbedShape::TeiAll => Some(false),
            EmbedShape::Tei
            | EmbedShape::TeiSparse
            | EmbedShape::TeiSimilarity
            | EmbedShape::Llama
            | EmbedShape::Baai
            | EmbedShape::Mlx
            | EmbedShape::MlxBatch => Some(true),
            EmbedShape::OpenAi
            | EmbedShape::Pooling
            | EmbedShape::CohereV1Floats
            | EmbedShape::CohereV1ByType
            | EmbedShape::CohereV2 => None,
        };
        Ok((asked.map(|Flag(normalize)| normalize).or(by_default), norm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_are_those_of_llama_cpp() {
        for (norm, expected) in [
            (Norm::Largest, [24570.0, -32760.0, 0.0]),
            (Norm::Power(1), [3.0 / 7.0, -4.0 / 7.0, 0.0]),
            (Norm::Power(2), [0.6, -0.8, 0.0]),
            (Norm::Power(3), [3.0 / 91f32.cbrt(), -4.0 / 91f32.cbrt(), 0.0]),
        ] {
            let mut vector = [3.0, -4.0, 0.0];
            norm.apply(&mut vector);
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() * 1e-6;
            assert!(vector.iter().zip(&expected).all(near), "{norm:?}: {vector:?}");
            let mut zeros = [0f32; 2];
            norm.apply(&mut zeros);
            assert!(zeros.iter().all(|zero| zero.abs() < f32::EPSILON), "{norm:?}: {zeros:?}");
        }
    }
}
