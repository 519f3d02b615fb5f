"""Scores and vectors of a running function against what transformers computed, and of a large model against the CPU.

Golden models are tiny and stored in several precisions. They are packed in their own, so that only what is computed is
rounded, but for a CPU, whose engine has no f16. Scores are compared as they are served, in [0, 1], and raw as a figure.
A ranking is wrong only where two documents of a query change places that are further apart than twice the tolerance.
"""

import json
import math
import random

from gpu_bench.phases import Failed
from gpu_bench.service import Service, scores

TOLERANCE = 2e-2
RERANKERS = ("cross-encoder", "yes-no-logit")
EMBEDDERS = ("embedding-similarity",)
# A large model against the CPU: as many documents as a processor scores in seconds.
DOCUMENTS = 4


def golden(folder, kinds):
    """(name, golden.json) of the models of these kinds."""
    found = []
    for path in sorted(folder.glob("*/golden.json")):
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["kind"] in kinds:
            found.append((path.parent.name, value))
    return found


def sigmoid(raw):
    """A logit in [0, 1]."""
    return 1 / (1 + math.exp(-raw))


def out_of_order(expected, found, gap):
    """Pairs of places that changed order though they are further apart than `gap`."""
    places = range(len(expected))
    return [(a, b) for a in places for b in places if expected[a] - expected[b] > gap and found[a] < found[b]]


def rerankers(options, maker, figures):
    """All cases of all golden rerankers; worst differences by model."""
    wrong = []
    for name, model in golden(options.golden, RERANKERS):
        precision = maker.own_precision(options.golden / name) if options.own_precision else None
        snapshot = maker.pack(options.golden / name, name, precision=precision)
        cases = [case for case in model["cases"] if case["query"].strip()][: options.cases]
        by_query = {}
        settings = {"MAX_LENGTH": model["max_length"]} | options.settings
        with Service(options.function, snapshot, maker.folder, options.patience, **settings) as service:
            for case in cases:
                body = {"query": case["query"], "documents": [case["document"]], "raw_scores": True}
                body |= {"instruction": case["instruction"]} if case["instruction"] else {}
                (raw,) = scores(service.good("/v1/rerank", body))
                by_query.setdefault((case["query"], case["instruction"]), []).append((case["raw"], raw))
        pairs = [pair for some in by_query.values() for pair in some]
        worst = max(abs(sigmoid(a) - sigmoid(b)) for a, b in pairs)
        swapped = sum(len(out_of_order(*zip(*some, strict=True), 2 * TOLERANCE)) for some in by_query.values())
        worst_raw = max(abs(a - b) for a, b in pairs)
        figures[name] = {"precision": precision or maker.precision, "cases": len(pairs), "worst": worst, "worst_raw": worst_raw, "out_of_order": swapped}
        options.say(f"{name}: worst {worst:.1e}")
        if not worst <= TOLERANCE or swapped:
            wrong.append(f"{name}: {worst:.2e} from transformers, {swapped} pairs out of order")
    return wrong


def embedders(options, maker, figures):
    """All dense vectors of all golden embedders; the largest difference of any component, by model."""
    wrong = []
    for name, model in golden(options.golden, EMBEDDERS):
        wanted = json.loads((options.golden / name / "embeddings.json").read_text(encoding="utf-8"))
        precision = maker.own_precision(options.golden / name) if options.own_precision else None
        snapshot, worst, count = maker.pack(options.golden / name, name, precision=precision), 0.0, 0
        settings = {"ALLOW_EMPTY_INPUT": "true", "AUTO_TRUNCATE": "true", "MAX_LENGTH": wanted["max_length"]} | options.settings
        with Service(options.embed, snapshot, maker.folder, options.patience, **settings) as service:
            for case in wanted["cases"][: options.cases]:
                body = {"input": case["text"], "model": "any"} | prompted(case["prompt"], wanted["task"])
                found = service.good("/v1/embeddings", body)["data"][0]["embedding"]
                worst, count = max(worst, *(abs(a - b) for a, b in zip(found, case["dense"], strict=True))), count + 1
        figures[name] = {"cases": count, "worst": worst}
        options.say(f"{name}: worst {worst:.1e}")
        if not worst <= TOLERANCE:
            wrong.append(f"{name}: {worst:.2e} from transformers")
    return wrong


def prompted(kind, task):
    """How a request asks for a case's prompt."""
    if kind in ("query", "document"):
        return {"input_type": kind}
    return {"instruction": task} if kind == "instruct" else {"prompt": ""}


def golden_models(options, maker, figures):
    """The phase `correct`."""
    wrong = rerankers(options, maker, figures.setdefault("rerankers", {}))
    if options.embed:
        wrong += embedders(options, maker, figures.setdefault("embedders", {}))
    if wrong:
        raise Failed("; ".join(wrong))
    worst = max(one["worst"] for some in figures.values() for one in some.values())
    return f"{sum(map(len, figures.values()))} models, worst {worst:.1e}, tolerance {TOLERANCE:g}"


def words(seed, characters):
    """Text of made-up words, the same for the same seed, that shares no beginning with another."""
    choose, text = random.Random(seed), ""
    while len(text) < characters:
        text += "".join(choose.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(choose.randint(2, 9))) + " "
    return text[:characters]


def against_the_cpu(options, maker, large, figures):
    """A large model: the same pairs on the device and by the CPU's engine, from the same rounded weights."""
    length = 40 if options.dry_run else 200
    case = {"query": "which of these was written first?", "documents": [words(number, length) for number in range(DOCUMENTS)]}
    expected = maker.scores(maker.pack(large.checkpoint, large.name, "portable"), case)
    with Service(options.function, large.snapshot, maker.folder, options.patience, **options.settings) as service:
        found = scores(service.good("/v1/rerank", case))
    worst = max(abs(a - b) for a, b in zip(expected, found, strict=True))
    swapped = len(out_of_order(expected, found, 2 * TOLERANCE))
    figures[large.name] = {"worst": worst, "out_of_order": swapped, "cpu": expected, "device": found}
    if not worst <= TOLERANCE or swapped:
        raise Failed(f"{large.name}: {worst:.2e} from the CPU's, {swapped} pairs out of order")
    return f"{large.name}: {worst:.1e} from the CPU's"
