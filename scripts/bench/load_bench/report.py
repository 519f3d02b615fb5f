"""What a person reads: a Markdown table, one line a run, and what else there is to know of each."""

NOTES = {
    "closed": "Closed loop: each client sends its next request when the last one is answered; times count from sending.",
    "open": "Open loop: requests are due at times fixed beforehand; times count from when a request was due, so a stall is"
    " felt by all that it delays. Lag is how late the generator itself was.",
}
COLUMNS = ("avg", "median", "p90", "p95", "p99", "max")


def number(value, digits=1):
    """A number as text for a cell."""
    return "-" if value is None else f"{value:,.{digits}f}"


def markdown(result):
    """The whole report."""
    facts, runs = result["facts"], result["runs"]
    parts = [
        f"## Load on {facts['model'] or facts['url']}",
        f"{facts['date']}, `{facts['path']}`, {facts['cores']} cores of {facts['processor']} on the side of the generator,"
        f" load average {facts['load_average']:.2f} at the start, {facts['cases']} cases.",
    ]
    if cold := result.get("cold_start"):
        failed = f" **failed: {cold['error']}**" if cold["error"] else ""
        boot = f" The service says: `{cold['server_timing']}`." if cold["server_timing"] else ""
        parts.append(f"First answer after {cold['first_answer_ms']:,.1f} ms ({cold['attempts']} attempts).{failed}{boot}")
    parts.append(table(runs))
    parts.append("Requests, documents and tokens a second are good answers / wall time. " + " ".join(
        NOTES[mode] for mode in sorted({run["mode"] for run in runs})
    ))
    for run in runs:
        parts += [f"`{run['name']}`: {line}" for line in remarks(run)]
    parts += [f"- {note}" for note in result["notes"]]
    if watched := result.get("metrics"):
        parts.append(metrics(watched))
    return "\n\n".join(parts) + "\n"


def table(runs):
    """One line a run."""
    heads = ["run", "documents", "clients or rate", "requests", "errors", *(f"{name} ms" for name in COLUMNS), "requests/s",
             "documents/s", "tokens/s", "nDCG@10"]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for run in runs:
        load = f"{run['rate_asked']:g}/s" if run["mode"] == "open" else str(run["concurrency"])
        latency = run["latency_ms"] or {}
        cells = [run["name"], number(run["documents_per_request"]), load, str(run["requests"]), str(run["errors"])]
        cells += [number(latency.get(name)) for name in COLUMNS]
        cells += [number(run["throughput_rps"], 2), number(run["documents_per_second"]), number(run["tokens_per_second"], 0),
                  number(run["ndcg_at_10"], 4)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def remarks(run):
    """Errors by kind, and whether the generator kept its times."""
    for kind, count in run["errors_by_kind"].items():
        yield f"{count} x {kind}, the first: {run['error_examples'][kind][:160]}"
    if lag := run.get("lag_ms"):
        service = run["service_ms"] or {}
        yield (f"lag p99 {lag['p99']:.1f} ms, most {lag['max']:.1f} ms; from sending to answer p50"
               f" {number(service.get('p50'))}, p99 {number(service.get('p99'))} ms")


def metrics(watched):
    """Two tables."""
    lines = [f"Metrics, {watched['samples']} looks:"]
    if watched["failures"]:
        lines.append(f"{watched['failures']['count']} looks failed, the first: {watched['failures']['first']}")
    if watched["gauges"]:
        rows = [f"| `{name}` | {value['avg']:g} | {value['max']:g} |" for name, value in watched["gauges"].items()]
        lines.append("\n".join(["| gauge | average | most |", "| --- | ---: | ---: |", *rows]))
    if watched["counters"]:
        rows = [f"| `{name}` | {value:g} |" for name, value in watched["counters"].items()]
        lines.append("\n".join(["| counter | grew by |", "| --- | ---: |", *rows]))
    return "\n\n".join(lines)
