"""From outcomes to figures.

Rates are n / wall, from the first request due to the last one done, never n / sum of times: the latter ignores that
requests overlap. Times are of good answers only, from when a request was due (open loop) or sent (closed loop).
"""

import math
import statistics
from collections import Counter, defaultdict

from load_bench import cases

PERCENTILES = (50, 90, 95, 99)


def percentile(ordered, share):
    """Nearest rank: the least value that at least `share` of a hundred of all do not exceed; a value that occurred."""
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)]


def times(seconds):
    """Milliseconds: average, median, percentiles, most; None without values."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    figures = {"avg": statistics.fmean(ordered), "median": statistics.median(ordered), "min": ordered[0], "max": ordered[-1]}
    figures |= {f"p{share}": percentile(ordered, share) for share in PERCENTILES}
    return {name: round(value * 1e3, 3) for name, value in figures.items()}


def summary(plan, outcomes, all_cases):
    """One run as JSON."""
    good = [one for one in outcomes if not one.error]
    wall = max((one.done for one in outcomes), default=0.0) - min((one.due for one in outcomes), default=0.0)
    kinds = Counter(one.error for one in outcomes if one.error)
    rate = lambda amount: round(amount / wall, 3) if wall > 0 else None  # noqa: E731
    tokens = [one.tokens for one in good]
    result = {
        "requests": len(outcomes),
        "ok": len(good),
        "errors": len(outcomes) - len(good),
        "errors_by_kind": dict(sorted(kinds.items())),
        "error_examples": {kind: next(one.detail for one in outcomes if one.error == kind) for kind in sorted(kinds)},
        "mode": "open" if plan.rate else "closed",
        "concurrency": None if plan.rate else plan.concurrency,
        "rate_asked": plan.rate or None,
        "documents_per_request": round(statistics.fmean(one.request.documents for one in outcomes), 2) if outcomes else None,
        "wall_seconds": round(wall, 6),
        "throughput_rps": rate(len(good)),
        "documents_per_second": rate(sum(one.request.documents for one in good)),
        "tokens_per_second": rate(sum(tokens)) if good and None not in tokens else None,
        "latency_ms": times([one.done - one.due for one in good]),
        "ndcg_at_10": quality(good, all_cases),
    }
    if plan.rate:
        result["service_ms"] = times([one.done - one.sent for one in good])
        result["lag_ms"] = times([one.sent - one.due for one in outcomes])
    return result


def quality(good, all_cases):
    """Mean nDCG@10 over the cases of which all pieces were answered; None if none has judgements."""
    pieces = defaultdict(dict)
    for one in good:
        if one.scores is not None:
            pieces[one.request.case][one.request.first] = one.scores
    found = []
    for number, case in enumerate(all_cases):
        if "relevance" not in case:
            continue
        scores = [score for _, some in sorted(pieces[number].items()) for score in some]
        if len(scores) == len(case["documents"]):
            value = cases.ndcg(case["relevance"], scores)
            found += [value] if value is not None else []
    return round(statistics.fmean(found), 4) if found else None
