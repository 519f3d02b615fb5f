"""The simulation where pencil and paper give the answer too."""

import json
import math
from dataclasses import replace

import pytest
from conftest import ROOT, script
from scale_model.simulate import Function, Platform, Store, downloads, permitted, simulate, store_total

PLATFORM = Platform(burst=1000, refill=500, period_seconds=10, overhead_ms=200, overhead_sigma=0, requests_per_instance=1,
                    host_slots=1, network_mb_s=100, cached_mb_s=math.inf)  # fmt: skip
STORE = Store(connection_mb_s=10, connections=4, total_mb_s=1000, requests_per_second=1e6, part_mb=8, latency_ms=0, fetched_by_host=False)
FUNCTION = Function(snapshot_bytes=400e6, boot_ms=30, compute_ms=70, overlap=False)


def run(requests, platform=PLATFORM, store=STORE, function=FUNCTION, hit=0.0, seed=1, hit_of="hosts"):
    """Sorted answers."""
    return sorted(simulate(requests, platform, store, function, hit, seed, hit_of))


def test_one_start_is_the_sum_of_its_parts():
    # 0.2 s of platform, 400 MB at 4 x 10 MB/s, 0.07 s of computing.
    assert run(1) == pytest.approx([0.2 + 10 + 0.07])
    assert run(1, function=replace(FUNCTION, overlap=True)) == pytest.approx([0.2 + 10])
    assert run(1, store=replace(STORE, latency_ms=50)) == pytest.approx([0.2 + 0.05 + 10 + 0.07])


def test_the_instances_network_is_a_cap_unless_the_host_fetches():
    fast = replace(STORE, connection_mb_s=1000)
    assert run(1, store=fast) == pytest.approx([0.2 + 4 + 0.07])
    assert run(1, store=replace(fast, fetched_by_host=True)) == pytest.approx([0.2 + 0.4 + 0.07])


def test_infinite_bandwidth_leaves_platform_boot_and_compute():
    endless = replace(STORE, connection_mb_s=math.inf, total_mb_s=math.inf, requests_per_second=math.inf)
    assert run(50, platform=replace(PLATFORM, network_mb_s=math.inf), store=endless) == pytest.approx([0.2 + 0.03 + 0.07] * 50)


def test_equal_starts_beyond_the_total_share_it():
    # 100 x 400 MB through 1,000 MB/s; 25 starts at 40 MB/s are just what it can deliver.
    assert run(100) == pytest.approx([0.2 + 40 + 0.07] * 100)
    assert run(25) == pytest.approx([0.2 + 10 + 0.07] * 25)


def test_a_store_that_bounds_requests_bounds_bytes():
    slow = replace(STORE, requests_per_second=50)
    assert store_total(slow) == 400e6
    assert run(100, store=slow) == pytest.approx([0.2 + 100 + 0.07] * 100)


def test_the_platforms_rate_of_starts():
    assert [permitted(PLATFORM, number) for number in (0, 999, 1000, 1499, 1500, 2499)] == [0, 0, 10, 10, 20, 30]
    found = run(1600, function=replace(FUNCTION, snapshot_bytes=0))
    assert found == pytest.approx([0.3] * 1000 + [10.3] * 500 + [20.3] * 100)


def test_requests_that_share_an_instance_are_answered_in_turn():
    shared = replace(PLATFORM, requests_per_instance=3)
    found = run(4, platform=shared, function=replace(FUNCTION, snapshot_bytes=0))
    assert found == pytest.approx([0.3, 0.3, 0.37, 0.44])


def test_a_host_fetches_once():
    together = replace(PLATFORM, host_slots=100)
    assert run(100, platform=together) == pytest.approx([0.2 + 10 + 0.07] * 100)


def test_what_is_near_is_not_fetched():
    assert run(100, hit=1.0) == pytest.approx([0.2 + 0.03 + 0.07] * 100)
    assert run(1, hit=0.75, hit_of="bytes") == pytest.approx([0.2 + 2.5 + 0.07])
    assert run(1, platform=replace(PLATFORM, cached_mb_s=100), hit=1.0) == pytest.approx([0.2 + 4 + 0.07])
    found = run(2000, platform=replace(PLATFORM, burst=10**6), store=replace(STORE, total_mb_s=math.inf, requests_per_second=math.inf), hit=0.5)
    assert sum(answer < 1 for answer in found) == pytest.approx(1000, abs=120)


def test_a_late_flow_takes_half_of_what_is_left():
    # Alone the first gets 100 of its 300 bytes in a second; then two share 100 a second.
    assert downloads([0.0, 1.0], 300.0, 100.0, 100.0) == pytest.approx([5.0, 6.0])


def test_no_more_is_delivered_than_the_store_can():
    starts = [number * 0.013 for number in range(300)]
    ends = downloads(starts, 5e6, 30e6, 200e6)
    assert max(ends) - starts[0] >= 300 * 5e6 / 200e6
    assert all(end - start >= 5e6 / 30e6 - 1e-9 for start, end in zip(starts, ends))
    for moment in (1.0, 3.0, 5.0):
        assert sum(end <= moment for end in ends) * 5e6 <= 200e6 * moment + 1


def test_seeds_repeat_and_spread_keeps_the_median():
    spread = replace(PLATFORM, overhead_sigma=0.4)
    nothing = replace(FUNCTION, snapshot_bytes=0, boot_ms=0, compute_ms=0)
    assert run(999, platform=spread, function=nothing) == run(999, platform=spread, function=nothing)
    assert run(999, platform=spread, function=nothing) != run(999, platform=spread, function=nothing, seed=2)
    assert run(999, platform=spread, function=nothing)[499] == pytest.approx(0.2, rel=0.05)


def test_the_command_line_tells_assumptions_and_origin(tmp_path):
    out = tmp_path / "out.json"
    cold = {"facts": {"date": "2026-01-02", "processor": "P"}, "forced": False, "rows": [
        {"name": "defrost int8", "ours": True, "first_answer_ms": {"median": 12.0}, "phases_ms": {"first_score": 9.0}},
    ]}  # fmt: skip
    (tmp_path / "cold.json").write_text(json.dumps(cold))
    done = script("scale_out", "--snapshot-bytes", 1e8, "--cold", tmp_path / "cold.json", "--starts", "1,10", "--rounds", 2, "--json", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert (found["boot_ms"], found["compute_ms"]) == (3.0, 9.0) and "measured: defrost int8, 2026-01-02" in done.stdout
    assert "Simulated" in done.stdout and "none measured here" in done.stdout
    assert [row["starts"] for row in found["scenarios"][0]["rows"]] == [1, 10]


@pytest.mark.parametrize("change, said", [(("hit = 0.67", "hit = 2"), "hit from 0 to 1"), (("burst = 100\n", ""), "burst"),
                                          (('store = "s3"', 'store = "floppy"'), "floppy")])  # fmt: skip
def test_wrong_assumptions_are_refused(tmp_path, change, said):
    text = (ROOT / "data/scale_out.toml").read_text()
    assert change[0] in text
    (tmp_path / "a.toml").write_text(text.replace(*change))
    done = script("scale_out", "--snapshot-bytes", 1, "--boot-ms", 1, "--compute-ms", 1, "--assumptions", tmp_path / "a.toml")
    assert done.returncode == 2 and said in done.stderr


def test_missing_measurements_are_asked_for():
    done = script("scale_out", "--snapshot-bytes", 1)
    assert done.returncode == 2 and "--boot-ms or --cold" in done.stderr
