"""What a person reads: first answers, phases, what each took, whether scores agree, how it was measured."""

METHOD = """Time runs from before the process is started until the last byte of the first good answer; the client asks again
until there is one, and what its polling adds is at most half a percent. Each start is a new process. Contestants take
turns in a new random order each round. *Second answer* is the same request right after, on the same connection. Memory,
processor time and bytes are those of the contestant and its children after the two answers; *read* counts system calls,
and mapped files show under *mapped* instead."""
LAMBDA = "The emulator has none of Lambda's limits and no sandbox to start: rows of kind lambda show the function's own share."
URL = "Rows of kind url include network and TLS, and are cold only if the service had scaled to zero within the idle time."


def ms(value):
    """Milliseconds with as many digits as mean something."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(heads, lines):
    """Markdown; the first column is text."""
    rule = "| --- |" + " ---: |" * (len(heads) - 1)
    return "\n".join([f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])


def markdown(result):
    """The whole report."""
    rows, facts = sorted(result["rows"], key=lambda row: row["first_answer_ms"]["median"]), result["facts"]
    forced = " **Measured on a busy machine (--force): not for print.**" if result["forced"] else ""
    parts = [
        "## Cold start to first answer",
        f"{facts['date']}, {facts['cores']} cores of {facts['processor']}, {facts['memory_gib']} GiB, Linux {facts['kernel']}, "
        f"load average {facts['load_average']:.2f} at the start, {result['runs']} starts of each"
        f" ({result['warmups']} more before, not counted), page cache {result['page_cache']}"
        + "".join(f", {name} {version}" for name, version in result["versions"].items()) + f".{forced}",
        answers(rows),
        " ".join([METHOD.replace("\n", " "), *(text for kind, text in (("lambda", LAMBDA), ("url", URL)) if any(r["kind"] == kind for r in rows))]),
    ]
    told = [row for row in rows if row["phases_ms"]]
    if told:
        parts += ["### Phases, as each contestant tells them, medians in ms", "\n".join(map(phases, told))]
    if any(row["process"] for row in rows):
        parts += ["### What it took", process([row for row in rows if row["process"]])]
    if result["agreement"]:
        parts += ["### Scores", scores(result["agreement"], result["tolerance"])]
    parts += ["### Command lines", "\n".join(f"- {row['name']} ({row['kind']}): `{row['command']}`" for row in rows)]
    if result["remarks"]:
        parts.append("\n".join(f"- {remark}" for remark in result["remarks"]))
    return "\n\n".join(parts) + "\n"


def answers(rows):
    """Distributions, the fastest first, and how many times the fastest of ours each takes."""
    mine = [row["first_answer_ms"]["median"] for row in rows if row["ours"]]
    heads = ["", "median ms", "min", "p90", "p95", "max", "port open ms", "second answer ms", "times defrost", "starts", "failed"]
    lines = []
    for row in rows:
        first, name = row["first_answer_ms"], f"**{row['name']}**" if row["ours"] else row["name"]
        ratio = f"{first['median'] / min(mine):.1f}" if mine else "-"
        cells = [ms(first[key]) for key in ("median", "min", "p90", "p95", "max")]
        lines.append([name, *cells, ms(row["connected_ms"]["median"]), ms(row["second_answer_ms"]), ratio,
                      str(len(row["starts"])), str(row["failures"])])  # fmt: skip
    return table(heads, lines)


def phases(row):
    """One line."""
    return f"- {row['name']}: " + ", ".join(f"{name} {ms(value)}" for name, value in row["phases_ms"].items())


def process(rows):
    """Memory, processor time, bytes."""
    heads = ["", "CPU ms", "RSS MB", "of its own MB", "mapped MB", "read MB", "from disk MB", "major faults"]
    keys = ("cpu_ms", "rss_mb", "own_mb", "mapped_mb", "read_mb", "disk_mb", "major_faults")
    return table(heads, [[row["name"], *(f"{row['process'][key]:,.0f}" for key in keys)] for row in rows])


def scores(lines, tolerance):
    """Which contestants' scores agree, and which do not."""
    word = lambda line: ("yes" if line["agrees"] else "NO") if line["judged"] else "told, not judged"  # noqa: E731
    heads = [f"largest difference from {lines[0]['reference']}, any score, any start", "", f"within {tolerance:g}", "same order"]
    return table(heads, [[line["name"], f"{line['worst']:.1e}", word(line), "yes" if line["same_order"] else "no"] for line in lines])
