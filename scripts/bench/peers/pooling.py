"""What both peers share: how a request looks, how all-MiniLM-L6-v2 scores, and how long their start took.

As sentence-transformers runs the model: mean of the last hidden states, normalised, cut to 256 tokens. A score is (1 +
cosine) / 2, as `rerank-cpu-int8` returns it, so that answers can be compared number by number.
"""

import os
import time

MAX_TOKENS = 256


def seconds_since_exec():
    """Seconds since this process began, by the kernel's count, to its resolution of 10 ms."""
    with open("/proc/self/stat", encoding="ascii") as stat, open("/proc/uptime", encoding="ascii") as uptime:
        ticks = int(stat.read().rpartition(")")[2].split()[19])
        return float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


class Phases:
    """How long each part of the start took, in the form of the Server-Timing header."""

    def __init__(self, begun):
        # The interpreter's own start reaches from exec to the first line of the script.
        self.last, self.ms = time.perf_counter(), {"boot_exec": begun * 1e3}

    def done(self, name):
        """Ends a part."""
        now = time.perf_counter()
        self.ms[name], self.last = (now - self.last) * 1e3, now

    def header(self):
        """The header's value."""
        return ", ".join(f"{name};dur={value:.3f}" for name, value in self.ms.items())


def answer(model, scores):
    """The body of an answer, best first."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    results = [{"index": place, "relevance_score": float(scores[place])} for place in order]
    return {"model": model, "results": results}
