"""What `check_cubins` reads out of the compiler's words, and what it says where there is no compiler."""

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).resolve().parents[1] / "check_cubins"
loader = importlib.machinery.SourceFileLoader("check_cubins", str(COMMAND))
spec = importlib.util.spec_from_loader("check_cubins", loader)
check_cubins = importlib.util.module_from_spec(spec)
# Dataclasses look their module up.
sys.modules["check_cubins"] = check_cubins
loader.exec_module(check_cubins)

# Of nvcc 13.3: a kernel of ours, one that had too few registers, one that indexes an array by an argument.
PTXAS = """\
spill.cu(12): warning #177-D: variable "unused" was declared but never referenced
Remark: The warnings can be suppressed with "-diag-suppress <warning-number>"
ptxas warning : Registers are spilled to local memory in function 'gemm_bf16_planted', 564 bytes spill stores, 588 bytes spill loads
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'gemm_int8_64x64' for 'sm_80'
ptxas info    : Function properties for gemm_int8_64x64
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 122 registers, used 1 barriers, 432 bytes cmem[0], 12 bytes cmem[2]
ptxas info    : Compile time = 461.047 ms
ptxas info    : Compiling entry function 'indexed' for 'sm_80'
ptxas info    : Function properties for indexed
    64 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 22 registers, used 0 barriers, 64 bytes cumulative stack size, 2048 bytes smem, 368 bytes cmem[0]
ptxas info    : Compiling entry function 'gemm_bf16_planted' for 'sm_80'
ptxas info    : Function properties for gemm_bf16_planted
    288 bytes stack frame, 564 bytes spill stores, 588 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 288 bytes cumulative stack size, 368 bytes cmem[0]
"""
# Of nvdisasm, shortened.
LISTING = """\
\t.section\t.text.gemm_int8_64x64,"ax",@progbits
\t.sectioninfo\t@"SHI_REGISTERS=122"
.text.gemm_int8_64x64:
        /*0000*/                   IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28] ;
        /*0010*/              @!P2 LOP3.LUT R3, RZ, UR4, RZ, 0x33, !PT ;
        /*0020*/                   IMMA.16832.S8.S8 R4, R8.ROW, R12.COL, R4 ;
        /*0030*/               @P0 EXIT ;
\t.section\t.text.gemm_bf16_planted,"ax",@progbits
.text.gemm_bf16_planted:
        /*0000*/                   HFMA2.MMA R3, -RZ, RZ, 0, 0 ;
        /*1230*/                   EXIT ;
\t.section\t.nv.constant0.gemm_bf16_planted,"a",@progbits
"""


def test_figures_and_faults_are_read():
    kernels = check_cubins.read_ptxas(PTXAS)
    check_cubins.read_code(LISTING, kernels)
    own, indexed, planted = kernels["gemm_int8_64x64"], kernels["indexed"], kernels["gemm_bf16_planted"]
    assert (own.registers, own.shared, own.code, list(own.problems())) == (122, 0, 0x40, [])
    assert (indexed.registers, indexed.shared, indexed.stack, indexed.spills) == (22, 2048, 64, 0)
    assert [problem.split(",")[0] for problem in indexed.problems()] == ["a stack frame of 64 bytes", "no code in the cubin"]
    assert (planted.registers, planted.spills, planted.stack, planted.code) == (32, 1152, 288, 0x1240)
    assert [problem.split(",")[0] for problem in planted.problems()] == [
        "1152 bytes of spills", "a stack frame of 288 bytes", "no HMMA instruction",
    ]  # fmt: skip
    assert [line.split(":")[0] for line in check_cubins.warnings(PTXAS)] == ["spill.cu(12)", "ptxas warning "]


@pytest.mark.parametrize("name, needs", [("gemm_int8_16x32", "IMMA"), ("gemm_f16_16x32", "HMMA"), ("attention_f16_64", "HMMA"), ("norm", None)])
def test_who_needs_tensor_cores(name, needs):
    def problems(unit):
        return list(check_cubins.Kernel(name, code=16, units=frozenset({unit})).problems())

    assert [bool(problems(unit)) for unit in ("HMMA", "IMMA", "FFMA")] == [needs not in (None, unit) for unit in ("HMMA", "IMMA", "FFMA")]


def run(*arguments, **environment):
    """The command where nothing is installed but Python."""
    clean = {"PATH": os.path.dirname(sys.executable), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, COMMAND, *arguments], env=clean | environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(Path("/usr/local/cuda/bin/nvcc").exists(), reason="there is a compiler")
def test_without_a_compiler_it_says_what_to_install():
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected nvcc in" in done.stderr and "pip" in done.stderr
    done = run("--nvcc", "/nowhere/nvcc")
    assert (done.returncode, done.stderr) == (2, "check_cubins: --nvcc: expected the compiler, found no command /nowhere/nvcc\n")


def test_arguments_that_mean_nothing_are_refused(tmp_path):
    assert "found nothing" in run("nothing").stderr
    assert "expected numbers such as 80,89" in run("--capabilities", "sm_80").stderr
    assert run("--kernels", str(tmp_path)).stderr == f"check_cubins: expected kernels, found no *.cu in {tmp_path}\n"


SOUND = """
#include "defrost.cuh"
struct Own { View<float> out; uint32_t n; };
DEFROST_KERNEL(sound, Own) { p.out[threadIdx.x] = static_cast<float>(p.n); }
"""
INDEXED = """
DEFROST_KERNEL(indexed, Own) {
    float held[16];
    for (uint32_t i = 0; i < 16; i++) held[i] = p.out[i];
    for (uint32_t i = 0; i < p.n; i++) held[(i * 7 + p.n) % 16] += i;
    p.out[0] = held[p.n % 16];
}
"""


@pytest.mark.skipif(not (shutil.which("nvcc") or os.environ.get("NVCC")), reason="no nvcc in $NVCC or $PATH")
def test_planted_kernels_are_found(tmp_path):
    """With a compiler: a sound kernel passes; with a stack frame, an error or a name that is taken beside it, not."""
    nvcc = os.environ.get("NVCC") or shutil.which("nvcc")
    shutil.copy(check_cubins.KERNELS / "defrost.cuh", tmp_path)
    (tmp_path / "own.cu").write_text(SOUND)
    for text, code, found in [
        ("", 0, "PASS"),
        (INDEXED, 1, "sm_80: indexed: a stack frame"),
        ("nonsense", 1, "nvcc ends with"),
        ("struct Own {};", 1, "nvcc ends with"),
    ]:
        (tmp_path / "second.cu").write_text(text)
        done = run("--nvcc", nvcc, "--kernels", str(tmp_path), "--capabilities", "80", PATH=os.environ["PATH"])
        assert (done.returncode, found in done.stdout) == (code, True), done.stdout + done.stderr
