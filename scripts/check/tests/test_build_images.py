"""build_images for GPUs: the folder that stands for the stage `build` has what the binary and the driver ask for."""

import importlib.machinery
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SCRIPTS))

from lib import CannotCheck  # noqa: E402


@pytest.fixture(scope="module")
def build_images():
    """The command as a module."""
    loader = importlib.machinery.SourceFileLoader("build_images", str(SCRIPTS / "images" / "build_images"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("build_images", loader))
    loader.exec_module(module)
    return module


def test_the_c_library_goes_with_a_binary_for_gpus(build_images, tmp_path):
    binaries, name = tmp_path / "bin", build_images.GPU
    binaries.mkdir()
    shutil.copy(shutil.which("ls"), binaries / name)
    root = build_images.replacement(binaries, name, "gpu", tmp_path / "scratch") / "rootfs"
    linker = next(root.glob("lib*/ld-linux*"))
    folders = {str(path.parent) for path in root.rglob("lib*.so*")}
    found = subprocess.run(
        [linker, "--inhibit-cache", "--library-path", ":".join(folders), "--list", root / "function"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    resolved = re.findall(r"=> (/\S+)", found)
    assert resolved and all(path.startswith(str(root)) for path in resolved if "ld-linux" not in path), found
    assert {"libc.so.6", *build_images.LIBRARIES} <= {path.name for path in root.rglob("lib*.so*")}
    assert (root / "etc/ssl/certs/ca-certificates.crt").is_file() and (root / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_a_static_binary_is_refused_for_gpus(build_images, tmp_path):
    """It could not open libcuda. A static one is an ELF file without a dynamic linker."""
    header = bytearray(Path(shutil.which("ls")).read_bytes()[:64])
    header[56:58] = bytes(2)
    (tmp_path / build_images.GPU).write_bytes(header)
    with pytest.raises(CannotCheck, match="expected a dynamic binary with the features .*cubins"):
        build_images.replacement(tmp_path, build_images.GPU, "gpu", tmp_path / "scratch")


def test_flags_and_files_are_those_of_the_dockerfile(build_images):
    assert "crt-static" in build_images.named("ENV RUSTFLAGS=") and "crt-static" not in build_images.named("ENV RUSTFLAGS=", "gpu")
    assert build_images.named("ARG RUST=") == build_images.named("ARG RUST=", "gpu")
    assert build_images.dockerfile("embed", "gpu") == build_images.dockerfile(build_images.GPU, "gpu")
    features = build_images.named("ARG FEATURES=", "gpu")
    assert features == build_images.FEATURES["gpu"]


def test_features_are_those_of_the_functions(build_images):
    """What an image is built with, its function knows; one that is not in this checkout is left out."""
    wanted = [(name, "") for name in build_images.FUNCTIONS] + [(name, "ort") for name in build_images.ORT]
    wanted += [(build_images.GPU, "gpu")]
    seen = 0
    for name, variant in wanted:
        manifest = SCRIPTS.parent / "functions" / name / "Cargo.toml"
        if manifest.is_file():
            seen += 1
            known = tomllib.loads(manifest.read_text())["features"]
            assert set(build_images.FEATURES[variant].split(",")) <= known.keys(), (name, variant)
    assert seen >= 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rerank-cpu-int8", "--gpu"], "is for CPUs; build rerank-gpu"),
        (["rerank-gpu", "--ort"], "do not run on a GPU"),
        (["chat", "--gpu"], "chat is for CPUs; build rerank-gpu"),
        (["chat", "--ort"], "chat has no variant with ONNX Runtime, expected one of rerank-cpu-int8, embed"),
        (["defrost", "--gpu"], "build defrost by itself"),
        (["rerank-gpus"], "unknown image rerank-gpus, expected one of"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, said):
    command = [sys.executable, SCRIPTS / "images" / "build_images", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
