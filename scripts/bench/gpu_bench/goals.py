"""What was promised, beside what was found. A goal whose figure is missing is not met, and says so."""

# Name, phase, path to the figure, whether at most or at least, limit.
GOALS = (
    ("first score, ms", "starts", ("first_score_ms", "median"), "at most", 700.0),
    ("context, ms", "starts", ("phases_ms", "context"), "at most", 350.0),
    ("compiled, share of the card's bf16 rate", "throughput", ("share_of_the_card",), "at least", 0.45),
    ("compiled over transformers", "throughput", ("compiled_over_transformers",), "at least", 2.0),
    ("eager of compiled", "throughput", ("eager_of_compiled",), "at least", 0.6),
    ("requests with memory flat", "memory", ("requests",), "at least", 10_000),
)


# The model of throughput's goals: a cross-encoder, of which every token of every document is computed. A decoder shares
# the beginning of its prompt among all documents, and would show more than the card's rate.
MODEL = "bge-reranker-v2-m3"


def judge(run):
    """A row for each goal."""
    rows = []
    for name, phase, path, sense, limit in GOALS:
        figures = run.figures(phase)
        value = figures.get(MODEL, {}) if phase == "throughput" else figures
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if phase == "memory" and run.results.get(phase, {}).get("state") != "passed":
            value = None
        met = value is not None and (value <= limit if sense == "at most" else value >= limit)
        rows.append({"goal": name, "found": value, "wanted": f"{sense} {limit:g}", "met": met})
    return rows
