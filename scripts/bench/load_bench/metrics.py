"""Watches a service's Prometheus metrics beside the load: gauges by average and most, counters by what they grew.

The GPU figures of an exporter, `nvml_gpu_utilization{...}` and `nvml_memory_used_bytes{...}`, are gauges like any
other. Samples of one name that differ in labels are added up, except utilisation, of which the average is taken.
"""

import asyncio
import re
import time
from collections import defaultdict
from urllib.parse import urlsplit

from load_bench.http import Connection, Failure

SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{[^}]*\})?\s+(\S+)")
COUNTERS = ("_total", "_sum", "_count")


def parse(text):
    """Values and types by name."""
    kinds, samples = {}, defaultdict(list)
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(maxsplit=3)
            kinds[name] = kind.strip()
        elif (found := SAMPLE.match(line)) and not found.group(1).endswith("_bucket"):
            try:
                samples[found.group(1)].append(float(found.group(2)))
            except ValueError:
                continue
    values = {name: sum(some) / (len(some) if "utilization" in name else 1) for name, some in samples.items()}
    return values, kinds


class Watch:
    """Asks every `interval` seconds, from entering to leaving."""

    def __init__(self, url, interval, headers):
        parts = urlsplit(url)
        self.url, self.path = url, (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else "")
        self.interval, self.headers, self.samples, self.failures, self.kinds = interval, headers, [], [], {}

    async def __aenter__(self):
        self.connection, self.begun = Connection(self.url), time.perf_counter()
        await self.sample()
        self.task = asyncio.create_task(self.keep_on())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.sample()
        self.connection.close()

    async def keep_on(self):
        """Looks every `interval` seconds until it is cancelled."""
        while True:
            await asyncio.sleep(self.interval)
            await self.sample()

    async def sample(self):
        """Looks once and keeps the values, or the failure."""
        try:
            answer = await self.connection.send("GET", self.path, headers=self.headers, timeout=10)
        except Failure as failure:
            self.failures.append(f"{failure.kind}: {failure}")
            return
        if answer.status != 200:
            self.failures.append(f"status_{answer.status}")
            return
        values, kinds = parse(answer.body.decode("utf-8", "replace"))
        self.kinds |= kinds
        self.samples.append((round(time.perf_counter() - self.begun, 3), values))

    def summary(self):
        """Gauges and counters by name; counters that stood still are left out."""
        gauges, counters = {}, {}
        names = sorted({name for _, values in self.samples for name in values})
        for name in names:
            seen = [values[name] for _, values in self.samples if name in values]
            if self.kinds.get(name) == "counter" or name.endswith(COUNTERS):
                # It began at 0 if the first look did not know it.
                start = self.samples[0][1].get(name, 0.0)
                if grown := seen[-1] - start:
                    counters[name] = round(grown, 6)
            else:
                gauges[name] = {"avg": round(sum(seen) / len(seen), 6), "max": max(seen)}
        failures = {"count": len(self.failures), "first": self.failures[0]} if self.failures else None
        return {"samples": len(self.samples), "gauges": gauges, "counters": counters, "failures": failures}
