"""Rounds of all contestants in every setting, in a new random order each round, so that slow drifts hit all alike."""

import random
import sys

from lib import page_cache
from loader_bench import runs


def measure(pairs: list, rounds: int, seed: int, once) -> tuple[dict, list[str]]:
    """Calls `once(contestant, setting)` for all pairs in each round.

    Returns all lines by (name, setting), and a remark for each contestant that failed, which is not tried again.
    """
    lines, remarks, failed = {}, [], set()
    order, pairs = random.Random(seed), list(pairs)
    for number in range(rounds):
        order.shuffle(pairs)
        for done, (contestant, setting) in enumerate(pairs):
            progress(number * len(pairs) + done, rounds * len(pairs), f"{contestant.name}, {setting}")
            if contestant.name in failed:
                continue
            try:
                line = once(contestant, setting)
            except page_cache.WrongState as error:
                # Another process needed the memory; the next round may have better luck.
                remarks.append(f"left out, round {number + 1}: {contestant.name}, {setting}: {error}")
                continue
            except runs.Failed as error:
                failed.add(contestant.name)
                remarks.append(f"failed: {contestant.name}, {setting}: {error}")
                continue
            lines.setdefault((contestant.name, setting), []).append(line)
    progress(1, 1, "done")
    return lines, remarks


def progress(done: int, total: int, what: str):
    """One line on a terminal, nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{done}/{total} {what}", end="" if done < total else "\n", file=sys.stderr, flush=True)
