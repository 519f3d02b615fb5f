"""Plots of bench_load, cold_start and scale_out as PNG: `draw` makes one from a result.

matplotlib lives in an environment of its own, ~/.cache/defrost-plot-venv, made the first time; `draw` runs this file
there. By hand, with matplotlib: PYTHONPATH=scripts python3 -m lib.plots KIND RESULT.json OUT.png. Times are on a
logarithmic axis that says so. Nothing on it is a bar, whose length would mean nothing there: each start or request is a
dot or a step, medians are marks with their figure beside them.
"""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from lib import ROOT
from lib.served import python_with

VENV = Path.home() / ".cache" / "defrost-plot-venv"
REQUIREMENTS = ["matplotlib==3.11.2", "numpy==2.4.6"]
OURS, OTHERS, LIGHT = "#d1495b", "#4a5568", "#8d99ae"
SERIES = ("#d1495b", "#2a6f97", "#e09f3e", "#588157", "#7b2cbf", "#4a5568")
# What contestants tell, gathered: a contestant that imports nothing has no name for it, and each has another for the
# rest.
GROUPS = {
    "interpreter or loader": "#264653",
    "imports": "#2a9d8f",
    "tokenizer": "#8ab17d",
    "weights": "#e9c46a",
    "set up": "#f4a261",
    "first score": "#d1495b",
    "elsewhere": "#cfd4dc",
}
PHASES = {"exec": "interpreter or loader", "tokenizer": "tokenizer", "restore": "weights", "model": "weights",
          "first_score": "first score", "elsewhere": "elsewhere"}  # fmt: skip
PERCENTILES = {"p50": "#d1495b", "p95": "#2a6f97", "p99": "#4a5568", "max": "#8d99ae"}
PANELS_IN_A_ROW, TITLE_CHARS = 3, 44
DPI = 130


def draw(kind, result, out):
    """Draws a result into a PNG, in the environment of the plots."""
    python = python_with(VENV, REQUIREMENTS)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as scratch:
        json.dump(result, scratch)
        scratch.flush()
        command = [python, "-m", "lib.plots", kind, scratch.name, out]
        subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")}, check=True)


def milliseconds(value):
    """Milliseconds as text, as short as three digits allow."""
    if value >= 10_000:
        return f"{value / 1e3:.1f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def group_of(phase):
    """The group of GROUPS that a phase belongs to."""
    return PHASES.get(phase, "imports" if phase.startswith("import") else "set up")


def axis_of_times(axis, which):
    """Logarithmic, whole decades labelled in plain figures, and named so."""
    from matplotlib.ticker import FuncFormatter, LogFormatter, LogLocator

    getattr(axis, f"set_{which}scale")("log")
    its = getattr(axis, f"{which}axis")
    its.set_major_locator(LogLocator(numticks=12))
    its.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    # Within a decade or two the figures between are labelled as well.
    its.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    axis.grid(axis=which, which="major", color="#e2e8f0", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def cold(plt, result):
    """Left: every start of every contestant. Right: the phases that contestants tell, as shares of their own time."""
    rows = sorted(result["rows"], key=lambda row: -row["first_answer_ms"]["median"])
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 1.9 + 0.55 * len(rows)), width_ratios=(3, 2), layout="constrained", sharey=True
    )
    for place, row in enumerate(rows):
        values = [run["first_answer_ms"] for run in row["starts"]]
        colour = OURS if row["ours"] else OTHERS
        # Spread over the row's height in the order of starts, so that equal ones can be told apart.
        heights = [place - 0.25 + 0.5 * (n + 0.5) / len(values) for n in range(len(values))]
        left.plot(values, heights, "o", markersize=3.2, color=colour, alpha=0.45, markeredgewidth=0)
        median = row["first_answer_ms"]["median"]
        left.plot([median, median], [place - 0.36, place + 0.36], color=colour, linewidth=2.2)
        left.annotate(milliseconds(median), (max(values), place), (6, 0), textcoords="offset points", va="center", fontsize=9)
    left.set_yticks(range(len(rows)), [row["name"] for row in rows])
    for label, row in zip(left.get_yticklabels(), rows):
        label.set_fontweight("bold" if row["ours"] else "normal")
    axis_of_times(left, "x")
    low, high = left.get_xlim()
    left.set_xlim(low * 0.8, high * 2)
    left.set_xlabel("ms to the first answer, logarithmic; a dot a start, a line the median")
    for place, row in enumerate(rows):
        total, begun = row["first_answer_ms"]["median"], 0.0
        for group, colour in GROUPS.items():
            share = 100 * sum(ms for name, ms in row["phases_ms"].items() if group_of(name) == group) / total
            right.barh(place, share, left=begun, height=0.6, color=colour)
            begun += share
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in GROUPS.values()]
    right.legend(handles, GROUPS, fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    right.set_xlim(0, 100)
    right.set_xlabel("% of the median, linear, as contestants tell it")
    right.spines[["top", "right"]].set_visible(False)
    facts = result["facts"]
    busy = "; BUSY MACHINE, not for print" if result.get("forced") else ""
    figure.suptitle(
        f"Cold start to first answer, page cache {result['page_cache']}, {facts['cores']} cores, {facts['date']},"
        f" {result['runs']} interleaved starts{busy}",
        fontsize=10.5,
    )
    return figure


def load(plt, result):
    """Share of requests answered within a time, one step line a run."""
    figure, axis = plt.subplots(figsize=(8.5, 5), layout="constrained")
    drawn = [run for run in result["runs"] if result["latencies_ms"][run["name"]]]
    for number, run in enumerate(drawn):
        values = sorted(result["latencies_ms"][run["name"]])
        shares = [100 * (place + 1) / len(values) for place in range(len(values))]
        style = ("-", "--", ":")[number // len(SERIES) % 3]
        label = f"{run['name']} ({len(values)} ok, {run['errors']} errors)"
        axis.step(values, shares, where="post", color=SERIES[number % len(SERIES)], linestyle=style, label=label)
    axis_of_times(axis, "x")
    axis.set_ylim(0, 101)
    axis.set_xlabel("ms, logarithmic")
    axis.set_ylabel("% of good answers within")
    axis.set_title(f"{result['facts']['model'] or result['facts']['url']}, {result['facts']['date']}", fontsize=10)
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def scale(plt, result):
    """Percentiles of first answers over the number of simultaneous starts, one panel a scenario."""
    scenarios = result["scenarios"]
    columns = min(len(scenarios), PANELS_IN_A_ROW)
    rows = -(-len(scenarios) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(4.6 * columns, 0.5 + 3.7 * rows), squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for unused in panels.flat[len(scenarios) :]:
        unused.set_visible(False)
    for panel, scenario in zip(panels.flat, scenarios):
        counts = [row["starts"] for row in scenario["rows"]]
        for name, style in (("p50", "-"), ("p95", "--"), ("p99", "-."), ("max", ":")):
            values = [row["first_answer_ms"][name] for row in scenario["rows"]]
            panel.plot(counts, values, style, color=PERCENTILES[name], marker="o", markersize=3, label=name)
        axis_of_times(panel, "y")
        axis_of_times(panel, "x")
        panel.set_xlabel("simultaneous requests, logarithmic")
        panel.set_title(textwrap.fill(scenario["name"], TITLE_CHARS), fontsize=9.5)
    for panel in panels[:, 0]:
        panel.set_ylabel("ms to first answer, logarithmic")
    panels[0][0].legend(frameon=False)
    figure.suptitle(
        f"SIMULATED, assumptions of {result['assumptions_date']}: {result['snapshot_bytes'] / 1e6:.0f} MB snapshot", fontsize=10.5
    )
    return figure


def main():
    """Command line."""
    kinds = {"cold": cold, "load": load, "scale": scale}
    if len(sys.argv) != 4 or sys.argv[1] not in kinds:
        print(f"usage: python3 -m lib.plots {'|'.join(kinds)} RESULT.json OUT.png", file=sys.stderr)
        return 2
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure = kinds[sys.argv[1]](plt, json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
    figure.savefig(sys.argv[3], dpi=DPI, facecolor="white")
    return 0


if __name__ == "__main__":
    sys.exit(main())
