"""SECURITY.md and the pages of rows claim what tests show: every test that they name is there."""

import re
from pathlib import Path

import pytest
from test_planted import CASES, IMAGE_CASES

PAGES = ("SECURITY.md", "docs/api-rows.md", "docs/deploy-rows.md")
# Folders with tests in Python.
TESTED = ("infra", "modal", "scripts/bench", "scripts/check")
SPAN = re.compile(r"`([^`]+)`")


@pytest.fixture(scope="module")
def functions(root: Path) -> set[str]:
    """Names of all functions in the Rust and Python tests."""
    rust = [file for folder in ("shared", "functions") for file in (root / folder).rglob("*.rs")]
    python = [file for folder in TESTED for file in (root / folder / "tests").glob("test_*.py")]
    found = {name for file in rust for name in re.findall(r"\bfn (\w+)", file.read_text(encoding="utf-8"))}
    return found | {name for file in python for name in re.findall(r"^def (\w+)", file.read_text("utf-8"), re.MULTILINE)}


@pytest.fixture(scope="module")
def modules(root: Path) -> set[str]:
    """Names of all Rust files and Python tests and checks, which stand for all that is in them."""
    rust = {file.stem for folder in ("shared", "functions") for file in (root / folder).rglob("*.rs")}
    return rust | {file.stem for folder in TESTED for file in (root / folder / "tests").rglob("*.py")}


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_is_there(root: Path, functions: set[str], modules: set[str], page: str) -> None:
    missing, seen = [], 0
    for span in SPAN.findall(" ".join((root / page).read_text(encoding="utf-8").split())):
        name, _, case = span.partition("[")
        if case and not name or name.startswith("test_planted_error"):
            seen += 1
            if case.rstrip("]") not in CASES.keys() | IMAGE_CASES.keys() and case:
                missing.append(span)
        elif "::" in name and not name.endswith("…") or re.fullmatch(r"(test|a|the)_\w+|\w+_(is|are|can|bounds|ends)_\w+", name):
            seen += 1
            if name.rsplit("::", 1)[-1] not in functions | modules:
                missing.append(span)
    assert (missing, seen > 5) == ([], True)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(root: Path, page: str) -> None:
    """Paths of folders of ours; patterns and what is built are left out, and images, which may not be in this checkout."""
    spans = SPAN.findall((root / page).read_text(encoding="utf-8"))
    paths = {span for span in spans if re.fullmatch(r"(infra|data|docs|scripts|shared)/[\w./-]+", span)}
    assert paths
    assert [path for path in sorted(paths) if not path.startswith("infra/images") and not (root / path).exists()] == []
