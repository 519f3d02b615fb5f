//! Memory for activations: zeroed, on cache lines, kept between passes, and on huge pages where it is large.
//!
//! Growing copies nothing, since what was there is not needed any more. Huge pages make 512 page faults one; products gain
//! little by them.

use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::MmapMut;

/// Below this, huge pages would waste more than they save.
const HUGE: usize = 1 << 20;

/// Memory for as many values as were ever asked for.
#[derive(Debug)]
pub(crate) struct Buffer<T> {
    memory: Option<MmapMut>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self { memory: None, len: 0, element: std::marker::PhantomData }
    }
}

impl<T: Pod> Buffer<T> {
    /// The first `len` values; what was there before is kept only where it was large enough already.
    ///
    /// # Panics
    /// If the system has no memory left, as every allocation does.
    pub(crate) fn slot(&mut self, len: usize) -> &mut [T] {
        self.resize(len);
        &mut self[..]
    }

    /// Makes room as [`Buffer::slot`] does, for later use.
    pub(crate) fn resize(&mut self, len: usize) {
        let made = self.try_resize(len);
        made.unwrap_or_else(|err| panic!("no memory for {len} values: {err}"));
    }

    /// Makes room as [`Buffer::resize`] does, if the system has as much.
    pub(crate) fn try_resize(&mut self, len: usize) -> std::io::Result<()> {
        let bytes = len * size_of::<T>();
        if self.memory.as_ref().is_none_or(|memory| memory.len() < bytes) {
            // The old memory goes first: it is not needed beside the new.
            (self.memory, self.len) = (None, 0);
            let memory = MmapMut::map_anon(bytes.max(1))?;
            #[cfg(target_os = "linux")]
            if bytes >= HUGE {
                // Without huge pages everything works, slower.
                let _ = memory.advise(memmap2::Advice::HugePage);
            }
            self.memory = Some(memory);
        }
        self.len = len;
        Ok(())
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // Nothing has no alignment.
        self.memory
            .as_deref()
            .map_or(&[], |bytes| bytemuck::cast_slice(&bytes[..self.len * size_of::<T>()]))
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.memory.as_deref_mut().map_or(&mut [], |bytes| {
            bytemuck::cast_slice_mut(&mut bytes[..self.len * size_of::<T>()])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_grow_and_keep_what_fits() {
        let mut buffer = Buffer::<f32>::default();
        assert!(buffer.is_empty());
        assert_eq!(buffer.slot(0), &mut [0.0f32; 0]);
        buffer.slot(5)[4] = 7.0;
        assert_eq!(buffer.slot(2).len(), 2);
        assert_eq!(buffer.slot(5)[4].to_bits(), 7f32.to_bits());
        let large = buffer.slot(3 << 20);
        assert!(large.iter().all(|value| value.to_bits() == 0));
        large[(3 << 20) - 1] = 1.0;
        assert_eq!(buffer.len(), 3 << 20);
        buffer.try_resize(usize::MAX >> 4).unwrap_err();
        assert!(buffer.is_empty());
    }
}
