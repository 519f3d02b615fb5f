"""The folder `modal/` does not hide the package `modal`, whoever comes first on the path; see conftest.py."""

import os
import subprocess
import sys
from pathlib import Path

import modal
import pytest
from conftest import APPS, ROOT


def test_the_folder_is_no_package():
    assert not (APPS / "__init__.py").exists()
    assert not (APPS / "tests" / "__init__.py").exists()


def test_the_package_is_found_from_the_root():
    code = "import sys; sys.path.insert(0, ''); import modal; print(modal.__file__, modal.App.server)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(done.stdout.split()[0]) == Path(modal.__file__)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("deploy modal/embed.py", "Token missing"),
        ("run modal/pack.py --help", "--source TEXT"),
        ("run modal/bulk.py --help", "--corpus TEXT"),
    ],
)
def test_modals_command_line_takes_each_app(words, said, binaries):
    """From the root, up to where it would need a token."""
    kept = {name: os.environ[name] for name in ("PATH", "MODAL_CONFIG_PATH", "MODAL_SERVER_URL")}
    done = subprocess.run(
        [sys.executable, "-m", "modal", *words.split()],
        cwd=ROOT,
        env={**kept, "DEPLOY_BIN_DIR": str(binaries), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said in done.stdout + done.stderr


def test_files_are_short():
    for file in APPS.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, file
