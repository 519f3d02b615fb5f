"""The life of a container, for real: an app's class, its methods called in Modal's order, the binary on loopback.

Modal's decorators are replaced by ones that note what a method is for. Everything else is what a container runs, with the
folders of the image and of the volume being folders of this machine.
"""

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import modal
import pytest
from conftest import APPS, ROOT

QUERY = {"query": "who?", "documents": ["Harper Lee", "Herman Melville"]}
TEXTS = {"input": ["one", "two"]}
PROMPTS = {"prompt": ["one", "two"], "max_tokens": 3, "temperature": 0}


@pytest.fixture
def container(monkeypatch, load, built, snapshots, free_port, tmp_path):
    """The server class of an app, and what each of its methods is for. No binary outlives a test, whatever fails."""
    servers = []

    def noted(kind):
        return lambda method: setattr(method, "kind", kind) or method

    def container(app, model, **chosen):
        monkeypatch.setattr(modal, "enter", lambda snap=False: noted("before" if snap else "after"))
        monkeypatch.setattr(modal, "exit", lambda: noted("exit"))
        monkeypatch.setattr(modal, "web_server", lambda *_, **__: noted("web"))
        monkeypatch.setattr(modal, "concurrent", lambda **_: lambda server: server)
        monkeypatch.setattr(modal.App, "server", lambda *_, **__: lambda server: server)
        monkeypatch.setattr(modal.App, "cls", lambda *_, **__: lambda server: server)
        for name in [name for name in sys.modules if name.partition(".")[0] == "defrost_modal"]:
            monkeypatch.delitem(sys.modules, name)
        module = load(app, model=model, port=free_port, **chosen)
        process = sys.modules["defrost_modal.process"]
        monkeypatch.setattr(process, "BIN", str(built))
        monkeypatch.setattr(process, "MODELS", str(snapshots))
        monkeypatch.setattr(process, "CACHE", str(tmp_path / "cache"))
        server = module.Server()
        servers.append(server)
        methods = [method for name in dir(server) if hasattr(method := getattr(server, name), "kind")]
        run = {kind: [method for method in methods if method.kind == kind] for kind in ("before", "after", "exit", "web")}
        return SimpleNamespace(server=server, run=run, port=free_port, process=process)

    yield container
    for server in servers:
        if hasattr(server, "process") and server.process.child.poll() is None:
            server.process.stop(0)


def call(methods):
    for method in methods:
        method()


def ask(port, path, body=None, key=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        text = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, text, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("app", "model", "path", "body", "found"),
    [
        ("rerank_cpu_int8", "bert-classifier.snap", "/v1/rerank", QUERY, "results"),
        ("embed", "bert-embedding.snap", "/v1/embeddings", TEXTS, "data"),
        ("chat", "generate-qwen3.snap", "/v1/completions", PROMPTS, "choices"),
    ],
)
@pytest.mark.parametrize("form", ["server", "web_server"])
def test_boot_sleep_wake_answer_end(app, model, path, body, found, form, container):
    life = container(app, model, form=form)
    assert [len(life.run[kind]) for kind in ("before", "after", "exit")] == [1, 1, 1]
    assert len(life.run["web"]) == (form == "web_server")
    call(life.run["before"])
    child = life.server.process.child
    try:
        status, health = ask(life.port, "/health")
        assert (status, health["status"]) == (503, "quiesced")
        maps = Path(f"/proc/{child.pid}/maps").read_text()
        assert ".snap" not in maps, "the copy must need no file of the volume"
        call(life.run["after"] + life.run["web"])
        assert ask(life.port, "/ready")[0] == 200
        status, answer = ask(life.port, path, body)
        assert (status, len(answer[found])) == (200, 2)
        assert ask(life.port, "/health")[1]["boot"]["phases"]["restored"] >= 0
    finally:
        call(life.run["exit"])
    assert child.returncode == 0


@pytest.fixture
def portable(built, snapshots):
    """A snapshot for GPUs among those of the volume; skipped where the binary for them was not built."""
    if not (built / "rerank-gpu").is_file():
        pytest.skip(f"{built} has no rerank-gpu")
    out = snapshots / "bert-classifier-gpu.snap"
    source = ROOT / "data" / "golden" / "bert-classifier"
    command = [built / "defrost", "pack", source, "--precision", "bf16", "--isa", "portable", "--out", out, "--force"]
    subprocess.run(command, check=True, capture_output=True)
    return out.name


@pytest.mark.parametrize("gpu_snapshot", ["false", "true"])
def test_a24_a_container_on_a_gpu_boots_answers_and_ends(gpu_snapshot, container, portable):
    """On the emulated device, which builds for tests have."""
    life = container("rerank_gpu", portable, settings="DEVICE=emulated", gpu_snapshot=gpu_snapshot)
    call(life.run["before"] + life.run["after"])
    child = life.server.process.child
    try:
        status, answer = ask(life.port, "/v1/rerank", QUERY)
        assert (status, len(answer["results"])) == (200, 2)
        health = ask(life.port, "/health")[1]
        assert {"context", "module", "upload"} <= health["boot"]["phases"].keys(), health
    finally:
        call(life.run["exit"])
    assert child.returncode == 0


def test_without_memory_snapshots_one_start_and_no_hooks(container):
    life = container("embed", "bert-embedding.snap", memory_snapshot="false")
    assert [len(life.run[kind]) for kind in ("before", "after", "exit")] == [0, 1, 1]
    call(life.run["after"])
    try:
        assert ask(life.port, "/v1/embeddings", TEXTS)[0] == 200
        assert ask(life.port, "/sleep", {})[0] == 404
    finally:
        call(life.run["exit"])
    assert life.server.process.child.returncode == 0


@pytest.mark.parametrize("where", ["API_KEYS", "API_KEYS_FILE"])
def test_with_keys_the_hooks_carry_one(where, container, monkeypatch, tmp_path):
    file = tmp_path / "keys"
    file.write_text("\nfirst\nsecond\n")
    monkeypatch.setenv(where, "first, second" if where == "API_KEYS" else str(file))
    life = container("embed", "bert-embedding.snap", unauthenticated="true", secrets="some")
    call(life.run["before"] + life.run["after"])
    try:
        assert ask(life.port, "/v1/embeddings", TEXTS)[0] == 401
        assert ask(life.port, "/v1/embeddings", TEXTS, "second")[0] == 200
    finally:
        call(life.run["exit"])


def test_open_to_anyone_without_keys_there_are_no_hooks(container):
    life = container("embed", "bert-embedding.snap", unauthenticated="true", secrets="some")
    with pytest.raises(life.process.ProcessError, match="expected API_KEYS in a Modal secret"):
        call(life.run["before"])
    assert not hasattr(life.server, "process")


def test_what_the_binary_does_not_see(container, monkeypatch):
    for name in ("MODAL_IDENTITY_TOKEN", "HF_TOKEN", "AWS_LAMBDA_RUNTIME_API"):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    life = container("embed", "bert-embedding.snap", memory_snapshot="false")
    call(life.run["after"])
    try:
        seen = Path(f"/proc/{life.server.process.child.pid}/environ").read_bytes().split(b"\0")
    finally:
        call(life.run["exit"])
    assert not [one for one in seen if b"hush" in one or one.startswith(b"DEPLOY_")]
    assert b"AWS_ACCESS_KEY_ID=mine" in seen


@pytest.mark.parametrize(
    ("model", "chosen", "said"),
    [
        ("nothing.snap", {}, "nothing.snap"),
        ("bert-embedding.snap", {"settings": "MAX_LENGTH=many"}, "MAX_LENGTH"),
        ("bert-classifier.snap", {}, "bert-classifier"),
    ],
)
def test_a_binary_that_does_not_boot_is_quoted(model, chosen, said, container):
    life = container("embed", model, **chosen)
    with pytest.raises(life.process.ProcessError) as error:
        call(life.run["before"])
    assert "before it was ready" in str(error.value)
    assert said in str(error.value).partition("\n")[2]


def test_a_binary_that_is_never_ready_is_ended(container):
    life = container("embed", "bert-embedding.snap")
    environment = life.process.environment(life.server.settings)
    with pytest.raises(life.process.ProcessError, match="not ready within 0 s"):
        life.process.Process.start(life.process.command(life.server.settings), environment, 0, lambda code: None)


def test_its_log_is_passed_on_and_its_death_is_noticed(container):
    life = container("embed", "bert-embedding.snap")
    settings, log, codes, died = life.server.settings, io.StringIO(), [], threading.Event()
    environment = life.process.environment(settings)
    running = life.process.Process.start(
        life.process.command(settings), environment, 60, lambda code: (codes.append(code), died.set()), log
    )
    running.child.send_signal(signal.SIGKILL)
    assert died.wait(60)
    assert codes == [-signal.SIGKILL]
    assert "bert-embedding" in log.getvalue()


def test_a_container_ends_with_its_binary(built, snapshots, free_port, tmp_path):
    """In a process of its own, since it ends."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(APPS)!r})
from defrost_modal import process, serving
from defrost_modal.settings import Settings
process.BIN, process.MODELS, process.CACHE = {str(built)!r}, {str(snapshots)!r}, {str(tmp_path)!r}
class Server(serving.Started):
    settings = Settings.deployed({{}}, binary="embed", model="bert-embedding.snap", port={free_port}, memory_snapshot=False)
server = Server()
serving._boot(server)
os.kill(server.process.child.pid, signal.SIGKILL)
server.process.reader.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done
    assert "embed ended by itself with -9; so does this container" in done.stderr
