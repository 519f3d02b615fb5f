"""What scripts that test a running function share: an environment of pinned packages, the function on a free port."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from lib import CannotCheck

START_SECONDS = 30
STOP_SECONDS = 10
POLL_SECONDS = 0.01


def python_with(venv, requirements):
    """The interpreter of a virtual environment that holds exactly these packages' versions, made if need be."""
    python, stamp = venv / "bin" / "python", venv / "requirements"
    wanted = "\n".join(requirements)
    if python.is_file() and stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"installing {', '.join(requirements)} into {venv} ...", file=sys.stderr)
    commands = (
        (sys.executable, "-m", "venv", "--clear", venv),
        (python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", *requirements),
    )
    for command in commands:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotCheck(f"{' '.join(map(str, command))}: {done.stderr.strip()[-2000:]}")
    stamp.write_text(wanted)
    return python


def run_in(venv, requirements):
    """Goes on in the environment: the script starts again under its interpreter."""
    python = python_with(venv, requirements)
    if Path(sys.prefix).resolve() != venv.resolve():
        os.execv(python, [str(python), *sys.argv])


@contextlib.contextmanager
def served(function, model, **settings):
    """The URL of the function, which runs with these settings until the block ends and then must end well."""
    with tempfile.TemporaryDirectory() as folder:
        port_file, log_path = Path(folder) / "port", Path(folder) / "log"
        environment = {"MODEL": str(model), "PORT": "0", "PORT_FILE": str(port_file), "LOG_LEVEL": "warn", **settings}
        with log_path.open("wb") as log:
            process = subprocess.Popen([function], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{written_port(process, port_file, log_path)}"
            wait_ready(url, process, log_path)
            yield url
            if process.poll() is not None:
                raise CannotCheck(f"the function ended by itself: {log_path.read_text()[-2000:]}")
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            sys.stderr.write(log_path.read_text()[-2000:])


def written_port(process, port_file, log_path):
    deadline = time.monotonic() + START_SECONDS
    while not port_file.is_file():
        if process.poll() is not None or time.monotonic() > deadline:
            raise CannotCheck(f"the function did not start: {log_path.read_text()[-2000:]}")
        time.sleep(POLL_SECONDS)
    return port_file.read_text().strip()


def wait_ready(url, process=None, log_path=None):
    """Returns when the function is ready; a process that ends before is told at once, with the end of its log."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process and process.poll() is not None:
            raise CannotCheck(f"the function ended with {process.returncode}: {log_path.read_text()[-2000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(url + "/ready", timeout=5) as answer:
            if answer.status == 200:
                return
        if time.monotonic() > deadline:
            raise CannotCheck("the function was not ready in time")
        time.sleep(POLL_SECONDS)
