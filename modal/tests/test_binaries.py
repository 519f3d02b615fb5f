"""Binaries are judged before anything is sent, and lie where the Makefile builds them."""

import os
import re
import subprocess

import pytest
from conftest import ROOT, elf
from defrost_modal import binaries


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such binary; `make release` builds them"),
        (b"\xcf\xfa\xed\xfe" + bytes(60), "expected a binary for Linux on x86-64"),
        (elf(machine=183), "expected a binary for Linux on x86-64"),
        (elf(interpreter=True, text=b"\0GLIBC_2.9\0GLIBC_2.42\0GLIBC_2.4\0"), "needs glibc 2.42, the image has 2.41"),
    ],
)
def test_what_cannot_run_is_refused(content, said, tmp_path):
    file = tmp_path / "embed"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(binaries.BinaryError, match=re.escape(said)):
        binaries.check(file)


@pytest.mark.parametrize("content", [elf(interpreter=True, text=b"GLIBC_2.41\0GLIBC_2.9"), elf(text=b"GLIBC_2.99")])
def test_what_can_is_not(content, tmp_path):
    file = tmp_path / "embed"
    file.write_bytes(content)
    binaries.check(file)


def test_real_binaries_are_recognised(built):
    for name in ("embed", "rerank-cpu-int8", "chat", "defrost"):
        try:
            binaries.check(built / name)
        except binaries.BinaryError as error:
            # Where these tests run, the C library may be newer than that of the image.
            assert "needs glibc" in str(error)


def test_an_app_tells_of_a_missing_binary(load, binaries):
    (binaries / "embed").unlink()
    with pytest.raises(Exception, match="no such binary"):
        load("embed")


@pytest.mark.parametrize("form", ["", "-uvx", "-onnx"])
@pytest.mark.parametrize("target", ["modal-serve", "modal-deploy"])
def test_the_makefile_deploys_what_it_builds(target, form):
    said = commands(target + form)
    folder = "target/ort/release" if form == "-onnx" else "target/release"
    builds = [line for line in said.splitlines() if line.startswith("cargo build --release")]
    assert any(f"-p {name}" in line for line in builds for name in ("embed", "rerank-cpu-int8"))
    for line in builds:
        assert ("--target-dir target/ort" in line) == (form == "-onnx"), line
    deploy = said.splitlines()[-1]
    assert f" {target.removeprefix('modal-')} modal/rerank_cpu_int8.py" in deploy
    chosen = re.search(r"DEPLOY_BIN_DIR=(\S+)", deploy)
    assert (chosen.group(1) if chosen else "target/release") == folder
    assert ("uvx" in deploy) == (form == "-uvx")
    assert ("DEPLOY_ORT_LIBRARY=" in deploy) == (form == "-onnx")


@pytest.mark.parametrize("target", ["modal-serve", "modal-deploy", "modal-deploy-uvx"])
def test_the_makefile_builds_kernels_for_a_function_on_a_gpu(target):
    said = commands(target, APP="rerank_gpu").splitlines()
    (built,) = [line for line in said if line.startswith("cargo build")]
    assert built == "cargo build --release -p rerank-gpu --features cuda,cubins"
    assert said[-1].endswith("modal/rerank_gpu.py")
    assert "rerank-gpu" not in commands(target)


def test_only_deployments_make_memory_snapshots():
    assert "DEPLOY_MEMORY_SNAPSHOT=false" in commands("modal-serve").splitlines()[-1]
    assert "DEPLOY_MEMORY_SNAPSHOT" not in commands("modal-deploy")


@pytest.mark.parametrize(("variables", "ends"), [({}, "/v1/rerank"), ({"APP": "embed"}, "/v1/embeddings"), ({"APP": "chat"}, "/v1/chat/completions")])
def test_curl_asks_the_apps_route(variables, ends):
    said = commands("modal-curl", URL="https://here", **variables)
    assert f" curl https://here{ends} " in said


def test_curl_needs_an_address():
    done = make("modal-curl")
    assert done.returncode != 0
    assert "URL=" in done.stderr


def test_packing_takes_a_source():
    assert "modal/pack.py --source hf://a/b" in commands("modal-pack", SOURCE="hf://a/b")


def make(target, **variables):
    words = [f"{name}={value}" for name, value in variables.items()]
    return subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target, *words],
        cwd=ROOT,
        # Neither this make's flags nor an APP of the shell's.
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def commands(target, **variables):
    """What make would run, a command a line."""
    done = make(target, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\\\n", " ").strip()
