//! Turns a fault in a mapped file into zeros and a flag.
//!
//! When a file is shortened while it is mapped, the kernel answers a read beyond its new end with SIGBUS, which ends
//! the process: a server would die in the middle of other people's requests, without a word. With the guard, the
//! handler looks the address up in a table of our mappings; if it is one of them, it puts zeroed memory over the rest
//! of that mapping and marks it lost. The read goes on and sees zeros; code that computes with them must ask
//! [`Guarded::lost`] before giving an answer away. A disk that fails to read is treated the same way.
//!
//! An address that is not ours goes to the handler that was there before us, or to the default action.
//!
//! The handler may run in any thread at any moment, so it uses only atomics and system calls. The table has a fixed
//! size: a mapping that finds no free slot is unguarded, which is how every other loader runs.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Mappings guarded at once: a process has one or a few snapshots, and a checkpoint of a large model some 100 shards.
const SLOTS: usize = 256;

/// One guarded mapping. `start` is zero while the slot is free or being filled.
struct Slot {
    start: AtomicUsize,
    len: AtomicUsize,
    taken: AtomicBool,
    lost: AtomicBool,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        taken: AtomicBool::new(false),
        lost: AtomicBool::new(false),
    }
}; SLOTS];

/// What handled SIGBUS before us.
static PREVIOUS: OnceLock<Option<libc::sigaction>> = OnceLock::new();

/// Noted when the handler is installed, because asking for it may allocate.
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(4096);

/// A mapping in the table, until dropped.
#[derive(Debug)]
pub(super) struct Guarded {
    slot: Option<usize>,
}

impl Guarded {
    /// Guards a mapping. `None` only if its length is zero.
    pub(super) fn new(start: usize, len: usize) -> Option<Self> {
        if len == 0 {
            return None;
        }
        let installed = PREVIOUS.get_or_init(|| install().ok()).is_some();
        let slot = installed.then(|| {
            TABLE.iter().position(|slot| {
                slot.taken
                    .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            })
        });
        let slot = slot.flatten();
        if let Some(slot) = slot.map(|slot| &TABLE[slot]) {
            slot.lost.store(false, Ordering::Relaxed);
            slot.len.store(super::whole_pages(len), Ordering::Relaxed);
            slot.start.store(start, Ordering::Release);
        }
        Some(Self { slot })
    }

    /// Whether the handler had to step in.
    pub(super) fn lost(&self) -> bool {
        self.slot.is_some_and(|slot| TABLE[slot].lost.load(Ordering::Acquire))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.map(|slot| &TABLE[slot]) {
            slot.start.store(0, Ordering::Release);
            slot.taken.store(false, Ordering::Release);
        }
    }
}

fn install() -> io::Result<libc::sigaction> {
    PAGE_SIZE.store(rustix::param::page_size(), Ordering::Relaxed);
    // SAFETY: `sigaction` is plain data for which zeros are valid, filled in before use; both pointers are valid for
    // the call, and the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        let mut previous: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, &raw const action, &raw mut previous) == 0 {
            Ok(previous)
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo to a handler installed with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    for slot in &TABLE {
        let start = slot.start.load(Ordering::Acquire);
        let len = slot.len.load(Ordering::Relaxed);
        if start != 0 && (start..start + len).contains(&address) && zero_from(address, start + len)
        {
            slot.lost.store(true, Ordering::Release);
            return;
        }
    }
    pass_on(signal, info, context);
}

/// Puts zeroed memory over everything from the page of `address` up to `end`.
fn zero_from(address: usize, end: usize) -> bool {
    let page = address & !(PAGE_SIZE.load(Ordering::Relaxed) - 1);
    // SAFETY: the range lies inside one of our own mappings (the caller looked it up), which no thread unmaps while its
    // slot is filled; MAP_FIXED replaces exactly that range. mmap is a system call without locks or allocation.
    let mapped = unsafe {
        libc::mmap(
            page as *mut libc::c_void,
            end - page,
            // Boards are written too; of files that are only read no code has a way to write.
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    mapped != libc::MAP_FAILED
}

/// A fault that is not ours.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get().and_then(Option::as_ref);
    let handler = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // SAFETY: restoring the default action; the faulting instruction runs again and ends the process, as it would
        // have without us. (The kernel does not let a real fault be ignored either.)
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
        return;
    }
    let with_info = previous.is_some_and(|previous| previous.sa_flags & libc::SA_SIGINFO != 0);
    // SAFETY: the address is that of the handler installed before ours, with the signature its flags tell.
    unsafe {
        if with_info {
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute(handler);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
            handler(signal);
        }
    }
}
