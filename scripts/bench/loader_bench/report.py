"""What a person reads: a Markdown table for each state, the promises, where we lose."""

from loader_bench.figures import Row, Verdict

COLUMNS = [
    ("wall ms", lambda row: f"{row.wall_ms:.1f}"),
    ("p95", lambda row: f"{row.p95_ms:.1f}"),
    ("handed out ms", lambda row: f"{row.median['ready_ms']:.1f}"),
    ("CPU ms", lambda row: f"{row.median['cpu_ms']:.1f}"),
    ("from exec ms", lambda row: f"{row.median['from_exec_ms']:.0f}"),
    ("process CPU ms", lambda row: f"{row.median['process_cpu_ms']:.0f}"),
    ("faults min/maj", lambda row: f"{row.median['minflt']:.0f}/{row.median['majflt']:.0f}"),
    ("PSS MB", lambda row: f"{row.median['pss_mb']:.0f}"),
    ("RSS MB", lambda row: f"{row.median['rss_mb']:.0f}"),
    ("anon MB", lambda row: f"{row.median['anon_mb']:.0f}"),
    ("peak RSS MB", lambda row: f"{row.median['peak_rss_mb']:.0f}"),
]
ON_THE_WIRE = [
    ("wire MB", lambda row: f"{row.median['wire_bytes'] / 1e6:.0f}"),
    ("requests", lambda row: f"{row.median['requests']:.0f}"),
]
NOTES = """Medians over the runs, each a fresh process, in random order. Wall and CPU run from after the imports (Python)
or after exec (Rust) until one byte of every page has been read; *from exec* includes interpreter and imports, *process
CPU* everything. All contestants had the same content, by checksum. *Hashes* says whether every byte was compared with a
hash in that time; a stamp stands for a comparison made earlier. Anon is memory no other process can share."""


def markdown(facts: dict, options: dict, table: list[Row], judged: list[Verdict], loss: str, remarks: list[str]) -> str:
    """The whole report."""
    parts = [heading(facts, options), NOTES.replace("\n", " ")]
    for state in sorted({row.state for row in table}):
        parts += [f"### {state}", state_table([row for row in table if row.state == state])]
    parts += ["### Promises", promises(judged), loss]
    if remarks:
        parts.append("\n".join(f"- {remark}" for remark in remarks))
    return "\n\n".join(parts) + "\n"


def heading(facts: dict, options: dict) -> str:
    """What was measured, where and when."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"## Bytes ready, {facts['bytes'] / 1e6:.0f} MB\n\n"
        f"{facts['date']}, {facts['cores']} cores of {facts['processor']}, {facts['memory_gib']} GiB, Linux"
        f" {facts['kernel']}, {facts['file_system']}, read-ahead {facts['read_ahead_kb']} KiB, THP {facts['thp']},"
        f" load average {facts['load_average']:.2f} at the start, {options['runs']} runs"
        f"{', FORCED on a busy machine: not for print' if options['force'] else ''}; {versions}."
    )


def state_table(table: list[Row]) -> str:
    """One state, the fastest first."""
    columns = COLUMNS + (ON_THE_WIRE if "wire_bytes" in table[0].median else [])
    lines = ["| | hashes | " + " | ".join(name for name, _ in columns) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(columns))
    for row in sorted(table, key=lambda row: row.wall_ms):
        name = f"**{row.name}**" if row.kind == "ours" else f"*{row.name}*" if row.kind == "floor" else row.name
        cells = [cell(row) for _, cell in columns]
        hashes = "yes" if row.verified else "stamp" if row.kind == "ours" else "no"
        lines.append(f"| {name} | {hashes} | " + " | ".join(cells) + " |")
    foreign = max(row.median["foreign_share"] for row in table)
    lines.append(f"\nOther processes took at most {foreign:.2f} cores (the highest median of a row).")
    return "\n".join(lines)


def promises(judged: list[Verdict]) -> str:
    """One line a promise."""
    lines = ["| promise | found | |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {one.promise} | {one.found} | {one.word} |" for one in judged])
