"""Local restores: makes the checkpoint, runs the contestants in random order, collects the lines."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from lib import machine, page_cache
from loader_bench import contestants, memory, peer_env, runs
from loader_bench import rounds as all_rounds

# Memory that a run may need, in sizes of the checkpoint: file bytes and two copies.
FOOTPRINT = 3
# A stamp is not written for a file younger than 20 ms.
SETTLE_SECONDS = 0.1


def prepare(binary: Path, folder: Path, mib: int, venv: Path) -> dict:
    """Makes the checkpoint in all formats unless it is there, in a format of today; returns model.json."""
    listing = folder / "model.json"
    there = listing.exists() and json.loads(listing.read_text())["mib"] == mib
    if not there or not opens(binary, folder / "model.snap"):
        folder.mkdir(parents=True, exist_ok=True)
        print(f"making {mib} MiB in {folder}", file=sys.stderr)
        subprocess.run([binary, "make", folder, str(mib)], stdout=subprocess.DEVNULL, check=True)
        (folder / "model.tensors").unlink(missing_ok=True)
    if not (folder / "model.tensors").exists() and peer_env.imports(venv, "tensorizer"):
        script = Path(__file__).with_name("convert.py")
        files = [folder / "model.safetensors", folder / "model.tensors"]
        subprocess.run([peer_env.python(venv), script, *files], stdout=subprocess.DEVNULL, check=True)
    os.sync()
    return json.loads(listing.read_text())


def opens(binary: Path, snapshot: Path) -> bool:
    """Whether the binary at hand can read a snapshot."""
    return subprocess.run([binary, "defrost-stamped", snapshot], capture_output=True, check=False).returncode == 0


def measure(field: list, model: dict, states: list[str], rounds: int, seed: int) -> tuple[dict, list[str]]:
    """All lines by (name, state), and a remark for each contestant that failed."""
    cache, lines, remarks = page_cache.Cache(), {}, []
    if "fresh" in states:
        remarks += fresh(field, model, cache, lines)
    pairs = [(contestant, state) for contestant in field for state in states if state in contestant.states and state != "fresh"]
    reserve = memory.Reserve(FOOTPRINT * model["mib"])
    more, failures = all_rounds.measure(
        pairs, rounds, seed, lambda contestant, state: once(contestant, state, model, cache, reserve)
    )
    reserve.release()
    return lines | more, remarks + failures


def once(contestant, state: str, model: dict, cache, reserve) -> dict:
    """One run in one state."""
    cache.put(contestant.file, state)
    if contestant.name == "defrost stamped":
        ensure_stamp(contestant, state, model, cache)
    if reserve:
        reserve.take()
    line = runs.run([*contestant.command, str(contestant.file)], contestant.env, model["checksum"], reserve)
    if contestant.name == "defrost stamped" and line["verification"] != "stamped":
        raise runs.Failed(f"expected a restore by stamp, found {line['verification']}")
    return line


def ensure_stamp(contestant, state: str, model: dict, cache):
    """Opens the file once if this copy of it may have no stamp."""
    stat = contestant.file.stat()
    copy = (stat.st_ino, stat.st_ctime_ns)
    if cache.stamped.get(contestant.file) == copy:
        return
    time.sleep(SETTLE_SECONDS)
    runs.run([*contestant.command, str(contestant.file)], contestant.env, model["checksum"])
    cache.stamped[contestant.file] = copy
    if state == "cold":
        cache.put(contestant.file, state)


def fresh(field: list, model: dict, cache, lines: dict) -> list[str]:
    """One run each, warm, on memory that the host has not backed; remarks on those for whom none was left."""
    backed, remarks = memory.Backed(), []
    for done, contestant in enumerate(contestant for contestant in field if "fresh" in contestant.states):
        all_rounds.progress(done, len(field), f"{contestant.name}, fresh")
        try:
            cache.put(contestant.file, "fresh")
            backed.settle()
            backed.hold_all(FOOTPRINT * model["mib"])
            lines.setdefault((contestant.name, "fresh"), []).append(once(contestant, "fresh", model, cache, None))
        except (memory.NoneLeft, runs.Failed, page_cache.WrongState) as error:
            remarks.append(f"not measured: {contestant.name}, fresh: {error}")
    backed.release()
    return remarks


def field(binary: Path, folder: Path, venv: Path, only: list[str]) -> tuple[list, list[str]]:
    """The contestants that can run, or those whose name holds one of `only`; and a line for each that cannot."""
    peers, missing = contestants.loaders(folder, venv)
    lineup = contestants.ours(binary, folder) + peers + contestants.plain(binary, folder, venv)
    chosen = [contestant for contestant in lineup if not only or any(part in contestant.name for part in only)]
    return chosen, missing


def facts(folder: Path, venv: Path, model: dict) -> dict:
    """What the report says about the machine and the versions."""
    return machine.facts(folder) | {"versions": peer_env.versions(venv), "bytes": model["bytes"]}
