"""Fixtures: a real function with a tiny model, servers that misbehave on demand, the scripts' command lines."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(BENCH), str(BENCH.parent)]

from lib import ROOT  # noqa: E402
from lib.served import served  # noqa: E402

SECONDS = 120


@pytest.fixture(scope="session")
def binaries():
    """The folder of the test binaries."""
    folder = Path(os.environ.get("DEFROST_TEST_BIN", ROOT / "target" / "debug"))
    for name in ("defrost", "rerank-cpu-int8"):
        assert (folder / name).is_file(), f"expected {folder / name}, found no such file: build it, or set DEFROST_TEST_BIN"
    return folder.resolve()


@pytest.fixture(scope="session")
def snapshot(binaries, tmp_path_factory):
    """A tiny cross-encoder, packed."""
    out = tmp_path_factory.mktemp("model") / "tiny.snap"
    command = [binaries / "defrost", "pack", ROOT / "data/golden/bert-classifier", "--name", "tiny/bert", "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture(scope="session")
def function(binaries, snapshot):
    """The URL of a running reranker."""
    with served(binaries / "rerank-cpu-int8", snapshot, NUM_THREADS="1") as url:
        yield url


@pytest.fixture(scope="session")
def cases_file(tmp_path_factory):
    """Cases with relevance, built by the script itself."""
    out = tmp_path_factory.mktemp("cases") / "cases.json"
    done = script("build_beir_subset", "--dataset-dir", ROOT / "data/scifact-mini", "--limit", 4, "--top-k", 6, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def script(name, *arguments, **environment):
    """Runs a command of scripts/bench."""
    return subprocess.run(
        [sys.executable, BENCH / name, *map(str, arguments)],
        env=os.environ | environment, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip


class Stub:
    """A server of which every POST is handled by `behave(handler, number, body)`, number counting from 0."""

    def __init__(self, behave):
        self.lock, self.count, self.bodies, self.headers = threading.Lock(), 0, [], []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            """One connection."""

            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with stub.lock:
                    number, stub.count = stub.count, stub.count + 1
                    stub.bodies.append(json.loads(body))
                    stub.headers.append(dict(self.headers))
                behave(self, number, json.loads(body))

            def do_GET(self):
                reply(self, 404, b"{}")

            def log_message(self, *_):
                """Logs nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self):
        """Stops listening."""
        self.server.shutdown()
        self.server.server_close()


def reply(handler, status, body, **headers):
    """A whole answer."""
    with contextlib.suppress(OSError):
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)


def good(body):
    """A right answer: scores fall with the index."""
    count = len(body["documents"])
    results = [{"index": place, "relevance_score": 1 - place / 100} for place in range(count)]
    return json.dumps({"results": results, "usage": {"total_tokens": 10 * count}}).encode()


@pytest.fixture
def stub():
    """Makes stubs, closed afterwards."""
    made = []

    def make(behave):
        made.append(Stub(behave))
        return made[-1]

    yield make
    for one in made:
        one.close()
