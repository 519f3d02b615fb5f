"""A function's binary as a child of Modal's Python: start, readiness, memory snapshots, end.

The binary binds its port first and loads afterwards; `start` returns when `/ready` says that it is loaded. What it logs
passes through a thread, which hands each line on to Modal's log and keeps the last ones: if the binary ends before it is
ready, they are in the error. If it ends later, unasked, `died` is called, since Modal watches its own process only.

Around a snapshot of the container's memory, `sleep` and `wake` call the binary's hooks over loopback. They carry a key if
the binary has some. The child and the pipe to it are in the snapshot as everything else of the container is.

The child's environment is made, not inherited: Modal's holds tokens of the container, which the binary has no use for.
"""

import collections
import contextlib
import http.client
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from .images import BIN, ORT_LIBRARY
from .settings import MODELS

LOOPBACK = "127.0.0.1"
CACHE = "/tmp/defrost"

# A small model is ready in 5 ms; a probe is a fifth of a millisecond of this process.
POLL_SECONDS = 0.005
PROBE_SECONDS = 5
# The binary's own warnings before it gives up are a few lines.
KEPT_LINES = 20
# The binary ends within SHUTDOWN_GRACE; the rest is for the exit itself.
KILL_AFTER_GRACE_SECONDS = 2

# What of the container's environment the binary may see: what Modal secrets bring for it.
INHERITED = ("API_KEYS", "API_KEY", "API_KEYS_FILE", "AWS_", "SSL_CERT_FILE", "SSL_CERT_DIR")
# Where the driver lies and which card is the container's: its base image and Modal say so in the environment.
INHERITED_WITH_GPU = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_")
# Would make the binary speak the Lambda runtime API.
NOT_INHERITED = "AWS_LAMBDA_"


class ProcessError(RuntimeError):
    """What the binary did instead of what it was asked to."""


def command(settings):
    """How the binary is started in the container."""
    return [f"{BIN}/{settings.binary}"]


def environment(settings, container=None):
    """The child's environment."""
    container = os.environ if container is None else container
    made = {
        "PATH": container.get("PATH", os.defpath),
        "MODEL": settings.model if settings.remote_model else f"{MODELS}/{settings.model}",
        # Modal's proxy comes over the container's interface in the form `web_server`.
        "HOST": "0.0.0.0",
        "PORT": str(settings.port),
        "FAST_BOOT": str(settings.fast_boot).lower(),
        "SNAPSHOT_HOOKS": str(settings.memory_snapshot).lower(),
        "SHUTDOWN_GRACE": str(settings.shutdown_grace),
        "CACHE_DIR": CACHE,
        # A container is new each time, so no stamp of an earlier start can hold; hash beside the boot instead of before it.
        "VERIFY": "on-the-fly",
        # The host's cores are visible in a container, and the binary would take them all.
        "NUM_THREADS": str(math.ceil(settings.cpu)),
    }
    if settings.ort_library:
        made["ORT_DYLIB_PATH"] = ORT_LIBRARY
    names = INHERITED + (INHERITED_WITH_GPU if settings.gpu else ())
    return made | inherited(container, names, NOT_INHERITED) | settings.binary_settings


def inherited(container, prefixes, without=None):
    """Variables of the container that begin so."""
    names = (name for name in container if name.startswith(prefixes) and not (without and name.startswith(without)))
    return {name: container[name] for name in names}


def check_exposure(settings, environment):
    """Without proxy tokens and without keys, whoever reaches the port through a proxy that hides it could use the hooks."""
    keyless = not (environment.get("API_KEYS") or environment.get("API_KEY") or environment.get("API_KEYS_FILE"))
    if settings.unauthenticated and settings.memory_snapshot and keyless:
        raise ProcessError(
            "DEPLOY_UNAUTHENTICATED=true opens the routes of the memory snapshot too: expected API_KEYS in a Modal secret "
            "(DEPLOY_SECRETS=NAME), found none; or set DEPLOY_MEMORY_SNAPSHOT=false"
        )


class Process:
    """One run of the binary."""

    def __init__(self, command, environment, died, log=None):
        self.environment, self.died, self.log = environment, died, log or sys.stdout
        self.lines, self.ready, self.stopping = collections.deque(maxlen=KEPT_LINES), False, False
        self.child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    @classmethod
    def start(cls, command, environment, seconds, died, log=None):
        """Returns when the binary is ready for requests."""
        process = cls(command, environment, died, log)
        try:
            process._wait_until_ready(seconds)
        except BaseException:
            process.stop(0)
            raise
        return process

    def sleep(self, seconds):
        """Makes the process fit for a snapshot of its memory."""
        self._hook("/sleep", "quiesced", seconds)

    def wake(self, seconds):
        """Makes a copy serve; does nothing in a process that is awake."""
        self._hook("/wake_up", "ok", seconds)

    def stop(self, grace):
        """Ends the binary, which answers what it has begun; its exit code, 0 if all of that was done in time."""
        self.stopping = True
        self.child.terminate()
        try:
            self.child.wait(grace + KILL_AFTER_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.reader.join()
        return self.child.returncode

    def ask(self, method, path, seconds):
        """Status and body."""
        connection = http.client.HTTPConnection(LOOPBACK, int(self.environment["PORT"]), timeout=seconds)
        try:
            connection.request(method, path, headers=self._key())
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def _wait_until_ready(self, seconds):
        deadline = time.monotonic() + seconds
        said = "nothing"
        name = self.child.args[0]
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, said = self.ask("GET", "/ready", PROBE_SECONDS)
                self.ready = status == 200
            # After `ready` is set: whoever ends later is noticed by the reader, whoever ended before is noticed here.
            if self.child.poll() is not None:
                self.reader.join()
                raise ProcessError(f"{name} ended with {self.child.returncode} before it was ready:\n{self._tail()}")
            if self.ready:
                return
            time.sleep(POLL_SECONDS)
        raise ProcessError(f"{name} was not ready within {seconds} s; /ready said {said}; its log ends:\n{self._tail()}")

    def _hook(self, path, state, seconds):
        status, body = self.ask("POST", path, seconds)
        if status != 200 or f'"{state}"' not in body:
            raise ProcessError(f"POST {path}: expected 200 with the state {state}, found {status}: {body.strip()}")

    def _key(self):
        keys = self.environment.get("API_KEYS") or self.environment.get("API_KEY")
        if not keys and (file := self.environment.get("API_KEYS_FILE")):
            keys = next((line for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()), "")
        return {"authorization": f"Bearer {keys.split(',')[0].strip()}"} if keys else {}

    def _tail(self):
        return "\n".join(self.lines) or "(it logged nothing)"

    def _read(self):
        for line in self.child.stdout:
            self.lines.append(line.rstrip("\n"))
            print(line, end="", file=self.log, flush=True)
        code = self.child.wait()
        if self.ready and not self.stopping:
            self.died(code)
