"""gpu_check: its parts by hand, a whole dry run over a real function on the CPU, and functions that do it wrong."""

import json
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import BENCH, script
from gpu_bench import correct, goals, lasting, models, phases, service, speed
from lib import ROOT

# A function that listens as ours do, and then does what WRONG says with large requests.
FUNCTION = """#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(200, {{"device": "stub", "boot": {{"ready_seconds": 0.1}}}})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        large, wrong = len(body["documents"]) > 1, os.environ.get("WRONG")
        if large and wrong == "dies":
            print("the device is lost", file=sys.stderr, flush=True)
            os._exit(3)
        if large and wrong in ("500", "503"):
            return self.reply(int(wrong), {{"error": {{"message": "out of memory"}}}})
        score = 0.25 if large or not Handler.hurt else 0.75
        Handler.hurt = Handler.hurt or (large and wrong == "hurts")
        rows = [{{"index": n, "relevance_score": score}} for n in range(len(body["documents"]))]
        self.reply(200, {{"results": rows, "usage": {{"total_tokens": sum(map(len, body["documents"]))}}}})
    hurt = False
    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("server-timing", "queue;dur=9, boot_context;dur=250.5, boot_first_score;dur=12")
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
open(os.environ["PORT_FILE"], "w").write(str(server.server_address[1]))
server.serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path):
    """Options and a large model for phases over that function."""
    path = tmp_path / "function"
    path.write_text(FUNCTION.format(python=sys.executable))
    path.chmod(0o755)
    (tmp_path / "model.snap").write_bytes(bytes(1000))
    options = SimpleNamespace(
        function=path, patience=20, settings={}, dry_run=True, card_bytes=None, say=lambda _: None, requests=80, starts=2,
        documents=3, tokens=32, throughput_seconds=0.01, peers=True, torch_python=sys.executable, left=lambda: 60,
    )  # fmt: skip
    config = {"hidden_size": 8, "num_attention_heads": 2, "model_type": "bert", "intermediate_size": 16, "num_hidden_layers": 1}
    large = SimpleNamespace(name="large", snapshot=tmp_path / "model.snap", checkpoint=tmp_path, config=config)
    return SimpleNamespace(options=options, large=large, maker=SimpleNamespace(folder=tmp_path))


def run(tmp_path, *arguments, **environment):
    """Exit status with output, and the JSON."""
    out = tmp_path / "out.json"
    done = script("gpu_check", "--out", out, *arguments, **environment)
    return done, json.loads(out.read_text()) if out.is_file() else None


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """A few of the golden models."""
    folder = tmp_path_factory.mktemp("golden")
    for name in ("bert-classifier", "qwen2-mxbai"):
        shutil.copytree(ROOT / "data/golden" / name, folder / name)
    return folder


def test_a_dry_run_of_a_real_function_passes_every_phase(tmp_path, binaries, golden):
    arguments = ("--dry-run", "--device", "cpu", "--golden", golden, "--cases", 3)
    done, found = run(tmp_path, *arguments, "--function", binaries / "rerank-cpu-int8", "--tool", binaries / "defrost")
    assert done.returncode == 0, done.stderr + done.stdout
    names = ["prepare", "correct", "large", "starts", "throughput", "memory", "out_of_memory"]
    assert [(name, one["state"]) for name, one in found["phases"].items()] == [(name, "passed") for name in names]
    assert found["dry_run"] and found["goals"] == [] and found["date"] and "card" in found and "driver" in found
    figures = {name: one["figures"] for name, one in found["phases"].items()}
    assert figures["correct"]["rerankers"]["bert-classifier"]["cases"] == 3
    assert figures["large"]["mxbai-rerank-base-v2"]["worst"] < 1e-6, "the same engine on both sides"
    assert {"exec", "restore", "first_score"} <= figures["starts"]["phases_ms"].keys() and len(figures["starts"]["starts"]) == 2
    rates = figures["throughput"]["bge-reranker-v2-m3"]
    assert rates["eager"]["tokens_per_document"] == pytest.approx(32, abs=3)
    assert rates["compiled"]["documents_per_s"] > 0 and "not built into" in rates["candle"]["skipped"]
    assert rates["transformers"]["skipped"] == "--dry-run or --no-peers"
    assert figures["memory"]["requests"] == 80 and len(figures["memory"]["own_bytes"]) == 10
    assert "[" in done.stderr and "start 2 of 2" in done.stderr and "| correct | passed |" in done.stdout


def test_a_dry_run_on_the_emulated_device(tmp_path, binaries, golden):
    """The function itself, where it was built for tests: phases of a GPU's boot, a card that is too small."""
    if not (binaries / "rerank-gpu").is_file():
        pytest.skip(f"{binaries} has no rerank-gpu")
    arguments = ("--dry-run", "--golden", golden, "--cases", 1, "--models", "bge-reranker-v2-m3", "--only", "correct,large,starts,out_of_memory")
    done, found = run(tmp_path, *arguments, "--function", binaries / "rerank-gpu", "--tool", binaries / "defrost")
    assert done.returncode == 0, done.stderr + done.stdout
    figures = {name: one["figures"] for name, one in found["phases"].items()}
    assert found["device"] == "emulated" and figures["out_of_memory"]["status"] == 200
    assert {"context", "module", "upload", "first_score"} <= figures["starts"]["phases_ms"].keys()
    assert figures["large"]["bge-reranker-v2-m3"]["worst"] < correct.TOLERANCE


def test_a_wrong_score_fails_its_phase_and_loses_no_other(tmp_path, binaries, golden):
    wrong = tmp_path / "golden"
    shutil.copytree(golden / "bert-classifier", wrong / "bert-classifier")
    path = wrong / "bert-classifier/golden.json"
    value = json.loads(path.read_text())
    value["cases"][1]["raw"] += 0.2
    path.write_text(json.dumps(value))
    arguments = ("--dry-run", "--device", "cpu", "--golden", wrong, "--only", "correct,starts", "--models", "bge-reranker-v2-m3")
    done, found = run(tmp_path, *arguments, "--function", binaries / "rerank-cpu-int8", "--tool", binaries / "defrost")
    assert done.returncode == 1
    states = {name: one["state"] for name, one in found["phases"].items()}
    assert states == {"prepare": "passed", "correct": "failed", "starts": "passed"}
    assert "bert-classifier" in found["phases"]["correct"]["said"] and "from transformers" in found["phases"]["correct"]["said"]
    assert found["phases"]["correct"]["figures"]["rerankers"]["bert-classifier"]["worst"] > correct.TOLERANCE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--function", "/nothing"], "/nothing: no such file"),
        (["--golden", "/nothing"], "--golden: expected folders with golden.json in /nothing"),
        (["--only", "starts,ends"], "--only: expected some of prepare, correct, large, starts"),
        (["--models", "gpt"], "--models: expected some of mxbai-rerank-base-v2, bge-reranker-v2-m3, found ['gpt']"),
        (["--precision", "f8"], "--precision names another"),
    ],
)
def test_what_it_cannot_begin_with_is_told(tmp_path, binaries, arguments, said):
    given = {"--function": binaries / "rerank-cpu-int8", "--tool": binaries / "defrost"}
    command = [part for name, value in given.items() if name not in arguments for part in (name, value)]
    done, found = run(tmp_path, *command, *arguments)
    assert (done.returncode, found) == (2, None) and said in done.stderr


def test_a_phase_out_of_time_keeps_what_it_found_and_the_next_one_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(phases, "LEAST_SECONDS", 0)
    everything = phases.Run(60, tmp_path / "out.json", {"card": "none"})

    def slow(figures):
        figures["half"] = 1
        signal.pause()

    assert not everything.phase("slow", 0.05, slow)
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["card"] == "none" and written["phases"]["slow"]["figures"] == {"half": 1}
    assert written["phases"]["slow"]["said"].startswith("OutOfTime: not done within")
    assert everything.phase("next", 60, lambda figures: figures.update(found=2) or "well")
    assert everything.results["next"]["said"] == "well" and everything.figures("next") == {"found": 2}
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0, "no alarm is left"


def test_phases_are_skipped_with_their_reason(tmp_path):
    everything = phases.Run(60)

    def skips(_):
        raise phases.Skipped("no torch here")

    assert not everything.phase("peer", 60, skips)
    assert not everything.phase("after", 60, pytest.fail, needs=("peer",))
    spent = phases.Run(0)
    assert not spent.phase("late", 60, pytest.fail)
    said = {name: (one["state"], one["said"]) for run in (everything, spent) for name, one in run.results.items()}
    assert said == {
        "peer": ("skipped", "no torch here"),
        "after": ("skipped", "needs peer"),
        "late": ("skipped", "no time left"),
    }


def test_operations_are_counted_by_hand():
    # Qwen2 with one layer: q 8x8, k and v 8x4 each, o 8x8, three matrices 8x16; 3 tokens, causal.
    qwen = {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "model_type": "qwen2", "intermediate_size": 16,
            "num_hidden_layers": 1}  # fmt: skip
    products = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16
    assert models.flops(qwen, 3) == 2 * 3 * (products + 8 * 3)
    # BERT with two layers: four matrices 8x8, two 8x16; every token sees all.
    bert = {"hidden_size": 8, "num_attention_heads": 2, "model_type": "bert", "intermediate_size": 16, "num_hidden_layers": 2}
    assert models.flops(bert, 3) == 2 * 2 * 3 * (4 * 8 * 8 + 2 * 8 * 16 + 2 * 8 * 3)


def test_phases_of_boot_are_read_from_the_header():
    header = "queue;dur=0.1, boot_context;dur=251.25, boot_module;dur=3, boot_first_score;dur=0.59"
    assert service.boot_phases(header) == {"context": 251.25, "module": 3.0, "first_score": 0.59}
    assert service.boot_phases("queue;dur=1") == {}


def test_only_what_is_far_apart_is_out_of_order():
    assert correct.out_of_order([0.9, 0.5, 0.49], [0.8, 0.4, 0.41], 0.04) == []
    assert correct.out_of_order([0.9, 0.5, 0.49], [0.3, 0.4, 0.41], 0.04) == [(0, 1), (0, 2)]


def test_made_up_words_are_the_same_again_and_share_no_beginning():
    texts = [correct.words(seed, 300) for seed in range(50)]
    assert texts == [correct.words(seed, 300) for seed in range(50)]
    assert {len(text) for text in texts} == {300} and len({text[:12] for text in texts}) == 50


@pytest.mark.parametrize(
    ("samples", "grows"),
    [
        ([1, 5, 9, 10, 10, 11, 10, 11, 10, 11], False),
        ([1, 5, 9, 10, 10, 11, 10, 11, 10, 13], False),
        ([1, 5, 9, 10, 11, 12, 13, 14, 15, 18], True),
        ([1, None, 9, 10, 10, 11, 10, 11, 10, 99], False),
        ([1, 2], False),
    ],
)
def test_memory_grows_when_the_end_is_above_all_that_had_settled(samples, grows):
    assert bool(lasting.grown(samples, 2)) == grows


def test_the_fraction_leaves_room_for_the_weights_and_little_else():
    assert lasting.fraction(1_000_000_000, 24 * 2**30) == pytest.approx((1.1e9 + 256 * 2**20) / (24 * 2**30), abs=1e-4)
    assert lasting.fraction(10**12, 24 * 2**30) == 0.9


def test_ratios_need_both_sides():
    found = {"eager": {"documents_per_s": 60.0}, "compiled": {"documents_per_s": 100.0, "tflops": 45.0}, "transformers": {"skipped": "x"}}
    speed.compare(found)
    assert found["eager_of_compiled"] == 0.6 and "compiled_over_transformers" not in found and "share_of_the_card" not in found
    found["transformers"] = {"documents_per_s": 40.0, "matmul_tflops": 90.0}
    speed.compare(found)
    assert (found["compiled_over_transformers"], found["share_of_the_card"]) == (2.5, 0.5)


def test_goals_without_a_figure_are_not_met():
    everything = phases.Run(60)
    everything.phase("starts", 60, lambda figures: figures.update(first_score_ms={"median": 512.0}, phases_ms={"context": 351.0}))
    everything.phase("throughput", 60, lambda figures: figures.update({"bge-reranker-v2-m3": {"eager_of_compiled": 0.7}}))
    everything.phase("memory", 60, lambda figures: figures.update(requests=9_999))
    met = {row["goal"]: (row["found"], row["met"]) for row in goals.judge(everything)}
    assert met == {
        "first score, ms": (512.0, True),
        "context, ms": (351.0, False),
        "compiled, share of the card's bf16 rate": (None, False),
        "compiled over transformers": (None, False),
        "eager of compiled": (0.7, True),
        "requests with memory flat": (9_999, False),
    }


def test_starts_are_timed_and_told_by_phase(stand_in):
    figures = {}
    said = speed.starts(stand_in.options, stand_in.maker, stand_in.large, figures)
    assert figures["phases_ms"] == {"context": 250.5, "first_score": 12.0} and len(figures["starts"]) == 2
    assert 0 < figures["first_score_ms"]["min"] <= figures["first_score_ms"]["max"] and "context 250" in said


def test_requests_have_as_many_tokens_as_are_wanted(stand_in):
    """This function counts a token a character."""
    found = speed.measure(stand_in.options, stand_in.large, stand_in.maker, 0.01)
    assert (found["tokens_per_document"], found["device"], found["requests"] >= speed.CLIENTS) == (32.0, "stub", True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("503", None), ("", None), ("500", "expected 200, or 503 where a document does not fit, found 500"), ("hurts", "the score after it is"),
     ("dies", "ended with 3; its log ends: the device is lost")],
)  # fmt: skip
def test_too_large_a_request_must_leave_the_function_whole(stand_in, wrong, said):
    stand_in.options.settings = {"WRONG": wrong}
    figures, everything = {}, phases.Run(60)
    passed = everything.phase(
        "out_of_memory", 60, lambda found: figures.update(found) or lasting.out_of_memory(stand_in.options, stand_in.maker, stand_in.large, found)
    )
    assert passed == (said is None), everything.results
    assert said is None or said in everything.results["out_of_memory"]["said"]


def test_an_emulated_card_has_room_for_parts(stand_in):
    """Its memory is what the phase says, so a refusal means that nothing was run in parts."""
    stand_in.options.settings = {"DEVICE": "emulated", "WRONG": "503"}
    with pytest.raises(phases.Failed, match="expected 200, found 503"):
        lasting.out_of_memory(stand_in.options, stand_in.maker, stand_in.large, {})


def test_a_short_time_judges_the_requests_that_there_were(stand_in):
    stand_in.options.left = lambda: 0
    figures = {}
    assert lasting.memory(stand_in.options, stand_in.maker, stand_in.large, figures).startswith("8 requests")
    assert figures["requests"] == 8, "a tenth, and 10,000 is the goal that judges it"


def test_golden_models_keep_their_precision_where_the_tool_has_it(binaries, tmp_path):
    maker = models.Maker(binaries / "defrost", tmp_path, "bf16", for_gpu=False, dry=True)
    found = {name: maker.own_precision(ROOT / "data/golden" / name) for name in ("qwen2-mxbai", "bert-embedding", "bert-classifier")}
    assert found == {"qwen2-mxbai": "bf16", "bert-embedding": "bf16", "bert-classifier": "f16" if "f16" in maker.known else "bf16"}


def test_other_statuses_than_refusals_fail_the_memory_phase(stand_in):
    stand_in.options.settings = {"WRONG": "500"}
    with pytest.raises(phases.Failed, match=r"answers with \[500\]"):
        lasting.memory(stand_in.options, stand_in.maker, stand_in.large, {})


@pytest.mark.parametrize("device", ["cuda:0", "emulated"])
def test_a_card_without_its_metrics_is_told(stand_in, device):
    stand_in.options.settings = {"DEVICE": device}
    stand_in.options.card_bytes = 24 * 2**30 if device == "cuda:0" else None
    with pytest.raises(phases.Failed, match="/metrics lacks nvml_gpu_utilization, nvml_memory_used_bytes"):
        lasting.memory(stand_in.options, stand_in.maker, stand_in.large, {})


def test_a_phase_that_ends_stops_its_function_under_running_requests(stand_in, monkeypatch):
    """Threads that wait for answers must not keep a phase beyond its time."""
    monkeypatch.setattr(phases, "LEAST_SECONDS", 0)
    everything = phases.Run(60)

    def endless(_):
        with service.Service(stand_in.options.function, stand_in.large.snapshot, stand_in.maker.folder, 20) as one:
            def client(_):
                while True:
                    one.good("/v1/rerank", service.PAIR)
            service.together(one, client, range(3), 3)

    assert not everything.phase("endless", 0.7, endless)
    assert everything.results["endless"]["said"].startswith("OutOfTime")


def test_no_torch_is_a_reason(stand_in):
    with pytest.raises(phases.Skipped, match="no torch or transformers in"):
        speed.peer(stand_in.options, stand_in.large, 1)


def test_the_card_is_what_the_driver_tells(tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA L4, 535.216.03, 8.9, 23034, 2040, 72.00'\n")
    smi.chmod(0o755)
    code = f"import importlib.machinery as m; print(m.SourceFileLoader('gpu_check', {str(BENCH / 'gpu_check')!r}).load_module().card())"
    run = lambda path: subprocess.run(  # noqa: E731
        [sys.executable, "-W", "ignore", "-c", code], env={"PATH": path}, capture_output=True, text=True, check=True
    ).stdout
    assert run(str(tmp_path)).strip() == str({
        "name": "NVIDIA L4", "driver_version": "535.216.03", "compute_cap": "8.9", "memory.total": "23034",
        "clocks.max.sm": "2040", "power.limit": "72.00",
    })  # fmt: skip
    assert run("/nothing").strip() == "{}"
