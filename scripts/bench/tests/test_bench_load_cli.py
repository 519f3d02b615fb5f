"""The command line of bench_load against a real function, and against none."""

import json
import urllib.request

import pytest
from conftest import good, reply, script
from load_bench import cases


def run(tmp_path, *arguments, **environment):
    """Figures and what was printed."""
    out = tmp_path / "out.json"
    done = script("bench_load", "--json", out, *arguments, **environment)
    return done, json.loads(out.read_text()) if out.is_file() else None


def post(url, body):
    """One request, asked plainly."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_counts_rates_and_ndcg_of_a_real_function(tmp_path, function, cases_file):
    markdown = tmp_path / "out.md"
    arguments = ("--url", function, "--cases-file", cases_file, "--concurrency", 3, "--metrics", "--metrics-interval", 60)
    done, found = run(tmp_path, *arguments, "--markdown", markdown, "--cold-start", 30)
    assert done.returncode == 0, done.stderr
    assert markdown.read_text() == done.stdout
    line = found["runs"][0]
    assert (line["requests"], line["ok"], line["errors"], line["documents_per_request"]) == (4, 4, 0, 6)
    assert line["throughput_rps"] == pytest.approx(4 / line["wall_seconds"], rel=1e-3)
    assert line["documents_per_second"] == pytest.approx(24 / line["wall_seconds"], rel=1e-3)
    assert line["tokens_per_second"] > line["documents_per_second"]
    everything = json.loads(cases_file.read_text())
    scores = []
    for case in everything:
        results = post(function + "/v1/rerank", {"query": case["query"], "documents": case["documents"]})["results"]
        by_index = {one["index"]: one["relevance_score"] for one in results}
        scores.append(cases.ndcg(case["relevance"], [by_index[place] for place in range(6)]))
    assert line["ndcg_at_10"] == pytest.approx(sum(scores) / 4, abs=1e-4)
    # The cold start's request came before the first look.
    assert found["metrics"]["counters"]["defrost_inference_duration_seconds_count"] >= 1
    assert found["metrics"]["samples"] == 2 and found["metrics"]["gauges"]["defrost_ready"]["max"] == 1
    assert found["cold_start"]["error"] == "" and "boot_exec" in found["cold_start"]["server_timing"]


def test_requests_in_pieces_give_the_same_ndcg(tmp_path, function, cases_file):
    whole = run(tmp_path, "--url", function, "--cases-file", cases_file)[1]["runs"][0]
    pieces = run(tmp_path, "--url", function, "--cases-file", cases_file, "--batch-size", 4)[1]["runs"][0]
    assert (pieces["requests"], pieces["documents_per_request"]) == (8, 3)
    assert pieces["ndcg_at_10"] == whole["ndcg_at_10"]


def test_an_open_loop_on_a_real_function(tmp_path, function, cases_file):
    done, found = run(tmp_path, "--url", function, "--cases-file", cases_file, "--rate", 200, "--requests", 20)
    line = found["runs"][0]
    assert done.returncode == 0 and (line["mode"], line["requests"], line["errors"]) == ("open", 20, 0)
    assert line["lag_ms"] and line["service_ms"]["max"] <= line["latency_ms"]["max"]


def test_modes_are_several_runs_and_respect_what_info_allows(tmp_path, function):
    done, found = run(tmp_path, "--url", function, "--shapes", "--requests", 1)
    assert done.returncode == 0, done.stderr
    assert [line["documents_per_request"] for line in found["runs"]] == [20, 10, 5, 5]
    done, found = run(tmp_path, "--url", function, "--extreme", "--requests", 1)
    assert found["runs"][0]["documents_per_request"] == 1000 and "1000 documents instead of 1024" in done.stdout


def test_another_route_of_the_function(tmp_path, function, cases_file):
    done, found = run(tmp_path, "--url", function + "/v2/rerank", "--cases-file", cases_file)
    assert done.returncode == 0 and found["facts"]["path"] == "/v2/rerank"


def test_a_key_is_sent_and_never_shown(tmp_path, stub, cases_file):
    server = stub(lambda handler, number, body: reply(handler, 200, good(body)))
    done, found = run(tmp_path, "--url", server.url, "--cases-file", cases_file, "--api-key-env", "BENCH_KEY", BENCH_KEY="very-secret")
    assert done.returncode == 0
    assert {one.get("authorization") for one in server.headers} == {"Bearer very-secret"}
    assert "very-secret" not in done.stdout + done.stderr + json.dumps(found)
    done, _ = run(tmp_path, "--url", server.url, "--api-key-env", "NOT_SET_ANYWHERE")
    assert done.returncode == 2 and "NOT_SET_ANYWHERE" in done.stderr


def test_failures_are_reported_and_decide_the_exit_status(tmp_path, stub, cases_file):
    server = stub(lambda handler, number, body: reply(handler, 503, b'{"detail": "asleep"}'))
    done, found = run(tmp_path, "--url", server.url, "--cases-file", cases_file)
    assert done.returncode == 2
    assert found["runs"][0]["errors_by_kind"] == {"status_503": 4} and "asleep" in done.stdout


@pytest.mark.parametrize("arguments, said", [
    (("--url", "ftp://x"), "--url"),
    (("--concurrency", 0), "--concurrency"),
    (("--quick", "--rate", 5), "--rate"),
    (("--cases-file", "/dev/null"), "expected JSON"),
])  # fmt: skip
def test_wrong_arguments_are_refused_with_what_was_expected(tmp_path, arguments, said):
    done, _ = run(tmp_path, *arguments)
    assert done.returncode == 2 and said in done.stderr and "expected" in done.stderr or "leave out" in done.stderr
