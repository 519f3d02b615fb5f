"""One run: a fresh process, its JSON line, and what else the machine did meanwhile."""

import json
import os
import subprocess
import time

from loader_bench import machine

TIMEOUT_SECONDS = 300
STDERR_LINES = 3


class Failed(Exception):
    """A contestant did not deliver what was asked of it."""


def run(command: list[str], env: dict[str, str], checksum: str) -> dict:
    """Runs one contestant and returns its line, checked, with `foreign_cpu_ms` and `process_cpu_ms` added."""
    busy_s, own_s, begun_s = machine.busy_s(), time.process_time(), time.perf_counter()
    children_s = children_cpu_s()
    environment = os.environ | env | {"BENCH_EXEC_NS": str(time.clock_gettime_ns(time.CLOCK_MONOTONIC))}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{command[0]}: {error}") from error
    process_s = children_cpu_s() - children_s
    if done.returncode:
        last = "; ".join(done.stderr.strip().splitlines()[-STDERR_LINES:])
        raise Failed(f"expected exit status 0, found {done.returncode}: {last}")
    line = parse(done.stdout)
    if line["checksum"] != checksum:
        raise Failed(f"expected the content {checksum}, found {line['checksum']}: it read something else")
    foreign_s = machine.busy_s() - busy_s - process_s - (time.process_time() - own_s)
    line["process_cpu_ms"] = process_s * 1e3
    line["foreign_cpu_ms"] = max(0.0, foreign_s) * 1e3
    line["foreign_share"] = max(0.0, foreign_s) / (time.perf_counter() - begun_s)
    return line


def parse(stdout: str) -> dict:
    """The last line of the output that is a JSON object; libraries may print before it."""
    for text in reversed(stdout.splitlines()):
        if text.startswith("{"):
            return json.loads(text)
    raise Failed(f"expected a line of JSON, found {stdout.strip()[:200]!r}")


def children_cpu_s() -> float:
    """Processor seconds of all processes that were waited for."""
    times = os.times()
    return times.children_user + times.children_system
