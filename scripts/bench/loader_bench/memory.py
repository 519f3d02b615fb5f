"""Guest memory that the host has backed, and memory that it has not.

The first touch of a page that the host has not backed makes the host find memory for it, at a twentieth of the usual
speed. That is so for pages never used since boot and, where the balloon driver reports free pages
(/sys/module/page_reporting), again for every page that has been free for two seconds. A benchmark that ignores it
measures the host. So the memory a run will need is held here, touched, until the contestant has done its imports; it is
given back at that moment, and the contestant's clock starts (see `runs.run`). State `fresh` leaves this out.
"""

import mmap
import time
from pathlib import Path

MIB = 2**20
MADV_POPULATE_WRITE = 23
KEPT_FREE_MIB = 1536
STEP_MIB = 128
REPORTING = Path("/sys/module/page_reporting")
SETTLE_SECONDS = 8
# Memory that is backed comes, in huge pages, at 8 to 24 GB/s, other memory at 0.3 to 1.5.
BACKED_GB_S = 3


class NoneLeft(Exception):
    """All free memory is backed."""


class Reserve:
    """Backed memory, held for the next run."""

    def __init__(self, mib: int):
        self.mib = mib
        self.held = None

    def take(self):
        """Holds the memory; at once after a run, its pages are still backed and this is quick."""
        self.release()
        self.held = hold(max(1, min(self.mib, free_mib())))

    def release(self):
        """Gives the memory back to the process that allocates next."""
        if self.held:
            self.held.close()
        self.held = None


class Backed:
    """Holds all free memory that is backed, so that the next process gets memory that is not."""

    def __init__(self):
        self.held = []

    def settle(self):
        """Gives it back, and time to the balloon driver to report it where it does that."""
        self.release()
        if REPORTING.exists():
            time.sleep(SETTLE_SECONDS)

    def hold_all(self, needed_mib: int):
        """Takes memory until it comes slowly; raises NoneLeft if that leaves less than `needed_mib`."""
        while free_mib() >= needed_mib + STEP_MIB:
            begun_s = time.perf_counter()
            self.held.append(hold(STEP_MIB))
            if STEP_MIB * MIB / (time.perf_counter() - begun_s) / 1e9 < BACKED_GB_S:
                return
        raise NoneLeft(
            f"expected {needed_mib} MiB that the host has not backed, found none: stop what uses memory,"
            " or boot the virtual machine again"
        )

    def release(self):
        """Gives all of it back."""
        for part in self.held:
            part.close()
        self.held = []


def hold(mib: int) -> mmap.mmap:
    """Memory of `mib` MiB, in huge pages where the kernel has some, touched, in use until closed."""
    memory = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory.madvise(MADV_POPULATE_WRITE)
    except OSError:  # no huge pages, or Linux before 5.14
        memory.close()
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        return mmap.mmap(-1, mib * MIB, flags=flags)
    return memory


def free_mib() -> int:
    """Memory that nothing uses, not even the page cache, less a reserve."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return max(0, int(fields["MemFree"].split()[0]) // 1024 - KEPT_FREE_MIB)
