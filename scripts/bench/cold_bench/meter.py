"""What a contestant and its children have used until the first answer, from /proc: memory, processor time, bytes."""

from pathlib import Path

from lib.machine import TICKS_PER_SECOND

MB = 1e6
KIB = 1024


def tree(pid):
    """The process and all that descend from it."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            fields = stat(folder)
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        left += parents.get(one, [])
    return found


def stat(folder):
    """The fields of /proc/PID/stat behind the name, or nothing if the process is gone."""
    try:
        return (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def pairs(path):
    """`name: value` lines as whole numbers."""
    found = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if value.split() and value.split()[0].isdigit():
                found[name] = int(value.split()[0])
    except OSError:
        pass
    return found


def measure(pid):
    """Sums over the tree. `read` are bytes read by system calls; mapped files, as ours, count as `mapped` instead."""
    sums = {"rss_mb": 0.0, "own_mb": 0.0, "mapped_mb": 0.0, "cpu_ms": 0.0, "read_mb": 0.0, "disk_mb": 0.0, "major_faults": 0.0}
    for one in tree(pid):
        folder = Path("/proc") / str(one)
        status, io, fields = pairs(folder / "status"), pairs(folder / "io"), stat(folder)
        sums["rss_mb"] += status.get("VmRSS", 0) * KIB / MB
        sums["own_mb"] += (status.get("RssAnon", 0) + status.get("RssShmem", 0)) * KIB / MB
        sums["mapped_mb"] += status.get("RssFile", 0) * KIB / MB
        sums["read_mb"] += io.get("rchar", 0) / MB
        sums["disk_mb"] += io.get("read_bytes", 0) / MB
        if fields:
            sums["major_faults"] += int(fields[9])
            # Own time and that of children that have ended.
            sums["cpu_ms"] += sum(map(int, fields[11:15])) * 1e3 / TICKS_PER_SECOND
    return {name: round(value, 2) for name, value in sums.items()}
