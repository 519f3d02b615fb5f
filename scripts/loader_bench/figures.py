"""From lines to medians, and from medians to verdicts."""

import statistics
from dataclasses import dataclass

GIB = 2**30
# The promises, for 1 GiB on a warm page cache; those in processor time grow with the checkpoint.
STAMPED_CPU_MS = 10
VERIFIED_CPU_MS = 60
TIMES_FASTER = 5
DIRECT_MARGIN = 1.10
STORE_MARGIN = 1.10
# Padding, manifest and superblocks come on top of the tensors.
WIRE_SHARE = 1.01
FIELDS = (
    "bytes", "wall_ms", "cpu_ms", "ready_ms", "ready_cpu_ms", "from_exec_ms", "process_cpu_ms", "minflt", "majflt",
    "rss_mb", "base_rss_mb", "pss_mb", "anon_mb", "peak_rss_mb", "foreign_share", "wire_bytes", "requests",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One contestant in one state: medians of its runs, and more where more is wanted."""

    name: str
    kind: str
    state: str
    verified: bool
    runs: int
    median: dict
    p95_ms: float
    least_ms: float

    @property
    def wall_ms(self) -> float:
        """Median wall time until every page was read."""
        return self.median["wall_ms"]


@dataclass(frozen=True)
class Verdict:
    """One promise with what was found."""

    promise: str
    found: str
    kept: bool | None

    @property
    def word(self) -> str:
        """PASS, FAIL, or `not measured`."""
        return {True: "PASS", False: "FAIL", None: "not measured"}[self.kept]


def rows(field: list, lines: dict) -> list[Row]:
    """A row for each contestant and state that has lines, in the order of the field, states together."""
    kinds = {who.name: (who.kind, who.verified) for who in field}
    order = {who.name: number for number, who in enumerate(field)}
    found = [
        Row(
            name,
            kinds[name][0],
            state,
            kinds[name][1],
            len(some),
            {key: statistics.median(line[key] for line in some) for key in FIELDS if key in some[0]},
            percentile([line["wall_ms"] for line in some], 95),
            min(line["wall_ms"] for line in some),
        )
        for (name, state), some in lines.items()
    ]
    return sorted(found, key=lambda row: (row.state, order[row.name]))


def percentile(values: list[float], percent: float) -> float:
    """By the nearest rank: of 20 values, p95 is the second largest."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__trunc__() - 1)]


def verdicts(table: list[Row], size_bytes: int) -> list[Verdict]:
    """The promises, each judged by medians."""
    at = {(row.name, row.state): row for row in table}
    scale = size_bytes / GIB
    shipped = [row for row in table if row.kind == "loader" and row.state == "warm" and "xxh3" not in row.name]
    checked = [row for row in table if row.kind == "loader" and row.state == "warm" and row.verified]
    stamped, eager, fly = "defrost stamped", "defrost eager", "defrost on-the-fly"
    judged = [
        cpu(at.get((stamped, "warm")), STAMPED_CPU_MS, scale),
        cpu(at.get((eager, "warm")), VERIFIED_CPU_MS, scale),
        cpu(at.get((fly, "warm")), VERIFIED_CPU_MS, scale),
        faster(at.get((stamped, "warm")), best(shipped), "best Python loader as shipped"),
        faster(at.get((eager, "warm")), best(checked), "best Python loader that verifies"),
        started(at.get((stamped, "warm")), best(shipped, from_exec_ms)),
    ]
    for state in ("warm", "cold"):
        for name, rival in [
            (stamped, "safetensors mmap"),
            (eager, "safetensors mmap + xxh3"),
            (fly, "safetensors mmap + xxh3"),
        ]:
            judged.append(not_slower(at.get((name, state)), at.get((rival, state)), rival, 1.0))
    for name in (stamped, fly, eager):
        judged.append(not_slower(at.get((name, "cold")), at.get(("O_DIRECT 8x8 MiB", "cold")), "O_DIRECT", DIRECT_MARGIN))
    return judged


def object_store_verdicts(table: list[Row], networks: list[str]) -> list[Verdict]:
    """What a restore from an object store should keep: near the same requests without hashing and writing, no byte
    twice, and sooner than the loaders in Python."""
    judged = []
    for network in networks:
        here = {row.name: row for row in table if row.state == network}
        mine = here.get("defrost s3")
        judged.append(not_slower(mine, here.get("AWS SDK, same ranges"), "the same ranges without hashing", STORE_MARGIN))
        judged.append(not_slower(mine, best([row for row in here.values() if row.kind == "loader"]), "any loader", 1.0))
        if mine:
            share = mine.median["wire_bytes"] / mine.median["bytes"]
            promise = f"{network}, {mine.name}: no byte twice on the wire"
            judged.append(Verdict(promise, f"{share:.3f} of the content", share <= WIRE_SHARE))
    return judged


def best(table: list[Row], key=lambda row: row.wall_ms) -> Row | None:
    """The row with the lowest median wall time, or whatever `key` takes."""
    return min(table, key=key, default=None)


def from_exec_ms(row: Row) -> float:
    """Median time from exec until every page was read."""
    return row.median["from_exec_ms"]


def started(row: Row | None, rival: Row | None) -> Verdict:
    """TIMES_FASTER from exec: with interpreter and imports, as a start from nothing has them."""
    promise = f"warm, {row.name if row else '?'}: from exec at least {TIMES_FASTER}x faster than any Python loader"
    if row is None or rival is None:
        return Verdict(promise, "-", None)
    ratio = from_exec_ms(rival) / from_exec_ms(row)
    return Verdict(promise, f"{ratio:.1f}x ({rival.name})", ratio >= TIMES_FASTER)


def cpu(row: Row | None, limit_ms: float, scale: float) -> Verdict:
    """Processor time until every tensor may be used and its pages are mapped: stricter than `handed out`."""
    limit_ms *= scale
    promise = f"warm, {row.name if row else '?'}: ready to compute in at most {limit_ms:.1f} ms CPU"
    if row is None:
        return Verdict(promise, "-", None)
    handed_out = row.median["ready_cpu_ms"]
    found = f"{row.median['cpu_ms']:.1f} ms CPU with every page touched ({handed_out:.1f} when handed out)"
    return Verdict(promise, found, row.median["cpu_ms"] <= limit_ms)


def faster(row: Row | None, rival: Row | None, who: str) -> Verdict:
    """TIMES_FASTER in wall time."""
    promise = f"warm, {row.name if row else '?'}: at least {TIMES_FASTER}x faster than the {who}"
    if row is None or rival is None:
        return Verdict(promise, "-", None)
    ratio = rival.wall_ms / row.wall_ms
    return Verdict(promise, f"{ratio:.1f}x ({rival.name})", ratio >= TIMES_FASTER)


def not_slower(row: Row | None, rival: Row | None, who: str, margin: float) -> Verdict:
    """Wall time at most `margin` times the rival's."""
    what = f"not slower than {who}" if margin == 1 else f"within {margin - 1:.0%} of parallel {who}"
    promise = f"{row.state if row else '?'}, {row.name if row else '?'}: {what}"
    if row is None or rival is None:
        return Verdict(promise, "-", None)
    ratio = row.wall_ms / rival.wall_ms
    return Verdict(promise, f"{ratio:.2f} of its time", ratio <= margin)


def losses(table: list[Row]) -> str:
    """One sentence: who is faster than our loader in its default mode and in its verifying ones, and by how much."""
    parts = []
    for state in sorted({row.state for row in table}):
        here = [row for row in table if row.state == state]
        for mine in (row for row in here if row.kind == "ours"):
            ahead = [row for row in here if row.kind != "ours" and row.wall_ms < mine.wall_ms]
            ahead.sort(key=lambda row: row.wall_ms)
            if ahead:
                listed = ", ".join(f"{row.name} ({mine.wall_ms / row.wall_ms:.2f}x)" for row in ahead)
                parts.append(f"{mine.name} loses {state} to {listed}")
    return "Where we lose: " + ("; ".join(parts) if parts else "nowhere in this table") + "."
