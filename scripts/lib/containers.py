"""Containers for the scripts that build, run and test images: which engine, with which flags, and a running function.

The engine is docker or podman, the first that answers, or what CONTAINER_ENGINE names. Most machines need no flags
beside the usual ones. In some sandboxes podman's default runtime (crun) fails, or the limits it asks for are above the
machine's own; `Engine.fit` tries the flags that help there, one after the other, on the image itself. RUN_FLAGS and
BUILD_FLAGS, given in the environment, are added to every `run` and `build`.
"""

import http.client
import json
import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from lib import ROOT, CannotCheck
from lib.child import free_port

FUNCTIONS = ("rerank-cpu-int8", "embed", "chat")
# Those with a variant for ONNX models, and those with one for GPUs.
ORT = ("rerank-cpu-int8", "embed")
GPU_VARIANTS = ("embed",)
# The function for GPUs, whose Dockerfile also makes the GPU variants of the others.
GPU = "rerank-gpu"
GPU_BINARY = "/function"
# The image of the command line tool, which jobs run.
TOOL = "defrost"
# Bounds of the engine's own commands; a build in a container takes half an hour on two cores.
COMMAND_SECONDS = 120
BUILD_SECONDS = 7200
ANSWER_SECONDS = 120
POLL_SECONDS = 0.001
SHOWN_CHARS = 2000
PORT = 8000

# What every container of ours gets, in tests as in `make image-run`: it needs no right, no file and no more processes
# than its threads (one a core and a few for requests; 256 is far above that on any machine it is rented on).
LOCKED_DOWN = [
    "--read-only",
    "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=64m",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=256",
]

# Global flags and flags of `run`, for podman where it does not run as it is.
PODMAN_FITS = [
    ([], []),
    (["--runtime", "runc"], []),
    (["--runtime", "runc"], ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]),
]

# One short query, one short document: what a first score is measured with everywhere in this repository. Of a language
# model it is the likeliest tokens of a short message, few enough that the first of them is what takes the time.
RERANK = ("/v1/rerank", {"query": "who wrote it?", "documents": ["Harper Lee wrote it in 1960."]})
REQUESTS = {
    "rerank-cpu-int8": RERANK,
    GPU: RERANK,
    "embed": ("/v1/embeddings", {"input": ["who wrote it?"]}),
    "chat": ("/v1/completions", {"prompt": "who wrote it?", "max_tokens": 4, "temperature": 0}),
}
# The same, of a function that streams, long enough that a signal finds it running.
STREAM = ("/v1/completions", {"prompt": "who wrote it?", "max_tokens": 64, "temperature": 0, "ignore_eos": True, "stream": True})


class Failed(AssertionError):
    """A container, or the engine's command about it, that did not do what it must."""


class Engine:
    """docker or podman."""

    def __init__(self):
        wanted = os.environ.get("CONTAINER_ENGINE")
        found = [
            name for name in ([wanted] if wanted else ["docker", "podman"]) if shutil.which(name) and answers(name)
        ]
        if not found:
            raise CannotCheck(
                f"expected {wanted or 'docker or podman'}, found none that answers `info`; install one, or start it"
            )
        self.program = found[0]
        # Under the name docker podman is still podman, by what it says.
        self.is_podman = (
            "podman" in subprocess.run([self.program, "--version"], capture_output=True, text=True, check=False).stdout
        )
        self.globals, self.run_flags = [], []

    def fit(self, image):
        """Finds the flags under which containers run here, on an image whose program knows --version."""
        last = ""
        for flags, run_flags in PODMAN_FITS if self.is_podman else PODMAN_FITS[:1]:
            run_flags = run_flags + shlex.split(os.environ.get("RUN_FLAGS", ""))
            done = self.tried(*flags, "run", "--rm", *run_flags, *LOCKED_DOWN, image, "--version")
            if done.returncode == 0:
                self.globals, self.run_flags = flags, run_flags
                return " ".join(flags + run_flags) or "none"
            last = done.stderr.strip()[-SHOWN_CHARS:]
        raise CannotCheck(f"{self.program} cannot run {image}: {last}; set RUN_FLAGS to what this machine needs")

    def tried(self, *arguments, seconds=COMMAND_SECONDS):
        """The command, as it ended."""
        command = [self.program, *map(str, arguments)]
        try:
            return subprocess.run(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{shlex.join(command)}: no end within {seconds} s") from error

    def call(self, *arguments):
        """The output of a command that must succeed."""
        done = self.tried(*self.globals, *arguments)
        if done.returncode:
            raise Failed(f"{self.program} {shlex.join(map(str, arguments))}: {done.stderr.strip()[-SHOWN_CHARS:]}")
        return done.stdout.strip()

    def inspected(self, kind, name):
        """What the engine knows of an image or a container."""
        return json.loads(self.call(kind, "inspect", name))[0]

    def has_image(self, name):
        """Whether the image is on this machine."""
        return self.tried("image", "inspect", name).returncode == 0

    def gpu_flags(self):
        """Flags of `run` that give a container the machine's GPUs and the driver: NVIDIA's runtime hook, or CDI."""
        return ["--device=nvidia.com/gpu=all"] if self.is_podman else ["--gpus=all"]

    def memory_limit_works(self):
        """Whether --memory is enforced: the engine must have the memory controller."""
        shape = "{{.Host.CgroupControllers}}" if self.is_podman else "{{.MemoryLimit}}"
        said = self.call("info", "--format", shape)
        # Under the first version of cgroups podman lists no controllers, and mounts tell.
        return "memory" in said or said == "true" or Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()


def answers(program):
    """Whether the engine is there and, for docker, its daemon."""
    return subprocess.run([program, "info"], capture_output=True, check=False).returncode == 0


def image_of(function, tag="latest"):
    """The image's full name, which docker and podman read alike."""
    return f"localhost/{function}:{tag}"


class Container:
    """A container of a function, created with these flags, removed on leaving."""

    def __init__(self, engine, function, image, model=None, flags=(), settings=None, host_network=False, port=None):
        self.engine, self.function = engine, function
        self.port = port or free_port()
        self.name = f"defrost-{function}-{self.port}"
        command = ["create", "--name", self.name, *engine.run_flags, *LOCKED_DOWN, *flags]
        command += ["--network=host"] if host_network else ["-p", f"127.0.0.1:{self.port}:{PORT}"]
        if host_network:
            settings = {"PORT": str(self.port), "HOST": "127.0.0.1"} | (settings or {})
        if model:
            command += ["-v", f"{Path(model).resolve()}:/models/model.snap:ro"]
        for name, value in (settings or {}).items():
            command += ["-e", f"{name}={value}"]
        engine.call(*command, image)

    @classmethod
    def existing(cls, engine, function, name, port):
        """A container that another program made, and removes."""
        one = cls.__new__(cls)
        one.engine, one.function, one.name, one.port = engine, function, name, port
        return one

    def __enter__(self):
        return self

    def __exit__(self, *_):
        (
            self.engine.tried("rm", "-f", "-t", "0", self.name)
            if self.engine.is_podman
            else self.engine.tried("rm", "-f", self.name)
        )

    def start(self):
        """Starts it, for the first time or again."""
        self.engine.call("start", self.name)

    def state(self):
        """Running, exit code, killed for memory, process id, health."""
        return self.engine.inspected("container", self.name)["State"]

    def logs(self):
        """What it wrote, on both streams."""
        done = self.engine.tried("logs", self.name)
        return (done.stdout + done.stderr)[-SHOWN_CHARS:]

    def ask(self, method, path, body=None):
        """Status and body of one answer, or None while no process listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        # docker's proxy accepts before the function listens, and then closes.
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def first_answer(self, method="POST", path=None, body=None, seconds=ANSWER_SECONDS):
        """The answer to the function's request, asked again until the function listens."""
        if path is None:
            path, body = REQUESTS[self.function]
        body = json.dumps(body) if body is not None else None
        deadline = time.monotonic() + seconds
        while (answer := self.ask(method, path, body)) is None:
            if time.monotonic() > deadline or not self.state()["Running"]:
                raise Failed(
                    f"{self.name} gave no answer to {method} {path}; it is {self.state()}, its log ends:\n{self.logs()}"
                )
            time.sleep(POLL_SECONDS)
        return answer

    def score(self):
        """The numbers of the function's answer, or its text, which must be good."""
        status, body = self.first_answer()
        if status != 200:
            raise Failed(f"{self.name} answered {status}: {body[:SHOWN_CHARS]!r}")
        answer = json.loads(body)
        if self.function == "embed":
            return answer["data"][0]["embedding"]
        if self.function == "chat":
            return answer["choices"][0]["text"]
        return [[one["index"], one["relevance_score"]] for one in answer["results"]]
