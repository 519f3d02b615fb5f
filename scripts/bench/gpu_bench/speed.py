"""Starts by phases, and throughput: eager, compiled, candle and transformers, beside the card's own rate.

Throughput is that of whole requests over HTTP from several clients, as a service has it: documents of so many tokens
each, no two with a common beginning, for some seconds after one request that does not count. Tokens are those that the
function itself counts. Eager is measured in the first seconds of its process, before what it compiles behind its
answers is used.
"""

import json
import subprocess
import time
from pathlib import Path

from cold_bench.figures import distribution, medians
from gpu_bench.correct import words
from gpu_bench.models import flops
from gpu_bench.phases import Skipped
from gpu_bench.service import Service, together
from lib import CannotCheck

PEER = Path(__file__).with_name("torch_peer.py")
# As many requests under way as keep the queue from running dry between two passes.
CLIENTS = 3
QUERY = "what is it?"
WAYS = {"eager": {"FAST_BOOT": "true"}, "compiled": {"FAST_BOOT": "false"}, "candle": {"BACKEND": "candle"}}


def starts(options, maker, large, figures):
    """The phase `starts`: exec to first score, again and again, page cache warm."""
    rows = []
    start = lambda: Service(options.function, large.snapshot, maker.folder, options.patience, FAST_BOOT="true", **options.settings)  # noqa: E731
    with start() as service:
        service.first_score()
    for number in range(options.starts):
        with start() as service:
            took, phases, scores = service.first_score()
            boot = service.health()["boot"]
        ready = 1e3 * (boot["ready_seconds"] or 0)
        rows.append({"first_score_ms": took, "phases_ms": phases, "scores": scores, "ready_ms": ready})
        figures |= {
            "model": large.name,
            "first_score_ms": distribution([row["first_score_ms"] for row in rows]),
            "phases_ms": medians([row["phases_ms"] for row in rows]),
            "starts": rows,
        }
        options.say(f"start {number + 1} of {options.starts}: {took:.0f} ms")
    if len({json.dumps(row["scores"]) for row in rows}) > 1:
        raise CannotCheck("the first score differs between starts: " + ", ".join(str(row["scores"]) for row in rows))
    told = ", ".join(f"{name} {ms:.0f}" for name, ms in figures["phases_ms"].items())
    return f"median {figures['first_score_ms']['median']:.0f} ms of {len(rows)}: {told}"


def bodies(service, documents, tokens, count):
    """Requests of so many documents of so many tokens each, as the function counts them."""

    def tokens_of(text):
        return service.good("/v1/rerank", {"query": QUERY, "documents": [text]})["usage"]["total_tokens"]

    # A token a character where the model is synthesised; otherwise about as many as the slope says.
    few, many = tokens_of(words(1, 40)), tokens_of(words(2, 140))
    slope = (many - few) / 100
    length = max(1, round(40 + (tokens - few) / slope)) if slope > 0 else tokens
    return [
        {"query": QUERY, "documents": [words(f"{number} {place}", length) for place in range(documents)]}
        for number in range(count)
    ]


def measure(options, large, maker, seconds, **settings):
    """Rates of one way to run the model."""
    with Service(options.function, large.snapshot, maker.folder, options.patience, **options.settings, **settings) as service:
        service.ready()
        device = service.health().get("device")
        made = bodies(service, options.documents, options.tokens, CLIENTS + 1)
        service.good("/v1/rerank", made[0])
        begun, tokens, answered = time.perf_counter(), 0, 0

        def client(body):
            found = []
            while not found or time.perf_counter() - begun < seconds:
                found.append(service.good("/v1/rerank", body)["usage"]["total_tokens"])
            return found

        for found in together(service, client, made[1:], CLIENTS):
            tokens, answered = tokens + sum(found), answered + len(found)
        wall = time.perf_counter() - begun
    return rates(large.config, answered * options.documents, tokens, wall) | {"device": device, "requests": answered}


def rates(config, documents, tokens, wall):
    """Documents, tokens and nominal operations a second."""
    each = tokens / documents
    return {
        "documents_per_s": round(documents / wall, 3),
        "tokens_per_s": round(tokens / wall, 1),
        "tokens_per_document": round(each, 1),
        "tflops": round(documents * flops(config, each) / wall / 1e12, 4),
    }


def throughput(options, maker, larges, figures):
    """The phase `throughput`."""
    # The first part that ends late must not take all of the time: each has its share.
    seconds = options.throughput_seconds
    for large in larges:
        found = figures.setdefault(large.name, {})
        for way, settings in WAYS.items():
            # What one way keeps for later starts must not make another faster.
            settings = settings | {"CACHE_DIR": maker.folder / f"cache-{way}"}
            try:
                found[way] = measure(options, large, maker, seconds, **settings)
            except CannotCheck as error:
                if way != "candle":
                    raise
                found[way] = {"skipped": str(error)[-300:]}
            options.say(f"{large.name} {way}: {shown(found[way])}")
        try:
            found["transformers"] = peer(options, large, seconds)
        except Skipped as error:
            found["transformers"] = {"skipped": str(error)}
        options.say(f"{large.name} transformers: {shown(found['transformers'])}")
        compare(found)
    ways = lambda found: ", ".join(f"{way} {shown(one)}" for way, one in found.items() if isinstance(one, dict))  # noqa: E731
    return "; ".join(f"{name}: {ways(found)}" for name, found in figures.items())


def compare(found):
    """Ratios that the goals are about, where both sides are there."""
    rate = lambda way: found.get(way, {}).get("documents_per_s")  # noqa: E731
    if rate("compiled"):
        found["eager_of_compiled"] = round(rate("eager") / rate("compiled"), 3)
        if rate("transformers"):
            found["compiled_over_transformers"] = round(rate("compiled") / rate("transformers"), 3)
        if card := found.get("transformers", {}).get("matmul_tflops"):
            found["share_of_the_card"] = round(found["compiled"]["tflops"] / card, 3)


def shown(one):
    """A rate in words, or why there is none."""
    return f"{one['documents_per_s']:.1f} documents/s" if "documents_per_s" in one else f"skipped ({one['skipped']})"


def peer(options, large, seconds):
    """transformers on the same card, in a process of its own, and what a plain product reaches there."""
    if not options.peers:
        raise Skipped("--dry-run or --no-peers")
    command = [options.torch_python, PEER, "--checkpoint", large.checkpoint, "--documents", options.documents]
    command += ["--tokens", options.tokens, "--seconds", seconds]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:300])
    found = json.loads(done.stdout)
    return found | rates(large.config, found["documents"], found["documents"] * options.tokens, found["wall"])
