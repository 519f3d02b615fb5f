"""The side-by-side of `make bench-cold`: all-MiniLM-L6-v2 by defrost, by ONNX Runtime, by FastAPI with transformers.

All contestants have the same weights and get the same request. What has to be made first (weights, snapshots, ONNX
files, the peers' environment) is made once by `prepare` and kept: models/ in this repository, which git ignores, and
`venv`.
"""

import subprocess
import sys

from cold_bench.contestants import Contestant
from lib import ROOT, CannotCheck
from lib.served import python_with

NAME = "sentence-transformers/all-MiniLM-L6-v2"
CHECKPOINT = ROOT / "models" / "all-MiniLM-L6-v2"
ONNX, ONNX_INT8 = ROOT / "models" / "minilm-onnx", ROOT / "models" / "minilm-onnx-int8"
PEERS = ROOT / "scripts" / "bench" / "peers"
SHOWN_CHARS = 2000


def requirements():
    """What the peers' environment holds, pinned."""
    return (PEERS / "requirements.txt").read_text(encoding="utf-8").split()


def snapshot(precision):
    """Where the snapshot of this precision is."""
    return ROOT / "models" / f"all-MiniLM-L6-v2-{precision}.snap"


def run(doing, *command):
    """Runs it; its output only if it fails."""
    print(f"{doing} ...", file=sys.stderr, flush=True)
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotCheck(f"{doing} ended with {done.returncode}:\n{(done.stdout + done.stderr).strip()[-SHOWN_CHARS:]}")


def prepare(binaries, venv):
    """Makes what is missing."""
    defrost = binary(binaries, "defrost")
    run("fetching all-MiniLM-L6-v2 unless it is there", ROOT / "scripts" / "ops" / "fetch_default_model", "--out", CHECKPOINT)
    for precision in ("int8", "f32"):
        out = snapshot(precision)
        # A snapshot of an older tool may have a layout that this one does not read.
        if not out.is_file() or out.stat().st_mtime < defrost.stat().st_mtime:
            run(f"packing {out.name}", defrost, "pack", CHECKPOINT, "--precision", precision, "--name", NAME, "--out", out, "--force")
    python = python_with(venv, requirements())
    if not (ONNX / "model.onnx").is_file():
        run("exporting to ONNX", python, "scripts/golden/export_onnx.py", "--model-id", CHECKPOINT, "--out-dir", ONNX)
    if not (ONNX_INT8 / "model.onnx").is_file():
        paths = ("--model-path", ONNX / "model.onnx", "--out-path", ONNX_INT8 / "model.onnx")
        run("quantising", python, "scripts/golden/quantize_onnx.py", "--per-channel", *paths)


def binary(folder, name):
    """A binary that was built."""
    path = folder / name
    if not path.is_file():
        raise CannotCheck(f"expected {path}, found no such file: `make quick` or `make release` builds it, --bin says where")
    return path


def field(binaries, venv):
    """The contestants."""
    function, python = binary(binaries, "rerank-cpu-int8"), venv / "bin" / "python"
    packages = sorted(venv.glob("lib/python*/site-packages"))
    missing = [path for path in (snapshot("int8"), snapshot("f32"), ONNX / "model.onnx", ONNX_INT8 / "model.onnx", python)
               if not path.is_file()]  # fmt: skip
    if missing:
        raise CannotCheck(f"expected {missing[0]}, found no such file: run `scripts/bench/cold_start --prepare --minilm` first")
    found = []
    for precision in ("int8", "f32"):
        model = snapshot(precision)
        environment = {"MODEL": str(model), "PORT": "{port}", "LOG_LEVEL": "warn"}
        found.append(Contestant(f"defrost {precision}", "exec", [function], environment, ours=True,
                                approximate=precision == "int8", files=[function, model]))  # fmt: skip
    for name, script, model in (
        ("ONNX Runtime f32", "onnx_server.py", ONNX),
        ("ONNX Runtime int8", "onnx_server.py", ONNX_INT8),
        ("FastAPI + transformers f32", "fastapi_server.py", CHECKPOINT),
    ):
        environment = {"MODEL": str(model), "PORT": "{port}"}
        found.append(Contestant(name, "exec", [python, PEERS / script], environment, approximate="int8" in name,
                                files=[*packages, model]))  # fmt: skip
    return found


def versions(venv):
    """Versions of the peers' packages that matter, and whether torch brings CUDA along."""
    names = ("torch", "transformers", "fastapi", "onnxruntime", "tokenizers")
    code = "import importlib.metadata as m, sys\nprint(*(m.version(name) for name in sys.argv[1:]))"
    listed = subprocess.run([venv / "bin" / "python", "-c", code, *names], capture_output=True, text=True, check=False)
    found = dict(zip(names, listed.stdout.split()))
    cuda = next(iter(venv.glob("lib/python*/site-packages/torch/lib/libtorch_cuda.so")), None)
    return found | ({"torch's build": "with CUDA libraries, not used"} if cuda else {})
