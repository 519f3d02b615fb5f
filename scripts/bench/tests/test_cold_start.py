"""cold_start: real processes in rounds, phases, disagreement, contestants that fail."""

import json
import os
import sys

import pytest
from cold_bench import contestants, figures, meter
from conftest import good, reply, script

# A contestant in Python: the scores of its answer and whether it sends phases come from its environment.
PEER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        scores = json.loads(os.environ["SCORES"])
        body = json.dumps({"results": [{"index": n, "relevance_score": s} for n, s in enumerate(scores)]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("server-timing", "boot_exec;dur=1.5, boot_first_score;dur=0.25, queue;dur=9")
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def peer(tmp_path):
    """Makes command lines of that contestant."""
    path = tmp_path / "peer.py"
    path.write_text(PEER)
    return lambda name, scores: f"{name}=SCORES={json.dumps(scores, separators=(',', ':'))} {sys.executable} {path} {{port}}"


def run(tmp_path, *arguments, **environment):
    """Exit status, figures, what was said."""
    out = tmp_path / "out.json"
    done = script("cold_start", "--force", "--json", out, *arguments, **environment)
    return done, json.loads(out.read_text()) if out.is_file() else None


def test_real_starts_in_rounds_with_phases_and_figures(tmp_path, binaries, snapshot):
    ours = f"MODEL={snapshot} LOG_LEVEL=warn NUM_THREADS=1 {binaries / 'rerank-cpu-int8'}"
    markdown = tmp_path / "out.md"
    done, found = run(tmp_path, "--runs", 3, "--exec", f"defrost={ours}", "--exec", f"twin={ours}", "--markdown", markdown)
    assert done.returncode == 0, done.stderr
    assert markdown.read_text() == done.stdout and "not for print" in done.stdout
    for row in found["rows"]:
        assert len(row["starts"]) == 3 and row["failures"] == 0
        first = row["first_answer_ms"]
        assert 0 < first["min"] <= first["median"] <= first["p95"] <= first["max"]
        for start in row["starts"]:
            assert start["connected_ms"] <= start["first_byte_ms"] <= start["first_answer_ms"]
        assert {"exec", "config", "restore", "tokenizer", "engine", "first_score", "elsewhere"} <= set(row["phases_ms"])
        assert row["process"]["rss_mb"] > 1 and row["process"]["mapped_mb"] > 0
    assert [one["ours"] for one in found["rows"]] == [True, False]
    assert all(line["worst"] == 0 for line in found["agreement"])


def test_contestants_that_compute_something_else_are_found_out(tmp_path, peer):
    one, two, three = peer("one", [0.9, 0.5]), peer("two", [0.9, 0.502]), peer("near", [0.9, 0.5001])
    arguments = ("--runs", 1, "--warmups", 0, "--exec", one, "--exec", two, "--exec", three)
    done, found = run(tmp_path, *arguments)
    assert done.returncode == 1
    assert {line["name"]: line["agrees"] for line in found["agreement"]} == {"one": True, "two": False, "near": True}
    assert found["rows"][0]["phases_ms"]["exec"] == 1.5 and "queue" not in found["rows"][0]["phases_ms"]
    done, _ = run(tmp_path, *arguments, "--approximate", "two")
    assert done.returncode == 0 and "told, not judged" in done.stdout


def test_a_contestant_that_fails_is_told_and_not_tried_for_ever(tmp_path, peer):
    broken = f"broken={sys.executable} -c 'raise SystemExit(\"no model\")'"
    done, found = run(tmp_path, "--runs", 6, "--warmups", 0, "--exec", broken, "--exec", peer("fine", [0.1]))
    assert done.returncode == 1
    assert [row["name"] for row in found["rows"]] == ["fine"] and len(found["rows"][0]["starts"]) == 6
    assert len(found["remarks"]) == 3 and "no model" in found["remarks"][0] and "ended with 1" in found["remarks"][0]
    done, found = run(tmp_path, "--runs", 1, "--exec", broken)
    assert done.returncode == 2 and "no model" in done.stderr


def test_a_deployed_url_that_wakes_up(tmp_path, stub):
    def behave(handler, number, body):
        # The service is asleep, then gone, then answers twice, and so on.
        if number % 4 == 0:
            reply(handler, 503, b"waking up")
        elif number % 4 == 1:
            handler.close_connection = True
        else:
            reply(handler, 200, good(body), server_timing="boot_exec;dur=3")

    server = stub(behave)
    arguments = ("--url", f"deployed={server.url}/v1/rerank", "--idle", 0, "--runs", 2, "--warmups", 0)
    done, found = run(tmp_path, *arguments, "--api-key-env", "COLD_KEY", COLD_KEY="very-secret")
    assert done.returncode == 0, done.stderr
    assert [start["attempts"] for start in found["rows"][0]["starts"]] == [3, 3]
    assert "very-secret" not in done.stdout + done.stderr + json.dumps(found)
    assert server.headers[0]["authorization"] == "Bearer very-secret"


def test_a_wrong_answer_is_no_first_answer(tmp_path, stub):
    server = stub(lambda handler, number, body: reply(handler, 422, b'{"detail": "no such field"}'))
    done, _ = run(tmp_path, "--url", f"x={server.url}/v1/rerank", "--idle", 0, "--runs", 1)
    assert done.returncode == 2 and "no such field" in done.stderr
    assert server.count == 2


@pytest.mark.parametrize("arguments, said", [
    ((), "--help"),
    (("--exec", "nothing"), "NAME=COMMAND"),
    (("--exec", "x=A=1"), "command behind"),
    (("--exec", "x=a", "--exec", "x=b"), "different names"),
    (("--url", "x=localhost"), "http"),
    (("--exec", "x=a", "--approximate", "y"), "['y']"),
    (("--exec", "x=a", "--cold-cache"), "--evict"),
    (("--minilm", "--bin", "/nowhere"), "make quick"),
])  # fmt: skip
def test_wrong_arguments_are_refused_with_what_was_expected(tmp_path, arguments, said):
    done, _ = run(tmp_path, *arguments)
    assert done.returncode == 2 and said in done.stderr


def test_command_lines_are_read_without_a_shell(monkeypatch):
    monkeypatch.setenv("SOME_SETTING", "from the shell")
    found = contestants.parse("exec", "a peer=A=1 B='x y' run --at {port} 'two words'", "/p")
    command, environment = contestants.filled(found, 4711)
    assert found.name == "a peer" and command == ["run", "--at", "4711", "two words"]
    assert (environment["A"], environment["B"], environment["PORT"]) == ("1", "x y", "4711")
    assert "SOME_SETTING" not in environment
    assert contestants.parse("podman", "i=podman run -p {port}:80 image", "/p").command == ["-p", "{port}:80", "image"]


def test_a_tree_of_processes_is_measured_whole():
    assert os.getpid() in meter.tree(os.getppid())
    found = meter.measure(os.getpid())
    assert found["rss_mb"] == pytest.approx(found["own_mb"] + found["mapped_mb"], rel=0.2) and found["cpu_ms"] > 0


def test_differing_lengths_and_orders_are_seen():
    row = lambda name, scores, **more: {"name": name, "ours": False, "approximate": False, "scores": scores,  # noqa: E731
                                        "starts": [{"scores": scores}], **more}  # fmt: skip
    lines = figures.agreement([row("a", [0.1, 0.2]), row("b", [0.1]), row("c", [0.2, 0.1], approximate=True)])
    assert [line["agrees"] for line in lines] == [True, False, False]
    assert [line["same_order"] for line in lines] == [True, False, False]
    assert figures.agreement([row("a", [0.1])]) == []
