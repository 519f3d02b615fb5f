//! How glibc's allocator is to be used by a server that is given little memory.
//!
//! By itself it gives every thread a region of 64 MiB of addresses, which in a process with a bounded address space (`ulimit -v`)
//! is most of what there is: ten threads take 640 MiB before the first request. And it learns from large buffers that were
//! freed to keep the next ones, so that a process stays as large as its largest request was. Two regions are enough for
//! threads that allocate a few times a request, and buffers of a megabyte are worth a call of the kernel each way.

/// Regions that threads share: one for those that read and write requests, one more for when two of them meet.
const REGIONS: i32 = 2;

/// Buffers from this size on are given back when they are freed: a body, an answer, the tokens of a large request.
const LARGE_BYTES: i32 = 1 << 20;

/// Sets the allocator up. To be called once, before threads are started; does nothing with other C libraries.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "two settings of the C library that have no safe form")]
pub fn share_memory_among_threads() {
    // SAFETY: `mallopt` takes two numbers and changes settings of the allocator, under its own lock. Memory that is
    // allocated already stays as it is. A setting that it does not know is refused by its result, which changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, REGIONS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
    }
}

/// Sets the allocator up, where it is glibc's.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn share_memory_among_threads() {}
