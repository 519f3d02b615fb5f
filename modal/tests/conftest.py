"""What the tests share. None needs a token or a network.

The folder of the apps is called `modal`, as the package is. It must not hide it: the repository's root is on the path
when pytest is started as a module. A folder without `__init__.py` is only a candidate for a namespace package, which
Python takes if it finds no real package anywhere on the path. So neither `modal/` nor `modal/tests` may have that file;
`test_layout.py` holds this. With Modal's client not installed the folder is taken, which is told here.

Tests of the life of a container run the real binaries: those of DEFROST_BIN, a folder, or of target/debug. Where
DEFROST_BIN is unset and nothing is built they are skipped; where it is set, what is missing fails.
"""

import importlib.util
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import modal
import pytest

APPS = Path(__file__).resolve().parents[1]
ROOT = APPS.parent

if not hasattr(modal, "App"):
    pytest.exit("Modal's client is not installed; scripts/check/test_modal makes an environment that has it", returncode=2)

# As `modal deploy FILE` does.
sys.path.insert(0, str(APPS))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No setting of the shell's, and nobody to talk to by mistake."""
    for name in list(os.environ):
        if name.startswith(("DEPLOY_", "MODAL_", "AWS_", "API_KEY")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MODAL_CONFIG_PATH", os.devnull)
    monkeypatch.setenv("MODAL_SERVER_URL", "http://127.0.0.1:9")


def elf(machine=62, interpreter=False, text=b""):
    """The beginning of a 64-bit ELF file: header, one program header, text."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 3 if interpreter else 1, 0, 0, 0, 0, 0, 0, 0) + text


@pytest.fixture
def binaries(tmp_path):
    """A folder with files that pass for the binaries, where none is run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("rerank-cpu-int8", "embed", "chat", "rerank-gpu", "defrost"):
        (folder / name).write_bytes(elf())
    return folder


@pytest.fixture
def load(monkeypatch, binaries):
    """Imports an app's file as Modal does, with these settings."""

    def load(app, **settings):
        for name, value in {"bin_dir": binaries, **settings}.items():
            monkeypatch.setenv(f"DEPLOY_{name.upper()}", str(value))
        spec = importlib.util.spec_from_file_location(app, APPS / f"{app}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, app, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def seen(monkeypatch):
    """What Modal's decorators and constructors are given; they are called all the same, so Modal's own checks run."""
    calls = SimpleNamespace(server=[], cls=[], function=[], web_server=[], concurrent=[], volumes=[], secrets=[], images=[])

    def spy(owner, name, into):
        real = getattr(owner, name)

        def called(*args, **kwargs):
            into.append((args, kwargs))
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, called)

    spy(modal.App, "server", calls.server)
    spy(modal.App, "cls", calls.cls)
    spy(modal.App, "function", calls.function)
    spy(modal, "web_server", calls.web_server)
    spy(modal, "concurrent", calls.concurrent)
    spy(modal.Volume, "from_name", calls.volumes)
    spy(modal.Volume, "with_mount_options", calls.volumes)
    spy(modal.Secret, "from_name", calls.secrets)
    spy(modal.Image, "from_registry", calls.images)
    spy(modal.Image, "entrypoint", calls.images)
    spy(modal.Image, "env", calls.images)
    spy(modal.Image, "add_local_file", calls.images)
    spy(modal.Image, "add_local_python_source", calls.images)
    return calls


@pytest.fixture(scope="session")
def built():
    """The folder of the real binaries."""
    chosen = os.environ.get("DEFROST_BIN")
    folder = Path(chosen) if chosen else ROOT / "target" / "debug"
    missing = [name for name in ("defrost", "rerank-cpu-int8", "embed", "chat") if not (folder / name).is_file()]
    if missing:
        why = f"{folder} has no {', '.join(missing)}; `make test-modal` builds them, DEFROST_BIN names another folder"
        (pytest.fail if chosen else pytest.skip)(why)
    return folder.resolve()


def packed(built, model, folder):
    """A snapshot of one of the tiny models of data/golden."""
    out = folder / f"{model}.snap"
    command = [built / "defrost", "pack", ROOT / "data" / "golden" / model, "--name", f"tiny/{model}", "--out", out]
    command += ["--kind", "chat"] if model.startswith("generate-") else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def snapshots(built, tmp_path_factory):
    """A folder of snapshots, as the volume holds them."""
    folder = tmp_path_factory.mktemp("models")
    for model in ("bert-classifier", "bert-embedding", "generate-qwen3"):
        packed(built, model, folder)
    return folder


@pytest.fixture
def free_port():
    """A port that was free a moment ago: Modal must know the port before the binary runs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
