"""bench_decode: what contestants print is read, what they do not print is told, the table says what was measured."""

import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "bench_decode"
DONE = {
    "event": "done", "first": 7, "prefill_per_s": 100.0, "decode_per_s": {"128": 12.0, "4096": 6.0},
    "memory": {"own_mib": 30, "mapped_mib": 500}, "system": "a kernel",
}  # fmt: skip


@pytest.fixture(scope="module")
def bench():
    loader = importlib.machinery.SourceFileLoader("bench_decode", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_decode", loader))
    loader.exec_module(module)
    return module


def saying(*lines, code=0):
    """A process that prints these lines of JSON."""
    program = f"import sys; print({chr(10).join(map(json.dumps, lines))!r}); sys.exit({code})"
    return [sys.executable, "-c", program]


def test_a_contestant_is_timed_to_its_first_line(bench):
    told = bench.measure("x", saying({"event": "first_token", "loaded_s": 0.5}, DONE))
    assert told["first_token_s"] > 0
    assert (told["loaded_s"], told["first"], told["decode_per_s"]["128"]) == (0.5, 7, 12.0)


@pytest.mark.parametrize(
    "command",
    [saying({"event": "first_token"}), saying({"event": "first_token"}, DONE, code=3), saying(DONE, {"event": "first_token"})],
)
def test_one_that_says_something_else_ends_the_run(bench, command):
    with pytest.raises(SystemExit, match="expected two lines"):
        bench.measure("x", command)


def test_the_table_has_medians_bounds_and_who_answered_otherwise(bench):
    def run(rate, first, **more):
        return DONE | {"first_token_s": 0.1, "first": first, "decode_per_s": {"128": rate}} | more

    ours = [run(rate, 7, read_gb_per_s=20.0) for rate in (30.0, 20.0, 25.0)]
    theirs = [run(10.0, 8, imported_s=0.4)] * 3
    told = {
        "machine": {"processor": "P", "cores": 2, "date": "today", "load_average": 0.1}, "gguf": "m.gguf",
        "gguf_bytes": 500_000_000, "snapshot_bytes": 500_000_000,
        "rounds": [{"defrost": one, "llama.cpp": two} for one, two in zip(ours, theirs)], "streams": [], "soak": None,
    }  # fmt: skip
    table = bench.report(told)
    assert "| decode at 128, tokens/s | 25 ± 20 % | 10 ± 0 % |" in table
    # 20 GB/s over half a GB are 40 tokens a second.
    assert "| decode at 128, of the bound 40.0 | 62 % | 25 % |" in table
    assert "| of which imported, ms |  | 400 ± 0 % |" in table
    assert "differs" in table and "not for print" not in table
    told["machine"]["load_average"] = 3.0
    assert "not for print" in bench.report(told) and "streams" not in bench.report(told)


def test_streams_and_a_soak_have_lines_of_their_own(bench):
    def streams(together):
        names = ("one_per_s", "gap_p50_ms", "gap_p99_ms", "prompt", "prompt_s", "beside_p50_ms", "beside_p99_ms", "p99_over_p50")
        return {"event": "streams", "streams": 16, "together_per_s": together, "times": together / 50} | dict.fromkeys(names, 2.0)

    lines = "\n".join(bench.of_streams([streams(rate) for rate in (300.0, 200.0, 250.0)]))
    assert "16 streams: 250.0 tokens/s together, 5.00 times one stream's 2.0" in lines
    assert "2.0 (p99), 2.00 times the usual" in lines
    assert bench.many(saying({"event": "soak", "held": 0})) == {"event": "soak", "held": 0}


def test_every_contestant_gets_the_same_numbers(bench):
    class Arguments:
        ask, prompt, depths, tokens, threads = 3, 4, "5,6", 7, 2
        peer, gguf, flash = Path("python"), Path("m.gguf"), ["auto", "off"]

    commands = bench.contestants(Arguments, Path("target/release"), Path("m.snap"))
    assert sorted(commands) == ["defrost", "llama.cpp", "llama.cpp, flash off"]
    assert commands["defrost"][-5:] == ["ask=3", "prompt=4", "depths=5,6", "tokens=7", "threads=2"]
    for name in ("llama.cpp", "llama.cpp, flash off"):
        assert " ".join(commands[name]).endswith("--ask 3 --prompt 4 --depths 5,6 --tokens 7 --threads 2")
