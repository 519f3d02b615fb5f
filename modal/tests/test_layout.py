"""The folder `modal/` does not hide the package `modal`, whoever comes first on the path; see conftest.py."""

import subprocess
import sys
from pathlib import Path

import modal
from conftest import APPS, ROOT


def test_the_folder_is_no_package():
    assert not (APPS / "__init__.py").exists()
    assert not (APPS / "tests" / "__init__.py").exists()


def test_the_package_is_found_from_the_root():
    code = "import sys; sys.path.insert(0, ''); import modal; print(modal.__file__, modal.App.server)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(done.stdout.split()[0]) == Path(modal.__file__)


def test_files_are_short():
    for file in APPS.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, file
