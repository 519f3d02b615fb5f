"""The arithmetic of the cost table, by hand, and the data file."""

import importlib.machinery
import importlib.util
import json
import tomllib

import pytest
from conftest import BENCH, ROOT, script

loader = importlib.machinery.SourceFileLoader("cost_table", str(BENCH / "cost_table"))
spec = importlib.util.spec_from_loader("cost_table", loader)
cost_table = importlib.util.module_from_spec(spec)
# Dataclasses look their module up.
__import__("sys").modules["cost_table"] = cost_table
loader.exec_module(cost_table)

PLATFORM = {
    "title": "x", "vcpu_second": 3e-5, "gib_second": 1e-5, "idle_vcpu_second": 1e-6, "idle_gib_second": 2e-6, "million_requests": 0.4,
    "round_up_seconds": 0.1, "billed": "request", "start_billed": True, "idle_tail_seconds": 60, "vcpus": 2, "gib": 4, "speed": 1.0,
}  # fmt: skip
# 2 vCPUs do 100 pairs a second; 15 pairs a request take 0.15 s.
MEASURED = cost_table.Measured(pairs_per_second=100, vcpus=2, pairs_per_request=15, cold_seconds=0.05, requests_per_start=50)


def test_billed_by_request():
    found = cost_table.cost(PLATFORM, MEASURED)
    requests = 1e6 / 15
    assert found.seconds_per_pair == pytest.approx(0.01)
    assert found.billed_seconds_per_request == pytest.approx(0.2)
    assert found.compute == pytest.approx(requests * 0.2 * (2 * 3e-5 + 4 * 1e-5))
    assert found.requests == pytest.approx(requests * 0.4e-6)
    assert found.starts == pytest.approx(requests / 50 * 0.1 * 1e-4)
    assert found.idle == 0
    assert found.total == pytest.approx(found.compute + found.requests + found.starts)


def test_billed_by_instance_pays_for_idling_but_does_not_round_requests():
    found = cost_table.cost(PLATFORM | {"billed": "instance"}, MEASURED)
    assert found.billed_seconds_per_request == pytest.approx(0.15)
    assert found.idle == pytest.approx(1e6 / 15 / 50 * 60 * (2 * 1e-6 + 4 * 2e-6))


def test_twice_the_vcpus_or_speed_halve_the_seconds():
    for change in ({"vcpus": 4}, {"speed": 2.0}):
        assert cost_table.cost(PLATFORM | change, MEASURED).seconds_per_pair == pytest.approx(0.005)


def test_starts_that_are_not_billed_cost_nothing():
    assert cost_table.cost(PLATFORM | {"start_billed": False}, MEASURED).starts == 0


@pytest.mark.parametrize("seconds, step, expected", [(0.15, 0.1, 0.2), (0.3, 0.1, 0.3), (0.0001, 1.0, 1.0), (0.7, 0, 0.7), (2.0, 1.0, 2.0)])
def test_rounding_up(seconds, step, expected):
    assert cost_table.rounded_up(seconds, step) == pytest.approx(expected)


def test_lambda_by_its_price_list():
    """One vCPU for a thousand seconds is 1,727.5 GiB-seconds: a million pairs at a millisecond each."""
    prices = tomllib.loads((ROOT / "data/prices.toml").read_text())["aws-lambda-x86"]
    measured = cost_table.Measured(1000, 1, 1000, 0.0, 1e9)
    found = cost_table.cost(prices, measured)
    assert found.compute == pytest.approx(1000 * 1.7275 * 0.0000166667, rel=1e-4)
    assert found.requests == pytest.approx(1000 * 0.2e-6)


def test_every_price_has_source_date_and_doubt():
    platforms, data = cost_table.read_prices(ROOT / "data/prices.toml")
    assert len(platforms) == 5 and data["currency"] == "USD"
    for one in platforms.values():
        assert one["source"] and one["as_known"] and one["verified"]


def test_a_price_without_a_source_is_refused(tmp_path):
    text = (ROOT / "data/prices.toml").read_text().replace('source = "modal.com', 'origin = "modal.com')
    (tmp_path / "prices.toml").write_text(text)
    done = script("cost_table", "--prices", tmp_path / "prices.toml", "--pairs-per-second", 1, "--vcpus", 1, "--pairs-per-request", 1)
    assert done.returncode == 2 and "modal: expected source" in done.stderr


def test_measured_figures_come_from_the_other_scripts(tmp_path):
    runs = [{"mode": "closed", "documents_per_second": speed, "documents_per_request": 20.0} for speed in (300.0, 400.0)]
    runs.append({"mode": "open", "documents_per_second": 9000.0, "documents_per_request": 1.0})
    load = {"made_by": "bench_load", "runs": runs, "facts": {"info": {"threads": 2}, "cores": 8, "load_average": 2.5}}
    cold = {"made_by": "cold_start", "rows": [{"ours": True, "first_answer_ms": {"median": 5.0}}, {"ours": False, "first_answer_ms": {"median": 1}}]}
    (tmp_path / "load.json").write_text(json.dumps(load))
    (tmp_path / "cold.json").write_text(json.dumps(cold))
    out = tmp_path / "cost.json"
    done = script("cost_table", "--load", tmp_path / "load.json", "--cold", tmp_path / "cold.json", "--json", out)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())["measured"] == {
        "pairs_per_second": 400.0, "vcpus": 2, "pairs_per_request": 20.0, "cold_seconds": 0.005, "requests_per_start": 100.0, "unit": "pair",
    }  # fmt: skip
    assert "load.json was measured at a load average of 2.50" in done.stdout and "cold.json was measured" not in done.stdout
    assert "How a row is computed" in done.stdout and "verify before use" in done.stdout


def test_bench_throughput_with_several_lengths_needs_a_choice(tmp_path):
    rows = [{"model": model, "length": length, "threads": 2, "documents_per_s": speed}
            for model, length, speed in (("a", 32, 900.0), ("a", 128, 400.0), ("b", 128, 999.0))]  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps(rows))
    arguments = ("--load", tmp_path / "t.json", "--pairs-per-request", 10, "--json", tmp_path / "out.json")
    done = script("cost_table", *arguments)
    assert done.returncode == 2 and "--length" in done.stderr
    assert script("cost_table", *arguments, "--length", 128).returncode == 0
    assert json.loads((tmp_path / "out.json").read_text())["measured"]["pairs_per_second"] == 400.0


def test_tokens_of_chat_are_counted_like_pairs_and_not_with_them(tmp_path):
    out = tmp_path / "cost.json"
    given = ("--vcpus", 2, "--tokens-per-second", 100, "--tokens-per-request", 200, "--json", out)
    done = script("cost_table", *given)
    assert done.returncode == 0, done.stderr
    assert "## A million tokens" in done.stdout and "pair" not in done.stdout
    tokens = json.loads(out.read_text())
    assert tokens["measured"]["unit"] == "token"
    pairs = script("cost_table", "--vcpus", 2, "--pairs-per-second", 100, "--pairs-per-request", 200, "--json", out)
    assert pairs.returncode == 0 and json.loads(out.read_text())["rows"] == tokens["rows"]
    both = script("cost_table", *given, "--pairs-per-second", 3)
    assert both.returncode == 2 and "expected pairs or tokens, found both" in both.stderr
    half = script("cost_table", "--vcpus", 2, "--tokens-per-request", 200)
    assert half.returncode == 2 and "expected --tokens-per-second" in half.stderr
