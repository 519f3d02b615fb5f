"""check_gpu with stand-ins for nvidia-smi and the container engine: what is missing is told, the first thing first.

A real function scores at the end: the one for CPUs, since only the question is what the script asks of it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2]
ROOT = SCRIPTS.parent
L4 = "NVIDIA L4, 535.216.03, 8.9, 23034 MiB"
SECONDS = 120


class Machine:
    """A machine that has only the programs that are put on it."""

    def __init__(self, folder):
        self.bin = folder / "bin"
        self.bin.mkdir()

    def has(self, name, *lines):
        """A program that runs these lines of shell."""
        program = self.bin / name
        program.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        program.chmod(0o755)
        return self

    def card(self, *cards):
        """A driver that tells of these cards."""
        return self.has("nvidia-smi", *(f"echo '{card}'" for card in cards))

    def check(self, *arguments):
        """Exit status, output, what was said of errors."""
        command = [sys.executable, SCRIPTS / "check" / "check_gpu", *map(str, arguments)]
        environment = {"PATH": str(self.bin)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def binaries():
    """The folder of the test binaries."""
    folder = Path(os.environ.get("DEFROST_TEST_BIN", ROOT / "target" / "debug"))
    assert (folder / "rerank-cpu-int8").is_file(), f"expected {folder / 'rerank-cpu-int8'}: build it, or set DEFROST_TEST_BIN"
    return folder.resolve()


def missing(machine, said, *arguments):
    """One line says it, and nothing follows."""
    code, _, error = machine.check(*arguments)
    assert (code, len(error.splitlines()), said in error) == (1, 1, True), error


def test_no_driver(machine):
    missing(machine, "nvidia-smi: not found, so no NVIDIA driver is installed here; install one, or rerank-cpu-int8 needs no GPU")


def test_a_driver_that_does_not_run(machine):
    machine.has("nvidia-smi", "echo 'NVIDIA-SMI has failed because it could not communicate with the driver.'", "exit 9")
    missing(machine, "nvidia-smi: ended with 9 and no card: NVIDIA-SMI has failed")


def test_a_driver_without_a_card(machine):
    missing(machine.has("nvidia-smi", "echo 'No devices were found'"), "no card: No devices were found")


@pytest.mark.parametrize(
    ("driver", "cuda", "said"),
    [
        ("470.82.01", "12.6", "driver 470.82.01: kernels of CUDA 12.6 need 525.60.13 or later"),
        ("525.60.11", "12.6", "driver 525.60.11: kernels of CUDA 12.6 need 525.60.13 or later"),
        ("535.216.03", "13.2.2", "driver 535.216.03: kernels of CUDA 13.2.2 need 580.65.6 or later"),
        ("535.216.03", "11.8", "CUDA 11.8: expected 12 or 13"),
    ],
)
def test_an_old_driver(machine, driver, cuda, said):
    missing(machine.card(L4.replace("535.216.03", driver)), said, "--cuda", cuda)


@pytest.mark.parametrize(
    ("name", "capability", "cuda", "runs"),
    [
        ("Tesla T4", "7.5", "12.6", False),
        ("Tesla V100-SXM2-16GB", "7.0", "13.2.2", False),
        ("NVIDIA B200", "10.0", "13.2.2", False),
        ("NVIDIA RTX PRO 6000", "12.0", "12.6", False),
        ("NVIDIA RTX PRO 6000", "12.0", "13.2.2", True),
        ("NVIDIA A100-SXM4-80GB", "8.0", "12.6", True),
        ("NVIDIA A10G", "8.6", "12.6", True),
        ("NVIDIA H200", "9.0", "13.2.2", True),
    ],
)
def test_which_cards_the_kernels_run_on(machine, name, capability, cuda, runs):
    machine.card(f"{name}, 580.65.06, {capability}, 23034 MiB")
    code, output, error = machine.check("--cuda", cuda, "--function", "nothing")
    assert code == 1
    if runs:
        assert name in output and "--function: nothing: no such file" in error
    else:
        assert f"found {name} ({capability})" in error and "compiled for 8.0 to 9.0" in error


def test_one_good_card_of_several_is_enough(machine):
    code, output, error = machine.card("Tesla T4, 535.216.03, 7.5, 15360 MiB", L4).check("--function", "nothing")
    assert (code, len(output.splitlines()), "no such file" in error) == (1, 2, True)


def test_no_engine_no_toolkit_no_image_no_snapshot(machine):
    machine.card(L4)
    missing(machine, "expected docker or podman, found none")
    machine.has("docker", 'case "$*" in image*) exit 1 ;; esac')
    missing(machine, "NVIDIA container toolkit: found neither nvidia-ctk nor nvidia-container-cli, so docker cannot give")
    machine.has("nvidia-ctk")
    missing(machine, "expected the image localhost/rerank-gpu:latest, found none; scripts/images/build_images rerank-gpu builds it")
    machine.has("docker")
    missing(machine, "--model: expected a snapshot, found None")


def test_a_container_that_does_not_start_is_quoted(machine, tmp_path):
    machine.card(L4).has("nvidia-ctk")
    machine.has("docker", 'case "$*" in create*) echo "unknown runtime: $*" >&2; exit 125 ;; esac')
    (tmp_path / "model.snap").write_bytes(b"a snapshot")
    code, _, error = machine.check("--model", tmp_path / "model.snap")
    assert code == 1 and "unknown runtime" in error and "--gpus=all" in error


def test_a_function_that_runs_is_asked_for_a_score(machine, tmp_path, binaries):
    snapshot = tmp_path / "tiny.snap"
    command = [binaries / "defrost", "pack", ROOT / "data/golden/bert-classifier", "--name", "tiny/bert", "--out", snapshot]
    subprocess.run(command, check=True, capture_output=True)
    code, output, error = machine.card(L4).check("--function", binaries / "rerank-cpu-int8", "--model", snapshot)
    assert code == 0, error
    assert "ok  NVIDIA L4: compute capability 8.9, 23034 MiB, driver 535.216.03" in output
    assert "rerank-gpu: score 0." in output and "restore 0." in output and "first score 0." in output


def test_a_snapshot_that_is_none_is_quoted(machine, tmp_path, binaries):
    (tmp_path / "bad.snap").write_bytes(b"nothing of the kind")
    code, _, error = machine.card(L4).check("--function", binaries / "rerank-cpu-int8", "--model", tmp_path / "bad.snap")
    assert code == 1 and "bad.snap" in error


def test_the_makefile_calls_it():
    command = ["make", "-n", "-C", ROOT, "gpu-check", "MODEL=a.snap"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "scripts/check/check_gpu --model a.snap" in done.stdout
