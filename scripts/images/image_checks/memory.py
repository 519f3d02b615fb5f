"""A container under a limit of memory: that the kernel enforces it, what is used of it, and what happens beyond.

The kernel counts for a container what its processes hold and the pages of files that they were first to read. The
mapped snapshot is of the second kind: under pressure it is dropped and read again, so that a limit below its size makes
a function slow, not dead. What the function computes in cannot be dropped; beyond that the kernel kills.
"""

import json
from pathlib import Path

from image_checks.contents import expect
from image_checks.life import KILLED
from lib import CannotCheck
from lib.containers import Container

# One micro-batch of this many tokens at once needs some 400 MB in a model of 0.5B and 40 MB in MiniLM; WAY_TOO_LITTLE
# is the least that the process itself, the engine's start of it and a short request fit into with room to spare.
BATCH_TOKENS = 32_768
WAY_TOO_LITTLE = "24m"
LONG_TEXT = "the weather in the mountains changes faster than anybody expects " * 40
FILES = {
    # Second version of cgroups, then the first.
    "limit": ("memory.max", "memory.limit_in_bytes"),
    "peak": ("memory.peak", "memory.max_usage_in_bytes"),
    "own": ("memory.stat", "memory.stat"),
}


def group_of(process):
    """The folder of the process's memory cgroup."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{process}/cgroup").read_text().splitlines()]
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory") / path.lstrip("/")
    unified = next((path for _, controllers, path in lines if not controllers), None)
    if unified is None:
        raise CannotCheck(f"expected a memory cgroup of process {process}, found {lines}")
    return Path("/sys/fs/cgroup") / unified.lstrip("/")


def read(group, what):
    """A file of the cgroup, in whichever version."""
    found = next((group / name for name in FILES[what] if (group / name).is_file()), None)
    if found is None:
        raise CannotCheck(f"expected one of {FILES[what]} in {group}, found none")
    return found.read_text().strip()


def usage(container, limit):
    """The most that a running container has used, and what of it is now its own; the limit must be in force."""
    group = group_of(container.state()["Pid"])
    expect("limit in force", int(read(group, "limit")), limit)
    stat = dict(line.split() for line in read(group, "own").splitlines())
    return int(read(group, "peak")), int(stat.get("anon", stat.get("rss", 0)))


def kernel_kills():
    """How many processes the kernel has killed for memory, on the whole machine since it started."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def check_out_of_memory(engine, function, image, model):
    """A batch that cannot fit: the kernel kills, the engine says 137, and the next start answers."""
    before = kernel_kills()
    flags = [f"--memory={WAY_TOO_LITTLE}", f"--memory-swap={WAY_TOO_LITTLE}"]
    settings = {"MAX_BATCH_TOKENS": str(BATCH_TOKENS)}
    with Container(engine, function, image, model, flags, settings) as container:
        container.start()
        first = container.score()
        path, key = ("/v1/embeddings", "input") if function == "embed" else ("/v1/rerank", "documents")
        texts = [f"{number} {LONG_TEXT}" for number in range(256)]
        body = json.dumps({key: texts, "query": "weather"} if key == "documents" else {key: texts, "truncate": True})
        answer = container.ask("POST", path, body)
        if answer is not None:
            raise AssertionError(
                f"expected no answer within {WAY_TOO_LITTLE} of memory, found {answer[0]}: {answer[1][:200]!r}"
            )
        code = int(engine.call("wait", container.name))
        state = container.state()
        expect("exit code", code, KILLED)
        if kernel_kills() == before:
            raise AssertionError(
                f"expected the kernel to have killed it for memory, found it ended otherwise: {container.logs()}"
            )
        # podman under the first version of cgroups does not notice.
        told = ", OOMKilled" if state["OOMKilled"] else ", which the engine does not call OOMKilled"
        container.start()
        expect("score after that", container.score(), first)
    return f"within {WAY_TOO_LITTLE}: killed by the kernel, exit code {code}{told}; back at the next start"
