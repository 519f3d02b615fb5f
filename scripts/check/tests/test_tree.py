"""The tree itself: links, paths and make targets resolve, commands explain themselves, comments have one width."""

import ast
import functools
import io
import os
import re
import subprocess
from pathlib import Path

import pyflakes.api
import pyflakes.reporter
import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "scripts"
SKIPPED = {"__pycache__", "corpus", "target", "node_modules", ".terraform", "golden.json", "CHANGELOG.md"}
TEXT = {"", ".js", ".md", ".mjs", ".mk", ".ort", ".py", ".rs", ".sh", ".tf", ".toml", ".txt", ".yaml", ".yml"}
# Longest line of a comment, a docstring or a paragraph; code and tables may be longer, and SECURITY.md is.
WIDTH = 120
SECONDS = 60
# Makes an environment with pip before anything else, since the help it prints is Modal's own.
WITHOUT_HELP_OF_ITS_OWN = {"modal_cli"}
# Targets that refuse to begin without a word on the command line.
WORDS = {
    "modal-bulk": ["CORPUS=a.jsonl", "OUT=b.parquet", "DEPLOY_MODEL=c.snap"],
    "modal-curl": ["URL=https://host"],
    "modal-pack": ["SOURCE=hf://a/b"],
}


@functools.cache
def texts():
    """Path and text of every file that a person wrote."""
    found = {}
    folders = [ROOT / name for name in (".config", "docs", "functions", "infra", "modal", "scripts", "shared")]
    for folder in folders:
        for path, names, files in os.walk(folder):
            names[:] = sorted(set(names) - SKIPPED)
            found |= {Path(path) / name: None for name in sorted(files) if name not in SKIPPED and Path(name).suffix in TEXT}
    some = [*ROOT.iterdir(), *(ROOT / "data").iterdir(), ROOT / "data/requests/README.md", ROOT / "data/scifact-mini/SOURCE.md"]
    found |= {path: None for path in some if path.is_file() and path.name not in SKIPPED and path.suffix in TEXT}
    return {path: path.read_text(encoding="utf-8") for path in found if b"\0" not in path.read_bytes()[:1000]}


def name_of(path):
    """The path as a person would write it."""
    return str(path.relative_to(ROOT))


def commands():
    """Every script that can be run by its name."""
    return [path for path in texts() if path.is_relative_to(SCRIPTS) and os.access(path, os.X_OK)]


def anchors(text):
    """The anchors that a page's headings have."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    problems, seen = [], 0
    for page, text in texts().items():
        if page.suffix != ".md":
            continue
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
            if "://" in target:
                continue
            seen += 1
            path = (page.parent / target).resolve() if target else page
            if not path.exists():
                problems.append(f"{name_of(page)}: link to {target}, which is not there")
            elif anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
                problems.append(f"{name_of(page)}: link to {target}#{anchor}, a heading that is not there")
    assert (problems, seen > 50) == ([], True)


def test_scripts_that_are_named_are_there():
    """`scripts/ROOM/NAME` in any text; placeholders in capitals and patterns are left out."""
    problems, seen = [], 0
    for file, text in texts().items():
        for name in re.findall(r"(?<![\w/.-])(?:\$\(ROOT\)/)?(scripts/[a-z][\w./-]*)(?![*{\w./-])", text):
            seen += 1
            if not (ROOT / name.rstrip(".-")).exists():
                problems.append(f"{name_of(file)}: {name}, which is not there")
    assert (problems, seen > 100) == ([], True)


@pytest.mark.parametrize("folder", ["", "infra/azure"])
def test_targets_of_make_resolve(folder):
    """`make -n` of each finds what it needs and names only scripts that are there."""
    makefiles = [ROOT / folder / "Makefile", *([] if folder else [ROOT / "modal/targets.mk"])]
    text = "\n".join(texts()[file] for file in makefiles)
    targets = {name for line in re.findall(r"^([a-z][a-z -]*):(?!=)", text, re.MULTILINE) for name in line.split()}
    assert len(targets) > 10
    problems = []
    for target in sorted(targets):
        words = next((words for name, words in WORDS.items() if target.startswith(name)), [])
        command = ["make", "-n", "-C", ROOT / folder, target, *words, "FUNCTION=embed", "SNAPSHOT=Makefile"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            problems.append(f"make {target}: {done.stderr.strip()}")
        named = re.findall(r"(?<![\w.-])(?:[./\w-]+/)?(scripts/[a-z][\w./-]*)", done.stdout.replace(f"{ROOT}/", ""))
        problems += [f"make {target}: {name} is not there" for name in named if not (ROOT / name).exists()]
    assert problems == []


def test_commands_explain_themselves():
    """--help of each, without what it needs to run: exit 0, its own name, nothing done."""
    problems, seen = [], 0
    for path in commands():
        if path.name in WITHOUT_HELP_OF_ITS_OWN:
            continue
        seen += 1
        done = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=SECONDS, cwd="/", check=False)
        if done.returncode or path.name not in done.stdout:
            problems.append(f"{name_of(path)} --help: exit {done.returncode}: {(done.stdout + done.stderr)[:500]}")
    assert (problems, seen > 25) == ([], True)


def test_python_knows_its_names():
    """No script that only runs by hand uses a name that it does not have, or imports one that it does not use."""
    said, seen = io.StringIO(), 0
    for path, text in texts().items():
        if is_python(path, text):
            seen += 1
            pyflakes.api.check(text, name_of(path), pyflakes.reporter.Reporter(said, said))
    assert (said.getvalue(), seen > 100) == ("", True)


def test_libraries_import_no_room():
    """scripts/lib is what the others share: it imports the standard library and itself."""
    others = [path.name for path in SCRIPTS.iterdir() if path.is_dir() and path.name != "lib"]
    others += [path.name for path in (SCRIPTS / "bench").iterdir() if path.is_dir()]
    found = [path for path in texts() if path.parent == SCRIPTS / "lib"]
    imported = {name for path in found for name in re.findall(r"^\s*(?:from|import) (\w+)", texts()[path], re.MULTILINE)}
    assert len(found) > 5 and imported & set(others) == set()
    assert [name_of(path) for path in found if os.access(path, os.X_OK)] == []


def test_comments_and_paragraphs_have_one_width():
    problems = []
    for path, text in texts().items():
        if path.suffix == ".md" and path.name != "SECURITY.md" and not path.is_relative_to(ROOT / "shared"):
            prose = paragraphs(text)
        elif path.is_relative_to(SCRIPTS) and path.suffix in {"", ".py", ".mjs"}:
            prose = comments(text) | (docstrings(text) if is_python(path, text) else {})
        else:
            continue
        problems += [f"{name_of(path)}:{at}: {len(line)} characters" for at, line in prose.items() if len(line) > WIDTH]
    assert problems == []


def is_python(path, text):
    """Whether a file is Python, by its ending or its first line."""
    return path.suffix == ".py" or text.startswith("#!/usr/bin/env python3")


def comments(text):
    """Lines that are nothing but a comment, by number."""
    lines = enumerate(text.splitlines(), 1)
    return {at: line for at, line in lines if line.lstrip().startswith(("# ", "//"))}


def docstrings(text):
    """The lines of all docstrings, by number."""
    lines, found = text.splitlines(), {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            first = node.body[0]
            found |= {at: lines[at - 1] for at in range(first.lineno, first.end_lineno + 1)}
    return found


def paragraphs(text):
    """The lines of a page of Markdown by number, but for code, tables, pictures and headings."""
    prose, fenced = {}, False
    for at, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("|", "#", "!")):
            prose[at] = line
    return prose
