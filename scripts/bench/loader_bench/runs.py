"""One run: a fresh process, its JSON line, and what else the machine did meanwhile."""

import json
import os
import subprocess
import tempfile
import threading
import time

from lib import machine

TIMEOUT_SECONDS = 300
STDERR_LINES = 3


class Failed(Exception):
    """A contestant did not deliver what was asked of it."""


def run(command: list[str], env: dict[str, str], checksum: str, reserve=None) -> dict:
    """Runs one contestant and returns its line, checked, with what else the processors did meanwhile.

    With a reserve of memory, the contestant stops at a gate once its imports are done: it prints `waiting` and reads a
    line. The reserve is given back then, so that the contestant gets it, and taken again when it has ended.
    """
    busy_s, own_s, begun_s = machine.busy_s(), time.process_time(), time.perf_counter()
    children_s = children_cpu_s()
    environment = os.environ | env | {"BENCH_EXEC_NS": str(time.clock_gettime_ns(time.CLOCK_MONOTONIC))}
    if reserve:
        environment["BENCH_GATE"] = "1"
    status, stdout, stderr = finish(command, environment, reserve)
    process_s = children_cpu_s() - children_s
    foreign_s = machine.busy_s() - busy_s - process_s - (time.process_time() - own_s)
    seconds = time.perf_counter() - begun_s
    if reserve:
        reserve.take()
    if status:
        last = "; ".join(stderr.strip().splitlines()[-STDERR_LINES:])
        raise Failed(f"expected exit status 0, found {status}: {last}")
    line = parse(stdout)
    # Only a contestant that keeps nothing may have no checksum; it says how many bytes it saw.
    if line["checksum"] not in (checksum, None):
        raise Failed(f"expected the content {checksum}, found {line['checksum']}: it read something else")
    line["process_cpu_ms"] = process_s * 1e3
    line["foreign_share"] = max(0.0, foreign_s) / seconds
    return line


def finish(command: list[str], environment: dict[str, str], reserve) -> tuple[int, str, str]:
    """Exit status, output and messages of a process that is let through the gate."""
    with tempfile.TemporaryFile("w+") as messages:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": messages}
        try:
            process = subprocess.Popen(command, env=environment, text=True, **pipes)
        except OSError as error:
            raise Failed(f"{command[0]}: {error}") from error
        timer = threading.Timer(TIMEOUT_SECONDS, process.kill)
        timer.start()
        with process:
            printed = []
            for text in process.stdout:
                printed.append(text)
                if reserve and text == "waiting\n":
                    reserve.release()
                    process.stdin.write("go\n")
                    process.stdin.flush()
            status = process.wait()
        timer.cancel()
        messages.seek(0)
        return status, "".join(printed), messages.read()


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
