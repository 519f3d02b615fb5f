"""The packager: what it writes, and what it refuses with which words."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SHARED_TRUE = Path(shutil.which("true") or "/bin/true")


def package(root: Path, binary: Path, out: Path, limits: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the script; `limits` is Python that changes its numbers first."""
    script = root / "scripts" / "ops" / "package_lambda"
    if not limits:
        command = [sys.executable, "-B", script, binary, "--out", out]
    else:
        code = f"import sys, runpy; sys.argv = {[str(script), str(binary), '--out', str(out)]!r}\n"
        code += f"source = open({str(script)!r}).read()\n{limits}\n"
        code += f"exec(compile(source, {str(script)!r}, 'exec'), {{'__name__': '__main__', '__file__': {str(script)!r}}})"
        command = [sys.executable, "-B", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_zip_is_one_executable_and_always_the_same(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copy(SHARED_TRUE, copy)
    os.utime(copy, (1, 1))
    sums = set()
    for number, binary in enumerate((SHARED_TRUE, copy)):
        out = tmp_path / f"{number}" / "bootstrap.zip"
        done = package(root, binary, out)
        assert done.returncode == 0, done.stderr
        sums.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(sums) == 1
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ["bootstrap"]
        assert archive.getinfo("bootstrap").external_attr >> 16 == 0o100755
        assert archive.read("bootstrap") == SHARED_TRUE.read_bytes()


@pytest.mark.skipif(not shutil.which("objdump"), reason="needs objdump, of binutils")
def test_symbols_are_those_of_objdump(root: Path) -> None:
    sys.path.insert(0, str(root / "scripts"))
    from lib.elf import Elf

    for name in ("true", "bash", "sh", "tar"):
        file = Path(shutil.which(name) or pytest.fail(f"no {name}"))
        ours = sorted(version for _, version in Elf(file.read_bytes()).symbols if version.startswith("GLIBC_"))
        said = subprocess.run(["objdump", "-T", file], capture_output=True, text=True, check=True).stdout
        assert ours == sorted(re.findall(r"GLIBC_[0-9.]+", said)), name
        assert ours, name


def test_a_symbol_that_is_too_new_is_named(root: Path, tmp_path: Path) -> None:
    """The name of a version is a string in the file: 2.34 becomes 2.99 and everything that asks for it is too new."""
    data = SHARED_TRUE.read_bytes()
    if b"GLIBC_2.34\0" not in data:
        pytest.skip(f"{SHARED_TRUE} asks for no GLIBC_2.34")
    binary = tmp_path / "new"
    binary.write_bytes(data.replace(b"GLIBC_2.34\0", b"GLIBC_2.99\0"))
    done = package(root, binary, tmp_path / "out.zip")
    assert done.returncode == 1
    assert "expected GLIBC 2.34 at most, found 2.99" in done.stderr
    assert "__libc_start_main (GLIBC_2.99)" in done.stderr
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"libc.so.6\0", b"libz.so.9\0", "libz.so.9, which provided.al2023 lacks"),
        (b"\x7fELF", b"MZ\0\0", "expected an ELF executable"),
        (b"\x7fELF\x02\x01\x01", b"\x7fELF\x01\x01\x01", "64-bit"),
    ],
)
def test_other_files_are_refused(root: Path, tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    data = SHARED_TRUE.read_bytes()
    assert old in data
    binary = tmp_path / "odd"
    binary.write_bytes(data.replace(old, new, 1) if old != b"libc.so.6\0" else data.replace(old, new))
    done = package(root, binary, tmp_path / "out.zip")
    assert (done.returncode, words in done.stderr) == (1, True), done.stderr


def test_another_processor_is_refused(root: Path, tmp_path: Path) -> None:
    data = bytearray(SHARED_TRUE.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")
    (tmp_path / "arm").write_bytes(data)
    done = package(root, tmp_path / "arm", tmp_path / "out.zip")
    assert (done.returncode, "one for aarch64" in done.stderr) == (1, True), done.stderr


def test_every_cut_of_a_file_is_refused_or_read(root: Path) -> None:
    """A damaged file is an answer, not a traceback."""
    sys.path.insert(0, str(root / "scripts"))
    from lib.elf import Elf, NotElf

    data = SHARED_TRUE.read_bytes()
    for length in [*range(0, 4096, 61), *range(4096, len(data), 997)]:
        try:
            Elf(data[:length])
        except NotElf:
            continue


@pytest.mark.parametrize(
    ("limit", "words"),
    [("MOST_ZIPPED = 50 * 1024 * 1024", "bytes of zip at most"), ("MOST_UNZIPPED = 250 * 1024 * 1024", "bytes at most")],
)
def test_sizes_are_bounded(root: Path, tmp_path: Path, limit: str, words: str) -> None:
    """With limits of a hundred bytes, since real ones would need real files."""
    small = f"assert {limit!r} in source\nsource = source.replace({limit!r}, {limit.split(' = ')[0] + ' = 100'!r})"
    done = package(root, SHARED_TRUE, tmp_path / "out.zip", small)
    assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_told(root: Path, tmp_path: Path) -> None:
    done = package(root, tmp_path / "none", tmp_path / "out.zip")
    assert (done.returncode, "No such file" in done.stderr) == (2, True)


def test_the_binaries_fit(root: Path, binaries: Path, tmp_path: Path) -> None:
    for name in ("rerank-cpu-int8", "embed", "chat"):
        done = package(root, binaries / name, tmp_path / f"{name}.zip")
        # Binaries of a debug build may be too large; what they ask for must be there all the same.
        assert done.returncode == 0 or "at most, found" in done.stderr and "GLIBC" not in done.stderr, done.stderr
