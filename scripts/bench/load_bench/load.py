"""Sends requests at a service, closed or open loop, and keeps what came of each.

Closed loop: `concurrency` clients, each sends its next request when the last one is answered. A slow service then slows
the load; it shows what the service can do.

Open loop (`rate`): requests are due at times fixed beforehand, whatever has become of the earlier ones, as users behave
that do not know of each other. A request's time counts from the moment when it was due, so that a stall of the service
is felt by every request that it delays, not by the one that met it. Nothing bounds how many are under way; what the
generator itself came too late with is measured (`lag`) and reported.

No request is repeated and no failure ends anything: each is counted by its kind.
"""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

from load_bench import cases
from load_bench.http import Connection, Failure

# After a connection was refused, a client of a closed loop waits so long: nothing else slows it down then.
REFUSED_SECONDS = 0.05


@dataclass
class Outcome:
    """One request: when it was due, sent and done, in seconds since the start; and what it brought."""

    due: float
    sent: float
    done: float
    request: cases.Request
    error: str = ""
    detail: str = ""
    tokens: int | None = None
    scores: list | None = None
    timing: str = ""


@dataclass
class Plan:
    """What to send, how."""

    url: str
    kind: cases.Kind
    requests: list
    count: int
    concurrency: int = 8
    rate: float = 0.0
    arrivals: str = "poisson"
    duration: float = 0.0
    timeout: float = 60.0
    seed: int = 7
    headers: dict = field(default_factory=dict)


def due_times(plan):
    """When requests of an open loop are due: evenly, or with the gaps of independent users."""
    choose, now, times = random.Random(plan.seed), 0.0, []
    while len(times) < plan.count and not (plan.duration and now >= plan.duration):
        times.append(now)
        now += 1 / plan.rate if plan.arrivals == "fixed" else choose.expovariate(plan.rate)
    return times


async def one(plan, connection, request, clock, due):
    """Sends a request and judges the answer."""
    outcome = Outcome(due=due, sent=clock(), done=0.0, request=request)
    headers = {"content-type": "application/json", "accept": "application/json", **plan.headers}
    try:
        answer = await connection.send("POST", plan.kind.path, request.body, headers, plan.timeout)
        outcome.done = clock()
        outcome.timing = answer.headers.get("server-timing", "")
        if answer.status != 200:
            outcome.error, outcome.detail = f"status_{answer.status}", answer.body[:200].decode("utf-8", "replace")
        else:
            outcome.scores, outcome.tokens = cases.scores_of(answer.body, request.documents, plan.kind.embeds)
    except Failure as failure:
        outcome.done, outcome.error, outcome.detail = clock(), failure.kind, str(failure)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        outcome.error, outcome.detail = "malformed", f"not the expected answer: {error}"
    return outcome


async def run(plan):
    """All outcomes, in the order in which they were done."""
    begun = time.perf_counter()

    def clock():
        return time.perf_counter() - begun

    return await (open_loop(plan, clock) if plan.rate else closed_loop(plan, clock))


async def closed_loop(plan, clock):
    """`concurrency` clients until the count, or the duration, is reached."""
    outcomes, numbers = [], iter(range(plan.count))

    async def client():
        connection = Connection(plan.url)
        try:
            for number in numbers:
                if plan.duration and clock() >= plan.duration:
                    return
                outcome = await one(plan, connection, plan.requests[number % len(plan.requests)], clock, clock())
                outcomes.append(outcome)
                if outcome.error == "refused":
                    await asyncio.sleep(REFUSED_SECONDS)
        finally:
            connection.close()

    await asyncio.gather(*(client() for _ in range(plan.concurrency)))
    return outcomes


async def open_loop(plan, clock):
    """Every request in its time, on whichever connection is free or on a new one."""
    outcomes, free, tasks = [], [], set()

    async def send(request, due):
        connection = free.pop() if free else Connection(plan.url)
        outcomes.append(await one(plan, connection, request, clock, due))
        free.append(connection)

    for number, due in enumerate(due_times(plan)):
        if (wait := due - clock()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(send(plan.requests[number % len(plan.requests)], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    return outcomes


async def ask_kind(url, path, model, headers, timeout):
    """(Kind, info): what /info says the service is or, of a service without /info, what its path says."""
    connection, info = Connection(url), {}
    try:
        answer = await connection.send("GET", "/info", headers=headers, timeout=timeout)
        found = json.loads(answer.body) if answer.status == 200 else {}
        info = found if isinstance(found, dict) else {}
    except (Failure, ValueError):
        pass
    finally:
        connection.close()
    embeds = "embed" in path if path else "embedding" in (info.get("model_type") or {})
    return cases.Kind(embeds, path or ("/v1/embeddings" if embeds else "/v1/rerank"), model), info


async def first_answer(plan, patience):
    """Cold start as a client sees it: from the first attempt, through refused connections, to the first good answer."""
    connection, begun = Connection(plan.url), time.perf_counter()

    def clock():
        return time.perf_counter() - begun

    attempts = 0
    while True:
        attempts += 1
        outcome = await one(plan, connection, plan.requests[0], clock, 0.0)
        if not outcome.error or clock() > patience or outcome.error not in ("refused", "closed", "status_502", "status_503"):
            connection.close()
            return outcome, attempts
        # A hundredth of what has passed, so that waiting adds at most that much to the figure.
        await asyncio.sleep(max(0.001, clock() / 100))
