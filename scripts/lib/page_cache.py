"""The states a file is read in, made and checked.

cold:    nothing of it is in the guest's page cache (the host may still hold it).
warm:    all of it is, read in by a plain sequential reader.
written: all of it, as a copy in writes of 256 KiB left it, as tools that copy or download do. The kernel keeps a
         file in pieces no larger than the writes that made it, and maps 2 MiB at once only where a piece is a whole,
         aligned 2 MiB: 1 GiB from aligned writes of 2 MiB maps in 3 ms of processor time, from the same writes 24 KiB
         further on in 55, from writes of 64 KiB in 60 to 90 (Linux 6.18, ext4). Readahead makes large pieces.
"""

import ctypes
import mmap
import os
from pathlib import Path

STATES = ("warm", "cold", "written", "fresh")
STEP_BYTES = 8 * 2**20
TRIES = 3
WRITE_BYTES = 256 * 2**10
PAGE_BYTES = mmap.PAGESIZE
CACHESTAT = 451  # the number of the system call on every architecture; Linux 6.5
LIBC = ctypes.CDLL(None, use_errno=True)


class WrongState(Exception):
    """The page cache is not as it was asked to be."""


class Cache:
    """Puts files into a state, and remembers which of them a plain reader has read in."""

    def __init__(self):
        self.left_by = {}
        # Maps a path to the copy of the file that is known to have a stamp of our loader.
        self.stamped = {}

    def put(self, path: Path, state: str):
        """Makes `state` true of the file, or raises WrongState."""
        if state == "cold":
            evict(path)
            self.left_by.pop(path, None)
        elif state == "written":
            rewrite(path)
            self.left_by[path] = "writer"
        else:
            self.warm(path)
        share = resident(path)
        if share != (0 if state == "cold" else 1):
            raise WrongState(f"{path}: expected it {state} in the page cache, found {share:.1%} of it there")


    def warm(self, path: Path):
        """Has a plain reader read the file in; under memory pressure more than once."""
        for _ in range(TRIES):
            if self.left_by.get(path) == "reader" and resident(path) == 1:
                return
            evict(path)
            read(path)
            self.left_by[path] = "reader"


def read(path: Path):
    """Reads the file from start to end through one small buffer."""
    buffer = bytearray(STEP_BYTES)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def evict(path: Path):
    """Drops the file's pages; dirty ones are written first, since they cannot be dropped."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rewrite(path: Path):
    """Replaces the file by a copy, with the same times, that is durable and in the page cache as it was written."""
    copy, stat = path.with_name(path.name + ".copy"), path.stat()
    with open(path, "rb", buffering=0) as source, open(copy, "wb", buffering=0) as target:
        while data := source.read(WRITE_BYTES):
            target.write(data)
        os.fsync(target.fileno())
    os.utime(copy, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    copy.rename(path)


def resident(path: Path) -> float:
    """The share of the file's pages that are in the page cache, 0 to 1."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        pages = -(-size // PAGE_BYTES)
        if not pages:
            return 1.0
        # struct cachestat_range {off, len}; struct cachestat {cached, dirty, writeback, evicted, recently evicted}.
        span, found = (ctypes.c_uint64 * 2)(0, size), (ctypes.c_uint64 * 5)()
        if LIBC.syscall(CACHESTAT, file.fileno(), span, found, 0) == 0:
            return found[0] / pages
        return mincore(file.fileno(), size, pages)


def mincore(descriptor: int, size: int, pages: int) -> float:
    """What `resident` says, on kernels without cachestat."""
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    address = LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    vector = (ctypes.c_ubyte * pages)()
    failed = LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), vector)
    LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(byte & 1 for byte in vector) / pages
