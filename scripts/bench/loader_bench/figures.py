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
    kinds = {contestant.name: (contestant.kind, contestant.verified) for contestant in field}
    order = {contestant.name: number for number, contestant in enumerate(field)}
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
    """The percentile by the nearest rank: of 20 values, p95 is the second largest."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__trunc__() - 1)]


class Table:
    """Rows by name and state, and promises about them."""

    def __init__(self, rows_: list[Row]):
        self.rows = rows_
        self.at = {(row.name, row.state): row for row in rows_}

    def best(self, state: str, wanted, key=None) -> Row | None:
        """The row with the lowest median wall time, or whatever `key` takes, among the Python loaders `wanted`."""
        here = [row for row in self.rows if row.kind == "loader" and row.state == state and wanted(row)]
        return min(here, key=key or (lambda row: row.wall_ms), default=None)

    def cpu(self, name: str, limit_ms: float) -> Verdict:
        """Processor time until every tensor may be used and its pages are mapped: stricter than `handed out`."""
        row = self.at.get((name, "warm"))
        promise = f"warm, {name}: ready to compute in at most {limit_ms:.1f} ms CPU"
        if row is None:
            return Verdict(promise, "-", None)
        cpu_ms, handed_out_ms = row.median["cpu_ms"], row.median["ready_cpu_ms"]
        found = f"{cpu_ms:.1f} ms CPU with every page touched ({handed_out_ms:.1f} when handed out)"
        return Verdict(promise, found, cpu_ms <= limit_ms)

    def faster(self, name: str, rival: Row | None, contestant: str, key: str = "wall_ms") -> Verdict:
        """The verdict on the promise to be at least TIMES_FASTER times faster than the rival, warm."""
        row = self.at.get((name, "warm"))
        promise = f"warm, {name}: at least {TIMES_FASTER}x faster than {contestant}"
        if row is None or rival is None:
            return Verdict(promise, "-", None)
        ratio = rival.median[key] / row.median[key]
        return Verdict(promise, f"{ratio:.1f}x ({rival.name})", ratio >= TIMES_FASTER)

    def not_slower(self, name: str, state: str, rival: Row | None, what: str, margin: float = 1.0) -> Verdict:
        """Wall time at most `margin` times the rival's."""
        row = self.at.get((name, state))
        promise = f"{state}, {name}: {what}"
        if row is None or rival is None:
            return Verdict(promise, "-", None)
        ratio = row.wall_ms / rival.wall_ms
        return Verdict(promise, f"{ratio:.2f} of its time ({rival.name})", ratio <= margin)


def verdicts(rows_: list[Row], size_bytes: int) -> list[Verdict]:
    """The promises about local restores, each judged by medians."""
    table, scale = Table(rows_), size_bytes / GIB
    stamped, eager, fly = "defrost stamped", "defrost eager", "defrost on-the-fly"
    shipped = table.best("warm", lambda row: "xxh3" not in row.name)
    checking = table.best("warm", lambda row: row.verified)
    started = table.best("warm", lambda row: True, lambda row: row.median["from_exec_ms"])
    judged = [
        table.cpu(stamped, STAMPED_CPU_MS * scale),
        table.cpu(eager, VERIFIED_CPU_MS * scale),
        table.cpu(fly, VERIFIED_CPU_MS * scale),
        table.faster(stamped, shipped, "the best Python loader, imports left out"),
        table.faster(eager, checking, "the best Python loader that verifies, imports left out"),
        table.faster(stamped, started, "the best Python loader, from exec", "from_exec_ms"),
    ]
    for state in ("warm", "cold"):
        rivals = [(stamped, "safetensors mmap"), (eager, "safetensors mmap + xxh3"), (fly, "safetensors mmap + xxh3")]
        for name, rival in rivals:
            judged.append(table.not_slower(name, state, table.at.get((rival, state)), f"not slower than {rival}"))
    direct = table.at.get(("O_DIRECT 8x8 MiB", "cold"))
    for name in (stamped, fly, eager):
        judged.append(table.not_slower(name, "cold", direct, "within 10 % of parallel O_DIRECT", DIRECT_MARGIN))
    return judged


def object_store_verdicts(rows_: list[Row], networks: list[str]) -> list[Verdict]:
    """What a restore from an object store should keep: near the same requests without hashing and writing, no byte
    twice, and sooner than the loaders in Python."""
    table, mine, judged = Table(rows_), "defrost s3", []
    for network in networks:
        bare = table.at.get(("AWS SDK, same ranges", network))
        rival = table.best(network, lambda row: True)
        what = "within 10 % of the same ranges without hashing and writing"
        judged.append(table.not_slower(mine, network, bare, what, STORE_MARGIN))
        judged.append(table.not_slower(mine, network, rival, "not slower than any Python loader"))
        if row := table.at.get((mine, network)):
            share = row.median["wire_bytes"] / row.median["bytes"]
            promise = f"{network}, {mine}: no byte twice on the wire"
            judged.append(Verdict(promise, f"{share:.3f} of the content", share <= WIRE_SHARE))
    return judged


def losses(table: list[Row]) -> str:
    """Which contestants are faster than our loader, in its default and verifying modes, in one sentence."""
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
