"""What shows only in time or at the edge: memory over thousands of requests, and too little of the card's memory."""

import json
import random
import subprocess
import time

from gpu_bench.correct import words
from gpu_bench.phases import Failed
from gpu_bench.service import PAIR, Service, scores, together

CLIENTS = 8
TENTHS = 10
# Documents of a request, and most characters of one: three million tokens in all, which an L4 computes within the time.
COUNTS, LONGEST = (1, 1, 1, 2, 3, 10), 150
# Buffers grow to the largest request in the first tenths.
GROWING = 3
# 100 bytes lost a request would be this much over 10,000; the driver hands out memory of the card in pieces of 2 MiB.
HOST_SLACK, DEVICE_SLACK = 2**20, 2 * 2**20
MIB = 2**20
# Documents, and characters of each, of the request that is to be too large for what is left of the card: in one pass, 8
# GB between the products of a model of 0.5B. In a dry run the processor computes it.
MANY, LONG = 400, 1000
FEW, SHORT = 200, 60
# One more tenth is begun if there is time for this many like the last.
SPARE = 1.5
# What the card's load is told under, by the names that other services' benches read.
METRICS = ("nvml_gpu_utilization", "nvml_memory_used_bytes")


def device_used():
    """Bytes in use on the first card, by the driver; None without one."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return int(done.stdout.split()[0]) * MIB if done.returncode == 0 and done.stdout.strip() else None


def own_bytes(pid):
    """Memory of the process's own, not that of mapped files."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))


def body(seed, longest):
    """A request of a random shape; few of them are refused."""
    choose = random.Random(seed)
    count = choose.choice(COUNTS)
    documents = [words(f"{seed} {place}", choose.randint(1, longest)) for place in range(count)]
    return {"query": words(seed, 30), "documents": [] if choose.random() < 0.02 else documents}


def grown(samples, slack):
    """How much the last sample is above the highest of the settled ones before it, beyond the slack; 0 if it is not."""
    settled = samples[GROWING:-1]
    return max(0, samples[-1] - max(settled) - slack) if settled and None not in samples else 0


def memory(options, maker, large, figures):
    """The phase `memory`. Where the time is too short for all requests it judges those that there were."""
    share, longest = max(1, options.requests // TENTHS // CLIENTS), SHORT if options.dry_run else LONGEST
    figures |= {"requests": 0, "own_bytes": [], "device_bytes": [], "statuses": {}}
    with Service(options.function, large.snapshot, maker.folder, options.patience, **options.settings) as service:
        service.ready()

        def client(seed):
            return [service.ask("POST", "/v1/rerank", body(f"{seed} {number}", longest))[0] for number in range(share)]

        for tenth in range(TENTHS):
            begun = time.monotonic()
            for statuses in together(service, client, range(tenth * CLIENTS, (tenth + 1) * CLIENTS), CLIENTS):
                for status in statuses:
                    figures["statuses"][status] = figures["statuses"].get(status, 0) + 1
            figures["requests"] = sum(figures["statuses"].values())
            figures["own_bytes"].append(own_bytes(service.process.pid))
            figures["device_bytes"].append(device_used())
            options.say(f"{figures['requests']} requests, {figures['own_bytes'][-1] / MIB:.1f} MiB of its own")
            if options.left() < SPARE * (time.monotonic() - begun):
                break
        said = json.dumps(service.ask("GET", "/metrics?format=json")[2])
    figures["metrics_missing"] = [name for name in METRICS if name not in said]
    figures["host_growth"] = grown(figures["own_bytes"], HOST_SLACK)
    figures["device_growth"] = grown(figures["device_bytes"], DEVICE_SLACK)
    if unexpected := set(figures["statuses"]) - {200, 400, 422}:
        raise Failed(f"answers with {sorted(unexpected)} among {figures['statuses']}")
    if (options.card_bytes or options.settings.get("DEVICE") == "emulated") and figures["metrics_missing"]:
        raise Failed(f"/metrics lacks {', '.join(figures['metrics_missing'])}")
    # A few requests show no trend: buffers still grow to the largest.
    if not options.dry_run and (figures["host_growth"] or figures["device_growth"]):
        raise Failed(f"memory grows: {figures['own_bytes']} of its own, {figures['device_bytes']} on the card")
    return f"{figures['requests']} requests, {figures['own_bytes'][-1] / MIB:.1f} MiB of its own at the end"


def fraction(snapshot_bytes, total_bytes):
    """GPU_MEMORY_FRACTION that leaves room for the weights and little else."""
    return min(0.9, round((snapshot_bytes * 1.1 + 256 * MIB) / total_bytes, 4))


def out_of_memory(options, maker, large, figures):
    """The phase `out_of_memory`: what is too large for the card is refused or cut into passes, and life goes on."""
    settings = {"MAX_BATCH_TOKENS": str(MANY * LONG), "MAX_BYTES_IN_FLIGHT": str(2**30)} | options.settings
    if options.card_bytes:
        settings["GPU_MEMORY_FRACTION"] = str(fraction(large.snapshot.stat().st_size, options.card_bytes))
    if emulated := options.settings.get("DEVICE") == "emulated":
        settings |= {"EMULATED_MEMORY": str(large.snapshot.stat().st_size + MIB), "GPU_MEMORY_FRACTION": "1"}
    figures["settings"] = settings
    documents, characters = (FEW, SHORT) if options.dry_run else (MANY, LONG)
    huge = {"query": "which?", "documents": [words(number, characters) for number in range(documents)]}
    with Service(options.function, large.snapshot, maker.folder, options.patience, **settings) as service:
        before = scores(service.good("/v1/rerank", PAIR))
        status, headers, answer = service.ask("POST", "/v1/rerank", huge)
        figures |= {"documents": documents, "status": status, "retry_after": headers.get("retry-after")}
        figures["said"] = str(answer)[:300] if status != 200 else ""
        after = scores(service.good("/v1/rerank", PAIR))
        # The emulated card has room for each document and not for all at once, so they are run in parts.
        if status not in ((200,) if emulated else (200, 503)):
            raise Failed(f"expected 200{'' if emulated else ', or 503 where a document does not fit'}, found {status}: {figures['said']}")
        if status == 200 and len(answer["results"]) != documents:
            raise Failed(f"expected the scores of {documents} documents, found {len(answer['results'])}")
        if after != before:
            raise Failed(f"the score after it is {after}, was {before}")
    return f"{documents} documents: {status}; the score after it is the one before"
