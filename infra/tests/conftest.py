"""The repository, and a copy of what the checks read, in which tests plant errors."""

import os
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
# What the checks read beside infra/.
READ = (
    "SECURITY.md",
    "data/budgets.toml",
    "data/requests",
    "docs",
    "scripts/check/check_infra",
    "scripts/ops/deploy_azure",
    "scripts/lib",
    "scripts/ops/package_lambda",
    "shared/server/src/life/lambda.rs",
)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of it, as far as the checks read."""
    shutil.copytree(ROOT / "infra", tmp_path / "infra", ignore=shutil.ignore_patterns("__pycache__", ".terraform"))
    for name in READ:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return tmp_path


@pytest.fixture(scope="session")
def binaries() -> Path:
    """The folder of the built binaries; what needs them is skipped without."""
    if not (folder := os.environ.get("DEFROST_BIN")):
        pytest.skip("needs binaries: scripts/check/check_infra --bin DIR")
    return Path(folder)
