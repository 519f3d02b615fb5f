"""The Python environment of the peers: made once, outside the repository; whatever cannot be installed is skipped."""

import subprocess
import sys
import venv
from pathlib import Path

# What pip is asked for, and the module that shows it is there. torch first: the peers would pull it in anyway. On
# x86-64 its default wheel brings CUDA libraries (5 GB unpacked) without which it does not import; a pip configured with
# PyTorch's CPU index needs a tenth of that.
PACKAGES = {
    "numpy": "numpy",
    "xxhash": "xxhash",
    "matplotlib": "matplotlib",
    "torch": "torch",
    "safetensors": "safetensors",
    "runai-model-streamer[s3]": "runai_model_streamer",
    "tensorizer": "tensorizer",
    "fastsafetensors": "fastsafetensors",
    "boto3": "boto3",
}


def prepare(folder: Path):
    """Makes the environment in `folder` or completes it; prints a line for each package."""
    if not python(folder).exists():
        print(f"making {folder}", flush=True)
        venv.create(folder, with_pip=True)
    for package, module in PACKAGES.items():
        if imports(folder, module):
            print(f"{package}: there", flush=True)
            continue
        pip = [python(folder), "-m", "pip", "install", "--quiet", package]
        done = subprocess.run(pip, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode == 0 and imports(folder, module):
            print(f"{package}: installed", flush=True)
        else:
            reason = (done.stderr.strip().splitlines() or ["it does not import"])[-1]
            print(f"{package}: skipped, pip says: {reason}", file=sys.stderr, flush=True)


def python(folder: Path) -> Path:
    """The interpreter of the environment."""
    return folder / "bin" / "python"


def imports(folder: Path, module: str) -> bool:
    """Whether the environment can import a module."""
    try:
        run = [python(folder), "-c", f"import {module}"]
        return subprocess.run(run, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def versions(folder: Path) -> dict[str, str]:
    """The versions of the installed packages of PACKAGES."""
    names = [package.partition("[")[0] for package in PACKAGES]
    code = (
        "import importlib.metadata as m, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(name, m.version(name))\n"
        "    except m.PackageNotFoundError: pass\n"
    )
    try:
        listed = subprocess.run([python(folder), "-c", code, *names], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return {}
    return dict(line.split() for line in listed.stdout.splitlines())
