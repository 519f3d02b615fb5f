"""Guest memory that was used before, and memory that was not.

The first touch of a page that a virtual machine has never used makes the host find memory for it, at a fraction of the
usual speed. Memory is therefore touched before each run, unless that cost is what is to be seen (state `fresh`).
"""

import mmap
import time
from pathlib import Path

MIB = 2**20
KEPT_FREE_MIB = 1536
STEP_MIB = 128
# Recycled memory comes at 5 to 13 GB/s, unused memory at 0.3 to 0.5.
UNUSED_BELOW_GB_S = 1.5


class NoneLeft(Exception):
    """All memory of the machine has been used since boot."""


def pretouch(mib: int) -> float:
    """Touches `mib` MiB of memory, gives it back, and returns the speed in GB/s."""
    begun_s = time.perf_counter()
    hold(mib).close()
    return mib * MIB / (time.perf_counter() - begun_s) / 1e9


def hold(mib: int) -> mmap.mmap:
    """Memory that is in use until closed."""
    return mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)


def free_mib() -> int:
    """Memory that nothing uses, not even the page cache, less a reserve."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return max(0, int(fields["MemFree"].split()[0]) // 1024 - KEPT_FREE_MIB)


class Used:
    """Holds all free memory that was used before, so that the next process gets memory that was not.

    The kernel hands out last what was never used, so memory is taken in steps until a step is as slow as unused memory.
    """

    def __init__(self):
        self.held = []

    def hold_all(self, needed_mib: int):
        """Takes what was used before; raises NoneLeft if that leaves less than `needed_mib`."""
        while free_mib() >= needed_mib + STEP_MIB:
            begun_s = time.perf_counter()
            self.held.append(hold(STEP_MIB))
            if STEP_MIB * MIB / (time.perf_counter() - begun_s) / 1e9 < UNUSED_BELOW_GB_S:
                return
        raise NoneLeft(f"expected {needed_mib} MiB that nobody has used since boot, found none: boot the machine again")

    def release(self):
        """Gives all of it back."""
        for part in self.held:
            part.close()
        self.held = []
