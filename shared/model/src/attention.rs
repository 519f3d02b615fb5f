//! How the attention of a model departs from what its family's layers do otherwise, as plain values.

use crate::Error;

/// See the module page. The default departs in nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Attention {
    /// The factor of scores; `None`: `1 / sqrt(head_dim)`.
    pub scale: Option<f32>,
    /// How the angles of positions are stretched.
    pub rope: RopeScaling,
    /// The layers that see a window only.
    pub local: Option<LocalLayers>,
}

/// How the frequencies of rotary positions are changed, `f` being `theta^(-2i/d)`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// `f / factor`.
    Linear {
        /// Divides every frequency.
        factor: f32,
    },
    /// By wavelength `w = 2 pi / f`: `f` where `w < original / high`, `f / factor` where `w > original / low`, and between
    /// them `(1 - s) f / factor + s f` with `s = (original / w - low) / (high - low)` (Llama 3.1).
    Llama3 {
        /// Divides low frequencies.
        factor: f32,
        /// Bounds of the blend, in wavelengths of the original context.
        low: f32,
        /// See `low`.
        high: f32,
        /// Positions that the model was first trained with.
        original: f32,
    },
}

/// Layers that see only so many tokens, their own among them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalLayers {
    /// The tokens that a local layer sees: its own and those before it.
    pub window: usize,
    /// Every so many-th layer sees all, the others are local: layer `l`, from 0 on, is global if `l + 1` is a multiple.
    pub every: usize,
    /// Base of the rotary frequencies of local layers, which are not scaled.
    pub theta: f32,
}

impl LocalLayers {
    /// Whether this layer sees a window only.
    pub fn is_local(self, layer: usize) -> bool {
        !(layer + 1).is_multiple_of(self.every)
    }
}

impl Attention {
    /// It departs in nothing.
    pub const PLAIN: Self = Self { scale: None, rope: RopeScaling::None, local: None };

    /// The window of a layer, if it sees no more.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.local.filter(|local| local.is_local(layer)).map(|local| local.window)
    }

    /// Refuses numbers that make no sense.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let positive = |name: &str, value: f32| {
            if value.is_finite() && value > 0.0 {
                return Ok(());
            }
            Err(Error::Config(format!("{name} is {value}, expected a finite number above 0")))
        };
        if let Some(scale) = self.scale {
            positive("the scale of attention", scale)?;
        }
        match self.rope {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => positive("rope_scaling factor", factor)?,
            RopeScaling::Llama3 { factor, low, high, original } => {
                positive("rope_scaling factor", factor)?;
                positive("rope_scaling low_freq_factor", low)?;
                positive("rope_scaling high_freq_factor less low_freq_factor", high - low)?;
                positive("rope_scaling original_max_position_embeddings", original)?;
            }
        }
        let Some(LocalLayers { window, every, theta }) = self.local else { return Ok(()) };
        if window == 0 || every == 0 {
            return Err(Error::Config(format!(
                "local layers with a window of {window} and a global one every {every} layers: expected at least 1 of each"
            )));
        }
        positive("the rope_theta of local layers", theta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_of_six_layers_are_local() {
        let local = LocalLayers { window: 512, every: 6, theta: 1e4 };
        let rules = Attention { local: Some(local), ..Attention::default() };
        let windows: Vec<bool> = (0..12).map(|layer| rules.window(layer).is_some()).collect();
        assert_eq!(windows.iter().filter(|local| **local).count(), 10);
        assert!(!windows[5] && !windows[11]);
    }

    #[test]
    fn numbers_that_make_no_sense() {
        let plain = Attention::default;
        plain().validate().unwrap();
        let llama3 = |low, high| RopeScaling::Llama3 { factor: 8.0, low, high, original: 8192.0 };
        Attention { rope: llama3(1.0, 4.0), ..plain() }.validate().unwrap();
        let local = |window, every, theta| Some(LocalLayers { window, every, theta });
        for wrong in [
            Attention { scale: Some(0.0), ..plain() },
            Attention { rope: RopeScaling::Linear { factor: f32::NAN }, ..plain() },
            Attention { rope: llama3(4.0, 4.0), ..plain() },
            Attention { local: local(0, 6, 1e4), ..plain() },
            Attention { local: local(512, 0, 1e4), ..plain() },
            Attention { local: local(512, 6, -1.0), ..plain() },
        ] {
            wrong.validate().unwrap_err();
        }
    }
}
