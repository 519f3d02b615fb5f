"""Many cold starts at once: an event simulation of platform, store, hosts and functions.

At time 0 come N requests. `requests_per_instance` of them share an instance. Instances wait for the platform's
permission to start (a burst, then so many each period), then for its overhead (log-normal), then they need the
snapshot's bytes:

- Hosts hold `host_slots` instances. The first of a host that needs bytes fetches for all of it; the others wait until
  it is done.
- `hit` is what is near already: of hosts, that share has the whole snapshot and the rest nothing; of bytes, every host
  has that share of them. What is near is read at `cached_mb_s`.
- Downloads share the store equally, max-min fair: each gets what is left of the total, never more than its own cap
  (connections x bandwidth of one, or the instance's network, unless the host fetches in its stead). A store that bounds
  requests bounds the total by requests x part.
- All flows have the same cap, so all that are under way have the same rate. Progress is then one common count of bytes:
  a flow that begins at count c ends at c + its bytes, whatever comes and goes meanwhile. Each event costs a heap
  operation.

The function boots, and computes its first answer while the bytes come (`overlap`: the longer of both, where
measurements found 0.8 to 1.4 times that) or after. An instance answers its requests one after the other, each taking
the compute time. Left out: retries after throttling, slow starts of TCP, failed starts, instances that are reused once
their first answer is given.
"""

import heapq
import math
import random
from dataclasses import dataclass

MB = 1e6


@dataclass(frozen=True)
class Platform:
    """How instances start; the fields are explained in data/scale_out.toml."""

    burst: int
    refill: int
    period_seconds: float
    overhead_ms: float
    overhead_sigma: float
    requests_per_instance: int
    host_slots: int
    network_mb_s: float
    cached_mb_s: float


@dataclass(frozen=True)
class Store:
    """How bytes come; the fields are explained in data/scale_out.toml."""

    connection_mb_s: float
    connections: int
    total_mb_s: float
    requests_per_second: float
    part_mb: float
    latency_ms: float
    fetched_by_host: bool


@dataclass(frozen=True)
class Function:
    """What was measured of the function."""

    snapshot_bytes: float
    boot_ms: float
    compute_ms: float
    overlap: bool


def permitted(platform, number):
    """When the platform lets instance `number` (from 0) begin, in seconds."""
    if number < platform.burst:
        return 0.0
    return ((number - platform.burst) // platform.refill + 1) * platform.period_seconds


def begins(platform, count, choose):
    """When each instance's process begins."""
    median = platform.overhead_ms / 1e3
    return [
        permitted(platform, number) + median * math.exp(platform.overhead_sigma * choose.gauss(0.0, 1.0))
        for number in range(count)
    ]


def flow_cap(platform, store):
    """Bytes a second of one download alone."""
    connections = store.connection_mb_s * store.connections
    return (connections if store.fetched_by_host else min(connections, platform.network_mb_s)) * MB


def store_total(store):
    """Bytes a second of all downloads together."""
    return min(store.total_mb_s, store.requests_per_second * store.part_mb) * MB


def downloads(starts, size, cap, total):
    """When each of the downloads that begin at these times is complete: equal shares of `total`, at most `cap` each."""
    if size <= 0 or math.isinf(min(cap, total)):
        return list(starts)
    done = [0.0] * len(starts)
    waiting = sorted(range(len(starts)), key=lambda one: starts[one])
    active, count, now, place = [], 0.0, 0.0, 0
    while place < len(waiting) or active:
        rate = min(cap, total / len(active)) if active else 0.0
        finish = now + (active[0][0] - count) / rate if active else math.inf
        begin = starts[waiting[place]] if place < len(waiting) else math.inf
        # Whichever comes first; at the same moment the end, so that its share is free for the one that begins.
        moment = min(begin, finish)
        count += rate * (moment - now)
        now = moment
        if finish <= begin:
            end, one = heapq.heappop(active)
            # Rounding must not let the count fall behind a flow that has ended.
            count = max(count, end)
            done[one] = now
        else:
            heapq.heappush(active, (count + size, waiting[place]))
            place += 1
    return done


def simulate(requests, platform, store, function, hit, seed, hit_of="hosts"):
    """Seconds until each request's answer, in no order."""
    choose = random.Random(seed)
    instances = math.ceil(requests / platform.requests_per_instance)
    started = begins(platform, instances, choose)
    hosts = [list(range(first, min(first + platform.host_slots, instances))) for first in range(0, instances, platform.host_slots)]
    # A hit of bytes leaves every host something to fetch; a hit of hosts leaves some all and others nothing to fetch.
    near = [hit if hit_of == "bytes" else float(choose.random() < hit) for _ in hosts]
    cold = [(host, share) for host, share in zip(hosts, near) if share < 1]
    size = function.snapshot_bytes * (1 - hit if hit_of == "bytes" else 1)
    first = [min(started[one] for one in host) + store.latency_ms / 1e3 for host, _ in cold]
    ends = downloads(first, size, flow_cap(platform, store), store_total(store))
    complete = {one: end for (host, _), end in zip(cold, ends) for one in host}
    reading = {one: share * function.snapshot_bytes / (platform.cached_mb_s * MB) for host, share in zip(hosts, near) for one in host}
    boot, compute = function.boot_ms / 1e3, function.compute_ms / 1e3
    answers = []
    for one, begun in enumerate(started):
        bytes_there = max(complete.get(one, begun), begun + reading[one])
        ready = begun + boot
        firstly = max(ready + compute, bytes_there) if function.overlap else max(ready, bytes_there) + compute
        share = min(platform.requests_per_instance, requests - one * platform.requests_per_instance)
        answers += [firstly + number * compute for number in range(share)]
    return answers
