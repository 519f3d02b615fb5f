//! What can go wrong in a launch, or with memory.

/// What was found, and where: one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Fault {
    kind: FaultKind,
    text: String,
}

/// The sort of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// No such kernel, parameters of another size, or a geometry that no card takes.
    Launch,
    /// Out of memory, or a release of what is not allocated.
    Memory,
    /// An access outside of every allocation, of shared memory or of a part of it.
    OutOfBounds,
    /// An access at an address that is no multiple of what it must be.
    Misaligned,
    /// Two threads touch the same bytes, at least one writes, and nothing orders them.
    Race,
    /// A read through a read-only view of what the same launch wrote.
    ReadOnly,
    /// Bytes of shared memory are touched while an asynchronous copy to them is under way.
    InFlight,
    /// Threads that should meet in one place come to several, with masks that do not fit, or shuffle from a lane that
    /// is left out.
    Lanes,
    /// Threads wait for others that have ended, or that wait elsewhere.
    Deadlock,
}

impl Fault {
    /// With the number that `device.h` gives the kind.
    pub(crate) fn new(kind: i32, text: String) -> Self {
        let kind = match kind {
            2 => FaultKind::Memory,
            3 => FaultKind::OutOfBounds,
            4 => FaultKind::Misaligned,
            5 => FaultKind::Race,
            6 => FaultKind::ReadOnly,
            7 => FaultKind::InFlight,
            8 => FaultKind::Lanes,
            9 => FaultKind::Deadlock,
            _ => FaultKind::Launch,
        };
        Self { kind, text }
    }

    /// Its sort.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }
}
