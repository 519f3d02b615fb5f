"""The contestants of the local benchmark, with which file, and as what.

Kinds: `ours`; `loader`, a Python library that hands out tensors; `floor`, the same bytes read by no loader, which shows
what the machine can do. `verified` says that every byte is compared with a hash before it counts as ready.
"""

from dataclasses import dataclass, field
from pathlib import Path

from loader_bench import peer_env


@dataclass(frozen=True)
class Contestant:
    """One way to read the checkpoint."""

    name: str
    kind: str
    command: tuple[str, ...]
    file: Path
    verified: bool = False
    states: frozenset[str] = frozenset({"warm", "cold", "written", "fresh"})
    env: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """The name for tables."""
        return f"**{self.name}**" if self.kind == "ours" else self.name


# Name in the tables, name in peers.py, the module it needs, file, environment.
RUNAI = "RUNAI_STREAMER_CONCURRENCY"
LOADERS = [
    ("safetensors mmap", "safetensors-mmap", "safetensors.torch", "model.safetensors", {}),
    ("safetensors pread", "safetensors-pread", "safetensors.torch", "model.safetensors", {}),
    ("safetensors read", "safetensors-read", "safetensors.torch", "model.safetensors", {}),
    ("runai c=2", "runai", "runai_model_streamer", "model.safetensors", {RUNAI: "2"}),
    ("runai c=8", "runai", "runai_model_streamer", "model.safetensors", {RUNAI: "8"}),
    ("runai c=16", "runai", "runai_model_streamer", "model.safetensors", {RUNAI: "16"}),
    ("runai c=16 clone", "runai-clone", "runai_model_streamer", "model.safetensors", {RUNAI: "16"}),
    ("tensorizer", "tensorizer", "tensorizer", "model.tensors", {}),
    ("tensorizer verify_hash", "tensorizer-hash", "tensorizer", "model.tensors", {}),
    ("fastsafetensors", "fastsafetensors", "fastsafetensors", "model.safetensors", {}),
    ("numpy.fromfile", "numpy-fromfile", "numpy", "model.raw", {}),
]
# Also measured with XXH3-64 over all tensors; runai at the concurrency it ships with for files.
WITH_PARITY = {
    "safetensors mmap", "safetensors pread", "safetensors read", "runai c=16", "fastsafetensors", "numpy.fromfile"
}  # fmt: skip
PLAIN = ["mmap-populate", "mmap-touch", "pread", "odirect"]
OURS = ["defrost-stamped", "defrost-on-the-fly", "defrost-eager"]


def ours(binary: Path, folder: Path) -> list[Contestant]:
    """The loader in its three modes. A stamp vouches for a file that was hashed before, so its bytes are verified."""
    return [
        Contestant(
            name.replace("defrost-", "defrost "),
            "ours",
            (str(binary), name),
            folder / "model.snap",
            verified=name != "defrost-stamped",
        )
        for name in OURS
    ]


def plain(binary: Path, folder: Path, venv: Path) -> list[Contestant]:
    """The same bytes without a loader. O_DIRECT passes by the page cache, so only cold is a state of it."""
    file, cold = folder / "model.raw", frozenset({"cold"})
    rows = [
        Contestant(name, "floor", (str(binary), name), file)
        if name != "odirect"
        else Contestant("O_DIRECT 8x8 MiB", "floor", (str(binary), name), file, states=cold)
        for name in PLAIN
    ]
    return [*rows, Contestant("cat >/dev/null", "floor", peer("cat", folder, venv), file)]


def loaders(folder: Path, venv: Path) -> tuple[list[Contestant], list[str]]:
    """The Python loaders, each with parity of verification where it has none, and a line for each that is missing."""
    there, missing, known = [], [], {}
    for name, script_name, module, file, env in LOADERS:
        if module not in known:
            known[module] = peer_env.imports(venv, module)
        if not known[module] or not (folder / file).exists():
            what = f"{file} was not made" if known[module] else f"{module} is not in {venv}"
            missing.append(f"skipped: {name}: {what}; `bench_loader --prepare` installs it")
            continue
        command = peer(script_name, folder, venv)
        hashes = script_name == "tensorizer-hash"
        there.append(Contestant(name, "loader", command, folder / file, hashes, env=env))
        if name in WITH_PARITY:
            there.append(Contestant(f"{name} + xxh3", "loader", (*command, "--verify"), folder / file, True, env=env))
    return there, missing


def peer(name: str, folder: Path, venv: Path) -> tuple[str, ...]:
    """The command line of a Python contestant, but for the file."""
    script = Path(__file__).with_name("peers.py")
    return (str(peer_env.python(venv)), str(script), name, "--model", str(folder / "model.json"))
