//! The angles of rotary positions, as a table on the device.

use std::sync::Arc;

use defrost_model::ModelConfig;

use crate::Address;
use crate::device::{Device, Error, Memory, Stream};

/// Cosines and sines of places, on the device for as many as a sequence has needed so far.
#[derive(Debug, Default)]
pub(crate) struct Angles {
    places: usize,
    memory: Option<Memory>,
}

/// Places that there are angles for from the beginning on: most requests have no more.
const FIRST_PLACES: usize = 512;

impl Angles {
    /// A table of the places below `len` at least, rows of `[cos | sin]`; computed in f32 as `transformers` does, by the
    /// functions that the engine uses.
    pub(crate) fn until(
        &mut self,
        len: usize,
        config: &ModelConfig,
        device: &Arc<dyn Device>,
        stream: &dyn Stream,
    ) -> Result<Address, Error> {
        if let Some(memory) = self.memory.as_ref().filter(|_| self.places >= len) {
            return Ok(memory.address());
        }
        let places = len.next_power_of_two().max(FIRST_PLACES).min(config.max_positions.max(len));
        let width = config.head_dim;
        let frequencies: Vec<f32> = (0..width / 2)
            .map(|pair| 1.0 / libm::powf(config.rope_theta, (2 * pair) as f32 / width as f32))
            .collect();
        let mut table = Vec::with_capacity(places * width);
        for place in 0..places {
            let angles = || frequencies.iter().map(|frequency| place as f32 * frequency);
            table.extend(angles().map(libm::cosf));
            table.extend(angles().map(libm::sinf));
        }
        let memory = Memory::new(device, 4 * table.len())?;
        stream.write(bytemuck::cast_slice(&table), memory.address())?;
        self.places = places;
        Ok(self.memory.insert(memory).address())
    }
}
