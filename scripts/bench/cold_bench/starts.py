"""One start of a contestant: the clock begins, it is started, asked, measured and stopped.

exec    a process on a free port; the clock starts before it does
podman  `podman run` with the given arguments, stopped and removed afterwards; figures are of the container's process
lambda  a process behind a fresh emulator of AWS Lambda, which is not part of the time; asked through its function URL
url     nothing is started: a deployed service that has gone to sleep is asked, after `idle` seconds without a request
"""

import contextlib
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from cold_bench import meter
from cold_bench.contestants import evict, filled
from cold_bench.probe import NoAnswer, first_answer
from lib import lambda_emulator
from lib.child import Deadline, free_port

STOP_SECONDS = 10
SHOWN_CHARS = 1500


@dataclass
class Options:
    """What holds for every start."""

    body: bytes
    patience: float = 120.0
    idle: float = 0.0
    cold_cache: bool = False
    emulator: Path | None = None
    headers: dict = field(default_factory=dict)


def start(contestant, options):
    """One start: (First, figures of the process tree)."""
    if contestant.kind == "url":
        return wake(contestant, options)
    if options.cold_cache:
        os.sync()
        evict(contestant.files)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cold-start-")))
        port = free_port()
        url = f"http://{lambda_emulator.HOST}:{port}{contestant.path}"
        command, environment = filled(contestant, port)
        container = None
        if contestant.kind == "lambda":
            deadline = Deadline(lambda_emulator.TOTAL_SECONDS)
            _, emulator_port = lambda_emulator.start(stack, options.emulator, folder, deadline)
            base = f"http://{lambda_emulator.HOST}:{emulator_port}/lambda-url/{lambda_emulator.FUNCTION_NAME}"
            url = base + contestant.path
            environment |= lambda_emulator.runtime_environment(emulator_port)
        elif contestant.kind == "podman":
            container = f"cold-start-{os.getpid()}-{port}"
            command = ["podman", "run", "--rm", "--name", container, *command]
        log_path = folder / "log"
        log = stack.enter_context(log_path.open("wb"))
        begun = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(stop, process, container, environment)

        def alive():
            if process.poll() is not None:
                raise NoAnswer(f"ended with {process.returncode} before its first answer")

        try:
            found = first_answer(url, options.body, options.headers, begun, options.patience, alive)
        except NoAnswer as error:
            said = log_path.read_text(encoding="utf-8", errors="replace")[-SHOWN_CHARS:].strip()
            raise NoAnswer(f"{error}; its output ends:\n{said}" if said else str(error)) from error
        return found, meter.measure(pid_of(container, environment) if container else process.pid)


def pid_of(container, environment):
    """The first process of a container."""
    command = ["podman", "inspect", "--format", "{{.State.Pid}}", container]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def stop(process, container, environment):
    """Ends what was started and waits for it."""
    if container:
        command = ["podman", "rm", "--force", "--ignore", "--time", "1", container]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wake(contestant, options):
    """A deployed service, which after so long without a request should have scaled to zero."""
    time.sleep(options.idle)
    begun = time.perf_counter()
    return first_answer(contestant.url, options.body, options.headers, begun, options.patience), {}
