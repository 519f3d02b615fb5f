"""Dockerfiles: hadolint, and what the last stage must say for the platforms' files to be true.

An image for GPUs has nothing of CUDA: the driver is the host's, which its container runtime mounts if the image asks for
it, and a static binary could not open it. What its kernels are compiled with decides which drivers and cards they run on.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from . import settings

FUNCTIONS = ("rerank-cpu-int8", "embed", "chat")
# Folders of images for GPUs: one file for all functions, which its argument FUNCTION names, so the binary's name is neutral.
GPU_FUNCTIONS = ("rerank-gpu",)
GPU_BINARY = "/function"
GPU_VARIABLES = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
# Where Google's hosts mount the driver, and where NVIDIA's runtime does in an image that is not Debian's.
DRIVER_FOLDERS = ("/usr/local/nvidia/lib64", "/usr/lib64")
GPU_FEATURES = {"cuda", "cubins"}
# Compilers that get nested divergence wrong (facts: pytorch#190385): from the first, before the second.
WRONG_COMPILERS = ((12, 8, 0), (13, 2, 2))
BUDGETS = "data/budgets.toml"
LABEL = "com.amazonaws.lambda.feature.snapstart"
ROOT_USERS = {"", "0", "root"}


def dockerfiles(root: Path) -> list[Path]:
    """All below infra/, whoever wrote them."""
    return sorted(file for file in (root / "infra").rglob("Dockerfile*") if file.suffix not in {".md", ".dockerignore"})


def instructions(file: Path) -> list[tuple[str, str]]:
    """Instruction and argument, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    found = []
    for line in text.splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            found.append((word.upper(), rest.strip()))
    return found


def last_stage(file: Path) -> dict[str, list[str]]:
    """Arguments of the last stage by instruction."""
    stage: dict[str, list[str]] = {}
    for word, rest in instructions(file):
        if word == "FROM":
            stage = {}
        stage.setdefault(word, []).append(rest)
    return stage


def pairs(arguments: list[str]) -> dict[str, str]:
    """`A=1 B="two words"` of ENV and LABEL."""
    return {
        name: quoted or plain
        for argument in arguments
        for name, quoted, plain in re.findall(r'([\w.]+)=(?:"([^"]*)"|(\S+))', argument)
    }


def for_gpus(function: str) -> bool:
    """Whether the image in this folder is one for GPUs."""
    return function in GPU_FUNCTIONS


def health_check(stage: dict[str, list[str]]) -> list[str]:
    """The command of HEALTHCHECK, empty without one."""
    found = re.search(r"CMD (\[.*\])$", stage.get("HEALTHCHECK", [""])[-1])
    return json.loads(found[1]) if found else []


def check(root: Path) -> list[str]:
    """All Dockerfiles; those of functions, beside, against the contract."""
    problems = []
    budgets = tomllib.loads((root / BUDGETS).read_text(encoding="utf-8"))["image"]
    for file in dockerfiles(root):
        where = file.relative_to(root).as_posix()
        problems += [f"{where}: {problem}" for problem in _lint(file)]
        stage = last_stage(file)
        user = stage.get("USER", [""])[-1].split(":")[0]
        if user in ROOT_USERS:
            problems.append(f"{where}: the last stage runs as root: expected USER with a number above 0")
        if file.parent.name not in budgets and file.parent.parent.name == "images":
            problems.append(f"{where}: {BUDGETS} has no [image.{file.parent.name}]")
        if file.parent.name in FUNCTIONS + GPU_FUNCTIONS and file.parent.parent.name == "images":
            problems += [f"{where}: {problem}" for problem in _function(root, file.parent.name, stage)]
        if file.parent.name in GPU_FUNCTIONS:
            problems += [f"{where}: {problem}" for problem in _gpu(file, stage)]
    return problems


def _lint(file: Path) -> list[str]:
    hadolint = Path(sys.executable).parent / "hadolint"
    # DL3008 wants versions of Debian's packages, which its mirrors drop within weeks.
    command = [hadolint, "--format", "json", "--no-color", "--ignore", "DL3008", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.startswith("["):
        return [f"hadolint: {(done.stderr or done.stdout).strip()[:300]}"]
    return [f"{one['code']} {one['message']} (line {one['line']})" for one in json.loads(done.stdout)]


def _function(root: Path, function: str, stage: dict[str, list[str]]) -> list[str]:
    problems = []
    gpu = for_gpus(function)
    binary = GPU_BINARY if gpu else f"/{function}"
    entrypoint = stage.get("ENTRYPOINT", ["none"])[-1]
    if entrypoint != f'["{binary}"]':
        problems.append(f'ENTRYPOINT {entrypoint}: expected ["{binary}"]')
    if "HEALTHCHECK" in stage and health_check(stage) != [binary, "healthcheck"]:
        problems.append(f"HEALTHCHECK {health_check(stage)}: expected the binary's own healthcheck")
    environment = pairs(stage.get("ENV", []))
    for name, value in environment.items():
        if not (gpu and name in {*GPU_VARIABLES, "LD_LIBRARY_PATH"}):
            problems += settings.check_variable(root, name, value, gpu=gpu)
    wanted = {"HOST": "0.0.0.0", "PORT": str(settings.port(root))}
    problems += [
        f"ENV {name}={environment.get(name)}: expected {value}"
        for name, value in wanted.items()
        if environment.get(name) != value
    ]
    if stage.get("EXPOSE") != [str(settings.port(root))]:
        problems.append(f"EXPOSE {stage.get('EXPOSE')}: expected {settings.port(root)}")
    label = pairs(stage.get("LABEL", [])).get(LABEL)
    if not gpu and label != "Allow":
        problems.append(f'no LABEL {LABEL}="Allow": Lambda refuses SnapStart for the image')
    if gpu and label:
        problems.append(f"LABEL {LABEL}: Lambda has no SnapStart with a GPU")
    return problems


def _gpu(file: Path, stage: dict[str, list[str]]) -> list[str]:
    """The last stage asks for the host's driver and brings nothing of CUDA; the stage before builds what can use it."""
    problems = []
    if "HEALTHCHECK" not in stage:
        problems.append("no HEALTHCHECK: a container whose device is lost would stay")
    if stage["FROM"] != ["scratch"]:
        problems.append(f"the last stage is FROM {stage['FROM'][0]}: expected scratch, nothing of CUDA belongs in the image")
    problems += [f"COPY {one}: nothing of CUDA belongs in the image" for one in stage.get("COPY", []) if "from=cuda" in one]
    environment = pairs(stage.get("ENV", []))
    problems += [
        f"ENV {name}={environment.get(name)}: expected {value}, or the container runtime mounts no driver"
        for name, value in GPU_VARIABLES.items()
        if environment.get(name) != value
    ]
    found = environment.get("LD_LIBRARY_PATH", "").split(":")
    problems += [f"LD_LIBRARY_PATH lacks {one}, where hosts mount the driver" for one in DRIVER_FOLDERS if one not in found]
    said = instructions(file)
    arguments = dict(rest.split("=", 1) for word, rest in said if word == "ARG" and "=" in rest)
    if missing := GPU_FEATURES - set(arguments.get("FEATURES", "").split(",")):
        problems.append(f"FEATURES lacks {', '.join(sorted(missing))}: the binary would have no kernels for a GPU")
    if any("crt-static" in rest for word, rest in said if word == "ENV"):
        problems.append("RUSTFLAGS has crt-static: a static binary cannot open libcuda")
    version = re.search(r"nvidia/cuda:(\d+)\.(\d+)\.(\d+)-devel", arguments.get("CUDA", ""))
    if not version:
        problems.append(f"ARG CUDA={arguments.get('CUDA')}: expected nvidia/cuda:VERSION-devel-SYSTEM, whose nvcc compiles the kernels")
    elif WRONG_COMPILERS[0] <= tuple(map(int, version.groups())) < WRONG_COMPILERS[1]:
        problems.append(f"CUDA {'.'.join(version.groups())}: its compiler gets nested divergence wrong; take 12.6 or 13.2.2 and later")
    return problems
