//! The instruction-set tags of snapshots and which of them this build runs.
//!
//! `portable` is row-major and runs everywhere after packing at load. The native tag is the panel
//! layout of the engine for this architecture: one tag for all x86-64 processors,
//! because AVX-512, AVX2 and plain kernels read the same panels.

/// Version of the layouts that weights lie in. A snapshot packed under another one is refused.
pub const LAYOUT_ABI: u32 = 1;

/// Row-major weights, for exchange between machines of any kind.
pub const PORTABLE: &str = "portable";

/// The panel layout of this build's architecture.
pub const NATIVE: &str = if cfg!(target_arch = "x86_64") {
    "x86-64"
} else if cfg!(target_arch = "aarch64") {
    "aarch64"
} else {
    "generic"
};

/// The tags that `Snapshot::open` should accept here.
pub const ACCEPTED: [&str; 2] = [NATIVE, PORTABLE];
