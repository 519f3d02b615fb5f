"""What the machine is and how busy it is: a figure without these means nothing."""

import os
import platform
import sys
import time
from pathlib import Path

HIGHEST_LOAD = 0.3
POLL_SECONDS = 10
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class TooBusy(Exception):
    """Other processes use the machine."""


def facts(folder: Path) -> dict:
    """Kernel, processor, memory, and the file system and disk that hold `folder`."""
    mount = mount_of(folder)
    device = os.stat(folder).st_dev
    queue = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/queue")
    if not queue.exists():
        queue = queue.parent.parent / "queue"
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return {
        "kernel": platform.release(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory["MemTotal"].split()[0]) / 2**20, 1),
        "file_system": f"{mount[2]} ({mount[3]})",
        "read_ahead_kb": setting(queue / "read_ahead_kb"),
        "thp": setting(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "load_average": os.getloadavg()[0],
        "uptime_minutes": round(float(Path("/proc/uptime").read_text().split()[0]) / 60),
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """The model name of the first core."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def mount_of(folder: Path) -> list[str]:
    """The line of /proc/mounts with the longest mount point above `folder`."""
    path = str(folder.resolve())
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [m for m in mounts if path == m[1] or path.startswith(m[1].rstrip("/") + "/")]
    return max(above, key=lambda mount: len(mount[1]))


def setting(path: Path) -> str:
    """A kernel setting as text, or `unknown`."""
    try:
        return path.read_text().strip()
    except OSError:
        return "unknown"


def wait_until_idle(wait_seconds: float, force: bool):
    """Returns when the load average is at most HIGHEST_LOAD; raises TooBusy after `wait_seconds` unless `force`."""
    deadline = time.monotonic() + wait_seconds
    while (load := os.getloadavg()[0]) > HIGHEST_LOAD:
        if force:
            note = f"note: load average {load:.2f}, above {HIGHEST_LOAD}: the figures are not for print"
            print(note, file=sys.stderr)
            return
        if time.monotonic() >= deadline:
            raise TooBusy(
                f"expected a load average of at most {HIGHEST_LOAD}, found {load:.2f} after {wait_seconds:.0f} s:"
                " stop what else runs, or take figures that are not for print with --force"
            )
        time.sleep(POLL_SECONDS)


def busy_s() -> float:
    """Processor seconds that all cores have been busy, or stolen by the host, since boot."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND
