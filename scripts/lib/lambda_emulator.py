"""The emulator of AWS Lambda in cargo-lambda: fetched through pip, started for a function that is run beside it.

It has none of Lambda's limits, no freezing and no SnapStart. It needs cargo on the PATH, reads a manifest with it and
builds nothing. A function must not be replaced under a running emulator: a request may then go to the one that has
left.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys

from lib import CannotCheck
from lib.child import SHOWN_CHARS, Child, free_port, poll

EMULATOR_VERSION = "1.9.2"
HOST = "127.0.0.1"
# The emulator's word for "the function of this folder"; another name would have to be a binary in the manifest.
FUNCTION_NAME = "_"
TOTAL_SECONDS = 120

MANIFEST = """[package]
name = "check"
version = "0.0.0"
edition = "2021"

[[bin]]
name = "check"
path = "main.rs"

[workspace]
"""


def emulator_of(venv, deadline):
    """The path of the emulator, installed if need be."""
    if shutil.which("cargo") is None:
        raise CannotCheck("cargo is not on the PATH; the emulator runs `cargo metadata`")
    folder = venv / "bin"
    program, doing = folder / "cargo-lambda", f"installing cargo-lambda {EMULATOR_VERSION}"

    def run(*command):
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=deadline.left(doing),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise deadline.missed(doing) from None

    def installed():
        if not program.is_file():
            return False
        answer = run(program, "lambda", "--version")
        return answer.returncode == 0 and f"cargo-lambda {EMULATOR_VERSION}" in answer.stdout

    if installed():
        return program
    print(f"{doing} ...", file=sys.stderr)
    # Dependencies are left out: zig (100 MB) is for cross builds.
    pip = (folder / "python", "-m", "pip", "--disable-pip-version-check", "--no-input")
    for command in (
        (sys.executable, "-m", "venv", venv),
        (*pip, "install", "--quiet", "--no-deps", f"cargo-lambda=={EMULATOR_VERSION}"),
    ):
        answer = run(*command)
        if answer.returncode:
            hint = "`pip index versions cargo-lambda` lists the versions within reach"
            raise CannotCheck(f"{doing}: {answer.stdout.strip()[-SHOWN_CHARS:]}\n{hint}")
    if not installed():
        raise CannotCheck(f"{doing}: pip succeeded, but {program} is not that version")
    return program


def listens(port):
    """Whether a process accepts connections on this port."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def emulator_environment():
    """This process's, less what would configure the emulator, and no network for cargo."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_PROXY") and not name.startswith(("AWS_", "CARGO_LAMBDA_"))
    }
    return kept | {"CARGO_NET_OFFLINE": "true", "NO_COLOR": "1"}


def start(stack, program, folder, deadline):
    """A running emulator, stopped when `stack` is left, and its port."""
    (folder / "Cargo.toml").write_text(MANIFEST, encoding="utf-8")
    (folder / "main.rs").write_text("fn main() {}\n", encoding="utf-8")
    port = free_port()
    # CORS would be the emulator's; the function has its own.
    command = [program, "lambda", "watch", "--only-lambda-apis", "--disable-cors"]
    command += ["--invoke-address", HOST, "--invoke-port", str(port)]
    emulator = stack.enter_context(Child("emulator", command, emulator_environment(), folder))
    poll(deadline, "starting the emulator", [emulator], lambda: listens(port))
    return emulator, port


def runtime_environment(port):
    """What makes a function speak to the emulator instead of listening."""
    return {
        "AWS_LAMBDA_FUNCTION_NAME": FUNCTION_NAME,
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "4096",
        "AWS_LAMBDA_RUNTIME_API": f"http://{HOST}:{port}/.rt",
    }
