#!/usr/bin/env python3
"""Draws wall times as bars, one panel a state: python plot.py RESULT.json OUT.png (in the peers' environment)."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"ours": "#d1495b", "loader": "#8d99ae", "floor": "#cfd4dc"}
KINDS = {"ours": "defrost", "loader": "Python loaders", "floor": "no loader"}
ROW_INCHES = 0.27


def main():
    result = json.loads(Path(sys.argv[1]).read_text())
    states = sorted({row["state"] for row in result["rows"]}, key=lambda state: state != "warm")
    tallest = max(sum(row["state"] == state for row in result["rows"]) for state in states)
    figure, panels = plt.subplots(
        1, len(states), figsize=(7.5 * len(states), 1.6 + ROW_INCHES * tallest), squeeze=False, layout="constrained"
    )
    for panel, state in zip(panels[0], states, strict=True):
        rows = [row for row in result["rows"] if row["state"] == state]
        draw(panel, state, sorted(rows, key=lambda row: -row["median"]["wall_ms"]))
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[kind]) for kind in KINDS]
    handles.append(plt.Rectangle((0, 0), 1, 1, facecolor="white", edgecolor="black", hatch="////"))
    figure.legend(handles, [*KINDS.values(), "every byte hashed"], loc="outside lower center", ncols=4, frameon=False)
    facts, options = result["facts"], result["options"]
    forced = ", busy machine" if options["force"] else ""
    figure.suptitle(
        f"{facts['bytes'] / 1e6:.0f} MB of weights, until every page was read "
        f"(median of {options['runs']}, line to p95; {facts['cores']} cores, {facts['date']}{forced})",
        fontsize=10,
    )
    figure.savefig(sys.argv[2], dpi=130)


def draw(panel, state, rows):
    """One panel: a bar a contestant on a logarithmic axis, slowest at the bottom."""
    for place, row in enumerate(rows):
        wall = row["median"]["wall_ms"]
        hatch = "////" if row["verified"] else None
        panel.barh(place, wall, color=COLOURS[row["kind"]], edgecolor="white" if hatch else "none", hatch=hatch)
        panel.plot([wall, max(wall, row["p95_ms"])], [place, place], color="#333333", linewidth=1)
        figure = f"{wall:.0f}" if wall >= 100 else f"{wall:.1f}"
        panel.text(max(wall, row["p95_ms"]) * 1.06, place, figure, va="center", fontsize=8)
    panel.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    for label, row in zip(panel.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row["kind"] == "ours" else "normal")
    panel.set_xscale("log")
    panel.set_xlim(right=panel.get_xlim()[1] * 1.6)
    panel.set_xlabel("ms, logarithmic")
    panel.set_title(state, fontsize=10)
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    sys.exit(main())
