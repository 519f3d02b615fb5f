"""The load generator: figures by hand, and a server that does everything wrong."""

import asyncio
import math
import socket
import threading

import pytest
from conftest import good, reply
from load_bench import cases, load, metrics, stats

CASE = {"query": "q", "documents": ["a", "b", "c"]}
KIND = cases.Kind(False, "/v1/rerank", "")


def plan(url, count, **more):
    """Requests of one case."""
    return load.Plan(url, KIND, cases.requests_of([CASE], KIND, 0), count, **more)


def outcomes(url, count, **more):
    """Runs them."""
    return asyncio.run(load.run(plan(url, count, **more)))


def test_percentiles_are_values_that_occurred():
    values = [number / 1000 for number in range(1, 101)]
    found = stats.times(values)
    assert (found["p50"], found["p90"], found["p95"], found["p99"], found["max"]) == (50, 90, 95, 99, 100)
    assert found["avg"] == found["median"] == 50.5
    assert stats.times([0.007])["p99"] == 7 and stats.times([]) is None


def test_rates_are_counts_over_wall_time_not_over_summed_times():
    request = cases.Request(b"", 0, 0, 3)
    some = [load.Outcome(due=0.0, sent=0.0, done=2.0, request=request, tokens=30) for _ in range(16)]
    found = stats.summary(plan("http://x", 16, concurrency=16), some, [CASE])
    assert (found["throughput_rps"], found["documents_per_second"], found["tokens_per_second"]) == (8.0, 24.0, 240.0)


def test_an_open_loop_counts_from_when_a_request_was_due():
    request = cases.Request(b"", 0, 0, 3)
    some = [load.Outcome(due=float(n), sent=n + 3.0, done=n + 4.0, request=request) for n in range(3)]
    found = stats.summary(plan("http://x", 3, rate=1.0), some, [CASE])
    assert (found["latency_ms"]["p50"], found["service_ms"]["p50"], found["lag_ms"]["p50"]) == (4000, 1000, 3000)


def test_failures_are_no_latencies_but_are_counted():
    request = cases.Request(b"", 0, 0, 3)
    some = [load.Outcome(0.0, 0.0, 1.0, request), load.Outcome(0.0, 0.0, 9.0, request, error="timeout", detail="d")]
    found = stats.summary(plan("http://x", 2), some, [CASE])
    assert (found["ok"], found["errors"], found["latency_ms"]["max"]) == (1, 1, 1000)
    assert found["errors_by_kind"] == {"timeout": 1} and found["tokens_per_second"] is None


def test_ndcg_by_hand():
    assert cases.ndcg([1, 0, 0], [3, 2, 1]) == 1
    assert cases.ndcg([0, 1, 0], [3, 2, 1]) == pytest.approx(1 / math.log2(3))
    assert cases.ndcg([2, 1], [0, 1]) == pytest.approx((1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)))
    assert cases.ndcg([0] * 10 + [1], list(range(11, 0, -1))) == 0
    assert cases.ndcg([0, 0], [1, 2]) is None


def test_ndcg_puts_pieces_together_and_leaves_out_unfinished_cases():
    whole = {"query": "q", "documents": ["a", "b", "c"], "relevance": [0, 0, 1]}
    pieces = cases.requests_of([whole, whole], KIND, 2)
    assert [(one.case, one.first, one.documents) for one in pieces] == [(0, 0, 2), (0, 2, 1), (1, 0, 2), (1, 2, 1)]
    done = [load.Outcome(0, 0, 1, pieces[1], scores=[9.0]), load.Outcome(0, 0, 1, pieces[0], scores=[1.0, 2.0]),
            load.Outcome(0, 0, 1, pieces[2], scores=[5.0, 4.0])]  # fmt: skip
    assert stats.quality(done, [whole, whole]) == 1.0


@pytest.mark.parametrize("body, expected", [
    (b'{"results":[{"index":1,"relevance_score":0.5},{"index":0,"relevance_score":0.7}],"usage":{"total_tokens":5}}', ([0.7, 0.5], 5)),
    (b'[{"index":1,"score":2.0},{"index":0,"score":1.0}]', ([1.0, 2.0], None)),
    (b'{"data":[{"index":0,"relevance_score":1.0},{"index":1,"relevance_score":0.0}]}', ([1.0, 0.0], None)),
])  # fmt: skip
def test_answers_of_several_services_are_understood(body, expected):
    assert cases.scores_of(body, 2) == expected


@pytest.mark.parametrize("body", [b'{"results":[]}', b'{"results":[{"index":0,"score":1},{"index":0,"score":2}]}', b"[]", b'{"error":"x"}'])
def test_an_answer_that_leaves_documents_out_is_none(body):
    with pytest.raises(ValueError):
        cases.scores_of(body, 2)


def test_every_kind_of_failure_is_counted_and_ends_nothing(stub):
    def behave(handler, number, body):
        step = number % 8
        if step == 1:
            reply(handler, 500, b'{"error": "broken"}')
        elif step == 2:
            reply(handler, 429, b"{}", retry_after="1")
        elif step == 3:
            # Hangs up in the middle of the body.
            handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
            handler.close_connection = True
        elif step == 4:
            handler.wfile.write(b"hello\r\n\r\n")
            handler.close_connection = True
        elif step == 5:
            reply(handler, 200, b"not json")
        elif step == 6:
            reply(handler, 200, b'{"results": []}')
        else:
            reply(handler, 200, good(body))

    server = stub(behave)
    some = outcomes(server.url, 80, concurrency=5)
    found = stats.summary(plan(server.url, 80, concurrency=5), some, [CASE])
    assert (found["requests"], found["ok"], found["errors"]) == (80, 20, 60)
    assert found["errors_by_kind"] == {"closed": 10, "malformed": 30, "status_429": 10, "status_500": 10}
    assert "broken" in found["error_examples"]["status_500"]


def test_a_server_that_is_not_there_and_one_that_never_answers(stub):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert {one.error for one in outcomes(f"http://127.0.0.1:{port}", 3)} == {"refused"}
    released = threading.Event()
    server = stub(lambda handler, number, body: released.wait(60))
    assert [one.error for one in outcomes(server.url, 2, timeout=0.05)] == ["timeout"] * 2
    released.set()


def test_a_kept_connection_that_the_server_closed_is_no_failure(stub):
    def behave(handler, number, body):
        reply(handler, 200, good(body))
        # The answer does not say that the connection will close.
        handler.close_connection = True

    server = stub(behave)
    assert [one.error for one in outcomes(server.url, 10, concurrency=1)] == [""] * 10
    assert server.count == 10


def test_chunked_answers_are_read(stub):
    def behave(handler, number, body):
        text = good(body)
        parts = [text[:7], text[7:]]
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        handler.wfile.write(b"".join(b"%x;x=y\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\ntrailer: 1\r\n\r\n")

    server = stub(behave)
    assert [one.scores for one in outcomes(server.url, 4, concurrency=1)] == [[1.0, 0.99, 0.98]] * 4


def test_clients_of_a_closed_loop_ask_at_once_and_no_more_of_them(stub):
    together, now, most = threading.Barrier(4), [0], [0]

    def behave(handler, number, body):
        with server.lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        # No request is answered before four have been asked.
        together.wait(60)
        with server.lock:
            now[0] -= 1
        reply(handler, 200, good(body))

    server = stub(behave)
    assert [one.error for one in outcomes(server.url, 12, concurrency=4)] == [""] * 12
    assert most[0] == 4


def test_an_open_loop_does_not_wait_for_answers(stub):
    everyone = threading.Barrier(30)

    def behave(handler, number, body):
        # The first is answered only when the thirtieth has come: a loop that waited for it would never end.
        everyone.wait(60)
        reply(handler, 200, good(body))

    server = stub(behave)
    some = outcomes(server.url, 30, rate=10_000.0, arrivals="fixed")
    assert [one.error for one in some] == [""] * 30
    assert all(one.sent >= one.due and one.done >= one.sent for one in some)


def test_due_times_are_those_of_rate_seed_and_duration():
    fixed = load.due_times(plan("http://x", 5, rate=10.0, arrivals="fixed"))
    assert fixed == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    poisson = load.due_times(plan("http://x", 20_000, rate=50.0, seed=3))
    assert poisson == load.due_times(plan("http://x", 20_000, rate=50.0, seed=3)) == sorted(poisson)
    assert poisson[-1] == pytest.approx(20_000 / 50, rel=0.03)
    assert max(load.due_times(plan("http://x", 10**9, rate=100.0, duration=2.0))) < 2.0


def test_documents_are_drawn_repeatably_and_never_twice_in_a_request():
    drawn = cases.of_size([CASE], 7, 1)
    assert drawn == cases.of_size([CASE], 7, 1)
    assert len(set(drawn[0]["documents"])) == 7
    short = cases.of_size([{"query": "q", "documents": ["one two three four"]}], 1, 1, words=2)
    assert short[0]["documents"] == ["one two"]


def test_metrics_tell_gauges_from_counters():
    text = '# TYPE a_total counter\na_total{x="1"} 3\na_total{x="2"} 4\n# TYPE g gauge\ng 5\n# TYPE h histogram\nh_bucket{le="1"} 9\nh_sum 2\n'
    text += 'nvml_gpu_utilization{gpu="0"} 50\nnvml_gpu_utilization{gpu="1"} 100\nnvml_memory_used_bytes{gpu="0"} 7\n'
    values, kinds = metrics.parse(text)
    assert values == {"a_total": 7, "g": 5, "h_sum": 2, "nvml_gpu_utilization": 75, "nvml_memory_used_bytes": 7}
    watch = metrics.Watch("http://x/metrics", 1, {})
    watch.kinds = kinds
    watch.samples = [(0, values), (1, values | {"a_total": 9, "g": 8, "new_total": 2})]
    found = watch.summary()
    assert found["counters"] == {"a_total": 2, "new_total": 2}
    assert found["gauges"]["g"] == {"avg": 6.5, "max": 8} and found["gauges"]["nvml_gpu_utilization"]["avg"] == 75
