"""From starts to rows: distributions, phases, and whether all contestants compute the same scores."""

import json
import statistics
from pathlib import Path

from load_bench.stats import percentile

ROOT = Path(__file__).resolve().parents[3]
# f32 on different libraries differs by rounding; what a wrong pooling or truncation does is a hundred times as much.
TOLERANCE = 1e-3


def distribution(values):
    """Milliseconds over the starts."""
    ordered = sorted(values)
    figures = {"median": statistics.median(ordered), "min": ordered[0], "max": ordered[-1]}
    figures |= {f"p{share}": percentile(ordered, share) for share in (90, 95)}
    return {name: round(value, 3) for name, value in figures.items()}


def medians(runs):
    """Median of each figure that all runs have."""
    names = [name for name in runs[0] if all(name in run for run in runs)] if runs else []
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in names}


def phases(starts):
    """Medians of the `boot_…` times of Server-Timing, and what is left of the median first answer."""
    told = [{name[5:]: ms for name, ms in one["timing"].items() if name.startswith("boot_")} for one in starts]
    found = medians(told)
    if not found:
        return {}
    rest = statistics.median(one["first_answer_ms"] for one in starts) - sum(found.values())
    return found | {"elsewhere": round(max(0.0, rest), 3)}


def shown(contestant):
    """The command line without where this repository and home happen to be: reports travel."""
    line = " ".join([*(f"{name}={value}" for name, value in contestant.environment.items()), *map(str, contestant.command)])
    return line.replace(f"{ROOT}/", "").replace(f"{Path.home()}/", "~/")


def row(contestant, starts, failures):
    """One contestant."""
    seconds = [one["second_answer_ms"] for one in starts if one["second_answer_ms"] is not None]
    return {
        "name": contestant.name,
        "kind": contestant.kind,
        "ours": contestant.ours,
        "approximate": contestant.approximate,
        "command": contestant.url or shown(contestant),
        "failures": failures,
        "first_answer_ms": distribution([one["first_answer_ms"] for one in starts]),
        "connected_ms": distribution([one["connected_ms"] for one in starts]),
        "second_answer_ms": round(statistics.median(seconds), 3) if seconds else None,
        "phases_ms": phases(starts),
        "process": medians([one["process"] for one in starts]),
        "scores": starts[-1]["scores"],
        "starts": starts,
    }


def scores(body):
    """Scores by index out of an answer, or nothing if it is of another kind."""
    try:
        value = json.loads(body)
        results = value if isinstance(value, list) else value["results"]
        found = {one["index"]: float(one["relevance_score"] if "relevance_score" in one else one["score"]) for one in results}
    except (ValueError, KeyError, TypeError):
        return None
    return [found[place] for place in sorted(found)]


def agreement(rows, tolerance=TOLERANCE):
    """Differences from the reference, the first contestant that is neither approximate nor without scores.

    Returns lines {name, worst, judged, agrees}; several starts of one contestant must also agree among themselves.
    """
    compared = [one for one in rows if one["scores"] is not None]
    exact = [one for one in compared if not one["approximate"]]
    reference = next((one for one in exact if not one["ours"]), exact[0] if exact else None)
    if reference is None or len(compared) < 2:
        return []
    lines = []
    for one in compared:
        everything = [start["scores"] for start in one["starts"] if start["scores"] is not None]
        same_length = all(len(some) == len(reference["scores"]) for some in everything)
        pairs = [(a, b) for some in everything for a, b in zip(some, reference["scores"])]
        worst = max((abs(a - b) for a, b in pairs), default=0.0) if same_length else float("inf")
        order = lambda some: sorted(range(len(some)), key=lambda place: -some[place])  # noqa: E731
        lines.append({
            "name": one["name"],
            "reference": reference["name"],
            "worst": worst,
            "judged": not one["approximate"],
            "agrees": worst <= tolerance,
            "same_order": same_length and all(order(some) == order(reference["scores"]) for some in everything),
        })  # fmt: skip
    return lines
