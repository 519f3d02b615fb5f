"""What can be chosen when an app is deployed, and where it is read from.

Each field of `Settings` is also an environment variable of the machine that deploys: `DEPLOY_` and its name in capitals.
App files give other defaults where their function wants them. All mistakes are reported at once, and a `DEPLOY_` variable
that is no setting is refused.

An app file is imported twice: where it is deployed, and again in every container, where Modal pairs the volumes and
secrets that the file names there with those of the deployment, by position. Both imports must therefore see the same
settings: the image carries the `DEPLOY_` variables (`carried`), and nothing else is read.
"""

import dataclasses
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "DEPLOY_"
FORMS = ("server", "web_server")
MODELS = "/models"

# Names that follow from fields here; a second place for them would only let the two disagree.
FOLLOWING = ("MODEL", "HOST", "PORT", "PORT_FILE", "FAST_BOOT", "SNAPSHOT_HOOKS", "SHUTDOWN_GRACE", "CACHE_DIR")
# Modal's names of cards whose compute capability the kernels are compiled for: 8.0, 8.6, 8.9, 9.0, and 12.0 by a CUDA 13. A T4
# has 7.5, a B200 10.0. A mark or a size after the name is Modal's, as in `H100!` or `A100-80GB`.
GPUS = ("L4", "A10", "A10G", "L40S", "A100", "A100-40GB", "A100-80GB", "H100", "H100!", "H200", "RTX-PRO-6000")

# The function that streams: as many replies as MAX_RUNNING (its default) run at once, with 1 GiB of keys and values beside what
# any function computes in.
STREAMS = "chat"
MAX_RUNNING = 32
LEAST_STREAM_MEMORY = 1536

# Names whose values must not lie readable in an image.
SECRET = ("API_KEYS", "API_KEY")

ROOT = Path(__file__).resolve().parents[2]


class SettingsError(ValueError):
    """Every mistake found in the settings."""


def _setting(default, meaning):
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """See each field; numbers of rows are justified in README.md beside this package."""

    binary: str
    name: str = _setting("", "name of the app; default: the binary's")
    model: str = _setting("", "snapshot to serve: a file of the volume, or s3://bucket/key")
    volume: str = _setting("defrost-snapshots", "Modal volume with the snapshots, made if missing")
    form: str = _setting("server", "server (`@app.server`) or web_server (`@modal.web_server`)")
    fast_boot: bool = _setting(True, "the binary's FAST_BOOT; false compiles ONNX models and warms up before ready")
    memory_snapshot: bool = _setting(True, "start containers from a copy of a booted one's memory (deployments only); with a GPU: as DEPLOY_GPU_SNAPSHOT")
    gpu_snapshot: bool = _setting(False, "the copy holds the GPU's memory too (alpha)")
    unauthenticated: bool = _setting(False, "let anyone call; false: Modal asks for a proxy token")
    secrets: tuple[str, ...] = _setting((), "Modal secrets for the binary: API_KEYS, AWS_* of an s3:// model; comma-separated")
    hf_secret: str = _setting("", "Modal secret with HF_TOKEN, for packing gated or private models")
    cpu: float = _setting(4.0, "physical cores; also the binary's NUM_THREADS")
    memory: int = _setting(4096, "MiB")
    gpu: str = _setting("", "GPU type, for functions that use one: L4, A10G, A100, L40S, H100, H200")
    min_containers: int = _setting(0, "containers kept while no request comes; 0: nothing costs anything then")
    max_containers: int = _setting(20, "most containers at once, which bounds the bill")
    buffer_containers: int = _setting(1, "containers beyond need while requests come")
    scaledown_window: int = _setting(300, "seconds a container waits for the next request before it goes")
    target_concurrency: int = _setting(6, "requests at once in a container that the autoscaler aims at")
    max_concurrency: int = _setting(0, "most requests at once in a container; 0: the form's own, see below")
    startup_timeout: int = _setting(600, "seconds from a container's start until it serves")
    timeout: int = _setting(600, "seconds for one request (web_server) or one piece of bulk work")
    shutdown_grace: int = _setting(20, "seconds for the requests at hand when a container goes")
    port: int = _setting(8000, "port of the binary in the container")
    routing_region: str = _setting("us-east", "region whose proxy takes the requests (server)")
    compute_region: str = _setting("", "region of the containers; default: anywhere, which is cheapest")
    bin_dir: str = _setting("target/release", "folder of the binaries, from the repository's root or absolute")
    base_image: str = _setting("", "image to add the binaries to, for functions that need its libraries; default: Debian 13")
    add_python: str = _setting("", "Python version to add to that image, if it has none")
    ort_library: str = _setting("", "libonnxruntime.so to ship, for binaries built with the feature ort")
    bake: bool = _setting(True, "binaries in the image; false: mounted at start, quicker to change")
    settings: str = _setting("", "further settings of the binary: NAME=VALUE NAME=VALUE")

    @classmethod
    def deployed(cls, environ=None, **defaults):
        """The app's defaults, overridden by the environment."""
        environ = os.environ if environ is None else environ
        fields = {PREFIX + field.name.upper(): field for field in dataclasses.fields(cls) if field.name != "binary"}
        chosen, errors = dict(defaults), []
        for variable, text in sorted(environ.items()):
            if not variable.startswith(PREFIX) or not text:
                continue
            if variable not in fields:
                errors.append(f"{variable} is no setting; there are {', '.join(sorted(fields))}")
                continue
            try:
                chosen[fields[variable].name] = _parsed(fields[variable].type, text)
            except ValueError as error:
                errors.append(f"{variable}: {error}, found {text!r}")
        if errors:
            raise SettingsError("; ".join(errors))
        chosen["name"] = chosen.get("name") or chosen["binary"]
        if chosen.get("gpu"):
            # While a memory snapshot without the GPU's is made, the container has no GPU to boot on.
            chosen.setdefault("memory_snapshot", chosen.get("gpu_snapshot", False))
        settings = cls(**chosen)
        if errors := list(settings._mistakes()):
            raise SettingsError("; ".join(errors))
        return settings

    def _mistakes(self):
        def say(name, expected):
            return f"{PREFIX}{name.upper()}: expected {expected}, found {getattr(self, name)!r}"

        if self.form not in FORMS:
            yield say("form", " or ".join(FORMS))
        for name in ("cpu", "memory", "max_containers", "scaledown_window", "startup_timeout", "timeout", "port"):
            if getattr(self, name) <= 0:
                yield say(name, "more than 0")
        for name in ("min_containers", "buffer_containers", "target_concurrency", "max_concurrency", "shutdown_grace"):
            if getattr(self, name) < 0:
                yield say(name, "0 or more")
        if self.min_containers > self.max_containers:
            yield say("min_containers", f"at most DEPLOY_MAX_CONTAINERS, which is {self.max_containers}")
        if self.concurrency and self.target_concurrency > self.concurrency:
            yield say("target_concurrency", f"at most the container's limit, which is {self.concurrency}")
        if self.model and not self.remote_model and not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", self.model):
            yield say("model", "the path of a file in the volume, or s3://bucket/key")
        elif ".." in self.model.split("/"):
            yield say("model", "a path that stays in the volume")
        if self.gpu and self.gpu not in GPUS:
            yield say("gpu", f"one of {', '.join(GPUS)}: one card, for which there are kernels")
        if self.gpu_snapshot and not (self.gpu and self.memory_snapshot):
            yield say("gpu_snapshot", "false without DEPLOY_GPU or with DEPLOY_MEMORY_SNAPSHOT=false")
        if self.gpu and self.memory_snapshot and not self.gpu_snapshot:
            yield say("memory_snapshot", "false, or DEPLOY_GPU_SNAPSHOT=true: without it there is no GPU while the copy is made")
        if self.unauthenticated and self.memory_snapshot and not self.secrets:
            # The routes of the memory snapshot would be open too; `process.check_exposure` looks into the secrets.
            yield say(
                "unauthenticated", "false without DEPLOY_SECRETS=NAME, a Modal secret with API_KEYS, or no memory snapshots"
            )
        if self.binary == STREAMS:
            yield from self._stream_mistakes(say)
        if self.add_python and not self.base_image:
            yield say("add_python", "nothing without DEPLOY_BASE_IMAGE: the default image has Python")
        yield from self._binary_mistakes()

    def _stream_mistakes(self, say):
        if self.memory < LEAST_STREAM_MEMORY:
            yield say("memory", f"{LEAST_STREAM_MEMORY} or more, with keys and values beside the model")
        found = re.search(r"\bMAX_RUNNING=(\d+)", self.settings)
        running = int(found[1]) if found else MAX_RUNNING
        for name in ("target_concurrency", "max_concurrency"):
            if getattr(self, name) > running:
                yield say(name, f"at most MAX_RUNNING, which is {running}, or replies wait for whole others")

    def _binary_mistakes(self):
        try:
            names = self.binary_settings
        except ValueError as error:
            yield f"{PREFIX}SETTINGS: {error}"
            return
        known = known_to_binaries()
        for name in names:
            if name in FOLLOWING:
                yield f"{PREFIX}SETTINGS: {name} follows from the settings of the app; leave it out"
            elif name in SECRET:
                yield f"{PREFIX}SETTINGS: {name} would lie in the image; put it into a Modal secret, {PREFIX}SECRETS=NAME"
            elif known and name not in known:
                yield f"{PREFIX}SETTINGS: the binaries know no {name}; docs/settings.md lists theirs"

    @property
    def binary_settings(self):
        """`settings`, by name."""
        pairs = [pair.partition("=") for pair in shlex.split(self.settings)]
        for name, equals, _ in pairs:
            if not equals or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
                raise ValueError(f"expected NAME=VALUE, found {name!r}")
        return {name: value for name, _, value in pairs}

    @property
    def remote_model(self):
        """Whether the binary fetches the snapshot itself."""
        return self.model.startswith("s3://")

    @property
    def concurrency(self):
        """Most requests at once in a container, or None.

        Modal's proxy answers 429 beyond this in the form `server`, while the binary would queue them (MAX_QUEUE), so
        there it is not limited. In the form `web_server` what is beyond waits at Modal for this or another container.
        """
        return self.max_concurrency or (None if self.form == "server" else 32 if self.gpu else 8)

    def carried(self, environ=None):
        """The `DEPLOY_` variables for the image, so that containers see the same settings."""
        environ = os.environ if environ is None else environ
        return {name: text for name, text in sorted(environ.items()) if name.startswith(PREFIX) and text}


def known_to_binaries(page=ROOT / "docs" / "settings.md"):
    """Names in the repository's table of settings, which a test of the binaries keeps true; none in a container."""
    if not page.is_file():
        return frozenset()
    table = page.read_text(encoding="utf-8").partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0]
    return frozenset(re.findall(r"^\| `([A-Z0-9_]+)`", table, re.MULTILINE))


def _parsed(kind, text):
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError("expected true or false")
        return text == "true"
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"expected {'a whole number' if kind is int else 'a number'}") from None
    if kind is str:
        return text
    return tuple(part.strip() for part in text.split(",") if part.strip())
