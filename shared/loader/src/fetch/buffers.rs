//! Memory in which chunks are put together: one buffer for each request on its way, used again and again.
//!
//! What a socket gives comes in pieces of any size. A chunk is hashed and written whole: one call for a huge page of the
//! page cache (see `format`). The buffers are mappings of their own, so that their memory goes back to the system when
//! the download ends; the allocator would keep it.

use std::sync::{Mutex, PoisonError};

use memmap2::{MmapMut, MmapOptions};

use crate::source::{Fault, FaultKind};

/// Buffers that no request uses at the moment.
#[derive(Debug)]
pub(crate) struct Buffers {
    len: usize,
    idle: Mutex<Vec<MmapMut>>,
}

/// A buffer in use; goes back when dropped.
#[derive(Debug)]
pub(super) struct Buffer<'a> {
    memory: Option<MmapMut>,
    home: &'a Buffers,
}

impl Buffers {
    /// Buffers of `len` bytes each.
    pub(crate) fn new(len: usize) -> Self {
        Self { len, idle: Mutex::default() }
    }

    pub(super) fn take(&self) -> Result<Buffer<'_>, Fault> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = match idle {
            Some(memory) => memory,
            None => MmapOptions::new().len(self.len).map_anon().map_err(|error| {
                Fault::new(FaultKind::Local, format!("cannot get memory for a chunk: {error}"))
            })?,
        };
        Ok(Buffer { memory: Some(memory), home: self })
    }
}

impl Buffer<'_> {
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        self.memory.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let memory = self.memory.take();
        self.home.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(memory);
    }
}
