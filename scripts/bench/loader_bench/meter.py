"""What one restore cost, as one JSON line: the Python side of shared/loader/examples/bytes_ready/measure.rs.

The clock starts after all imports and, where BENCH_GATE is set, after a word from the benchmark (see runs.py). Ready:
every tensor has been handed out. Touched: one byte of every page of every tensor has been read; what a lazy loader left
for later is paid here. Processor time is that of all threads of the process and of children it has waited for. The
checksum (XXH3-64 of the tensors in the order of their names) comes after that and is in no time. Times are
milliseconds, memory is 10^6 bytes.
"""

import json
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy
import xxhash

PAGE_BYTES = 4096
VERIFY_THREADS = 2


class Meter:
    """Collects the figures of one restore; made when the imports are done."""

    def __init__(self):
        self.waited_ns = wait_at_gate()
        self.line = {"base_rss_mb": memory_mb()["Rss"]}
        self.faults = faults()
        self.cpu_s = cpu_s()
        self.begun_s = time.perf_counter()

    def ready(self):
        """Every tensor may be used."""
        self._lap("ready_ms", "ready_cpu_ms")

    def touched(self):
        """Every page has been read: the end of what is timed."""
        self._lap("wall_ms", "cpu_ms")
        if "BENCH_EXEC_NS" in os.environ:
            since_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - int(os.environ["BENCH_EXEC_NS"])
            self.line["from_exec_ms"] = (since_ns - self.waited_ns) / 1e6
        minor, major = faults()
        self.line |= {"minflt": minor - self.faults[0], "majflt": major - self.faults[1]}
        memory = memory_mb()
        self.line |= {"rss_mb": memory["Rss"], "pss_mb": memory["Pss"], "anon_mb": memory["Anonymous"]}
        self.line["peak_rss_mb"] = peak_rss_mb()

    def finish(self, contestant, tensors):
        """Prints the line, with the checksum of `tensors`: (name, uint8 array) pairs in any order."""
        begun_s, digest, total = time.perf_counter(), xxhash.xxh3_64(), 0
        for _, data in sorted(tensors, key=lambda pair: pair[0]):
            digest.update(data)
            total += data.nbytes
        self.line |= {"contestant": contestant, "bytes": total, "checksum": digest.hexdigest()}
        self.line["checksum_ms"] = (time.perf_counter() - begun_s) * 1e3
        print(json.dumps(self.line), flush=True)

    def _lap(self, wall, cpu):
        self.line |= {wall: (time.perf_counter() - self.begun_s) * 1e3, cpu: (cpu_s() - self.cpu_s) * 1e3}


def wait_at_gate():
    """Where BENCH_GATE is set: tells the benchmark that the imports are done, and waits for its word; returns ns."""
    if "BENCH_GATE" not in os.environ:
        return 0
    begun_ns = time.perf_counter_ns()
    print("waiting", flush=True)
    sys.stdin.readline()
    return time.perf_counter_ns() - begun_ns


def touch(data):
    """Reads one byte of every page of a flat uint8 array."""
    if data.size:
        int(data[::PAGE_BYTES].max()) + int(data[-1])


def verify(tensors, expected):
    """Hashes every tensor and compares with `expected` (name: hexadecimal XXH3-64); on as many threads as ours."""

    def check(pair):
        name, data = pair
        found = xxhash.xxh3_64(data).hexdigest()
        if found != expected[name]:
            raise ValueError(f"tensor {name}: expected xxh3 {expected[name]}, found {found}")

    with ThreadPoolExecutor(VERIFY_THREADS) as pool:
        list(pool.map(check, sorted(tensors, key=lambda pair: -pair[1].nbytes)))


def flat(tensor):
    """The bytes of a torch tensor or numpy array as a flat uint8 array, without copying."""
    if isinstance(tensor, numpy.ndarray):
        return tensor.reshape(-1).view(numpy.uint8)
    import torch

    return tensor.detach().reshape(-1).view(torch.uint8).numpy()


def cpu_s():
    """Processor seconds of this process and the children it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def faults():
    """Minor and major page faults of this process and the children it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_minflt for usage in usages), sum(usage.ru_majflt for usage in usages)


def peak_rss_mb():
    """The highest resident memory of this process; that of `getrusage` would include its parent's before exec."""
    with open("/proc/self/status", encoding="ascii") as file:
        kib = next(line.split()[1] for line in file if line.startswith("VmHWM"))
    return int(kib) * 1024 / 1e6


def memory_mb():
    """Rss, Pss, Anonymous and the like of this process."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        fields = [line.split() for line in file.readlines()[1:]]
    return {words[0].rstrip(":"): int(words[1]) * 1024 / 1e6 for words in fields}
