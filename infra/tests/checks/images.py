"""Dockerfiles: hadolint, and what the last stage must say for the platforms' files to be true."""

import json
import re
import subprocess
import sys
from pathlib import Path

from . import settings

FUNCTIONS = ("rerank-cpu-int8", "embed")
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


def check(root: Path) -> list[str]:
    """All Dockerfiles; those of functions, beside, against the contract."""
    problems = []
    for file in dockerfiles(root):
        where = file.relative_to(root).as_posix()
        problems += [f"{where}: {problem}" for problem in _lint(file)]
        stage = last_stage(file)
        user = stage.get("USER", [""])[-1].split(":")[0]
        if user in ROOT_USERS:
            problems.append(f"{where}: the last stage runs as root: expected USER with a number above 0")
        if file.parent.name in FUNCTIONS and file.parent.parent.name == "images":
            problems += [f"{where}: {problem}" for problem in _function(root, file.parent.name, stage)]
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
    entrypoint = stage.get("ENTRYPOINT", ["none"])[-1]
    if entrypoint != f'["/{function}"]':
        problems.append(f'ENTRYPOINT {entrypoint}: expected ["/{function}"]')
    environment = pairs(stage.get("ENV", []))
    for name, value in environment.items():
        problems += settings.check_variable(root, name, value)
    wanted = {"HOST": "0.0.0.0", "PORT": str(settings.port(root))}
    problems += [
        f"ENV {name}={environment.get(name)}: expected {value}"
        for name, value in wanted.items()
        if environment.get(name) != value
    ]
    if stage.get("EXPOSE") != [str(settings.port(root))]:
        problems.append(f"EXPOSE {stage.get('EXPOSE')}: expected {settings.port(root)}")
    if pairs(stage.get("LABEL", [])).get(LABEL) != "Allow":
        problems.append(f'no LABEL {LABEL}="Allow": Lambda refuses SnapStart for the image')
    return problems
