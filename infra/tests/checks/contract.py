"""What every deployment of a function must agree on with the binary, whatever its platform.

Readers of the platforms' files (kube.py, terraform.py) reduce each service to a `Service`; the rules here are the same for
all. A request that arrives before the model is there waits for BOOT_TIMEOUT, so the platform must let a request live
longer; a liveness probe must not ask for the model, or a slow start is killed; something must ask for it, or nothing
tells the platform that a replica works.

A function that streams has rules beside: a reply takes minutes, and the platform must let it; what bounds a reply must
end it before the platform does, so that its log tells why; all that is let in must run at once, since one that waits
waits for whole replies; and there must be memory for keys and values.
"""

from dataclasses import dataclass, field
from pathlib import Path

from . import settings

# Answer 503 until the model is loaded.
WAITS_FOR_MODEL = {"/health", "/ready"}
ALIVE = {"/live", "/ping"}
# The smallest model of docs/figures.md takes 26 MB mapped; below this the platform's own runtime is the larger part.
LEAST_MEMORY_MIB = 512
# What KV_TOKENS comes to at most unless it is set.
KEYS_AND_VALUES_MIB = 1024
# A thousand tokens at a few tokens a second, which is what a model of 4B gets on a shared processor.
LEAST_STREAM_S = 600
STREAMS = "chat"


@dataclass
class Probe:
    """One probe over HTTP."""

    path: str
    port: int
    period_s: int | None = None
    failures: int = 3


@dataclass
class Service:
    """What a platform is told about a function."""

    where: str
    port: int
    # None: a secret, or known only when it is deployed.
    variables: dict[str, str | None]
    # By kind: startup, readiness, liveness.
    probes: dict[str, Probe]
    memory_mib: int | None
    least_replicas: int
    # None: the platform's file does not say.
    request_timeout_s: int | None
    concurrency: int | None
    # The platform sets PORT itself and refuses it among the variables.
    port_is_set: bool = True
    # The time is the platform's own, and no file of ours says another.
    timeout_is_fixed: bool = False
    # Seconds from SIGTERM to SIGKILL, where that is known.
    grace_s: int | None = None
    function: str = ""
    # It runs on a GPU, and reads what such functions read beside.
    gpu: bool = False
    mounts: list[str] = field(default_factory=list)


def check(root: Path, service: Service) -> list[str]:
    """What is wrong with it."""
    problems = [
        problem
        for name, value in service.variables.items()
        for problem in settings.check_variable(root, name, value, service.gpu)
    ]
    problems += _ports(root, service) + _probes(root, service) + _limits(root, service) + _model(service)
    problems += _stream(root, service) if service.function == STREAMS else []
    return [f"{service.where}: {problem}" for problem in problems]


def _ports(root: Path, service: Service) -> list[str]:
    problems = []
    wanted = settings.port(root)
    if service.port != wanted:
        problems.append(f"port {service.port}: the functions and their images listen on {wanted}")
    if service.variables.get("HOST") != "0.0.0.0":
        problems.append(f"HOST={service.variables.get('HOST')}: expected 0.0.0.0, else nothing outside reaches it")
    given = service.variables.get("PORT")
    if given is not None and service.port_is_set:
        problems.append("PORT is among the variables: the platform sets it and refuses that")
    elif given is not None and given != str(service.port):
        problems.append(f"PORT={given}: expected the port {service.port} that requests go to")
    return problems


def _probes(root: Path, service: Service) -> list[str]:
    problems = []
    known = settings.probes(root)
    for kind, probe in service.probes.items():
        if probe.path not in known:
            problems.append(f"{kind} probe asks {probe.path}: expected one of {', '.join(sorted(known))}")
        if probe.port != service.port:
            problems.append(f"{kind} probe asks port {probe.port}: expected {service.port}")
    waiting = [kind for kind in ("startup", "readiness") if kind in service.probes]
    waiting = [kind for kind in waiting if service.probes[kind].path in WAITS_FOR_MODEL]
    if not waiting:
        problems.append("no startup or readiness probe on /health or /ready: requests would come before the model")
    liveness = service.probes.get("liveness")
    if not liveness:
        problems.append("no liveness probe: a process that hangs would stay")
    elif liveness.path not in ALIVE:
        problems.append(f"liveness probe asks {liveness.path}: expected /live, which does not wait for the model")
    startup = service.probes.get("startup")
    boot = int(settings.settings(root)["BOOT_TIMEOUT"])
    if startup and startup.path in WAITS_FOR_MODEL:
        if startup.period_s != 1:
            problems.append(f"startup probe every {startup.period_s} s: expected 1, which is how late requests come")
        if (startup.period_s or 1) * startup.failures < boot:
            problems.append(f"startup probe gives up before BOOT_TIMEOUT ({boot} s)")
    return problems


def _limits(root: Path, service: Service) -> list[str]:
    problems = []
    if service.least_replicas != 0:
        problems.append(f"at least {service.least_replicas} replicas: expected 0, it must cost nothing while idle")
    boot = int(settings.settings(root)["BOOT_TIMEOUT"])
    if service.request_timeout_s is not None and service.request_timeout_s <= boot:
        problems.append(f"requests end after {service.request_timeout_s} s: expected more than BOOT_TIMEOUT ({boot} s)")
    queue = int(settings.settings(root)["MAX_QUEUE"])
    if service.concurrency is not None and not 1 <= service.concurrency <= queue:
        problems.append(f"{service.concurrency} requests at a time: expected 1 to MAX_QUEUE ({queue})")
    if service.memory_mib is None:
        problems.append("no limit of memory")
    elif service.memory_mib < LEAST_MEMORY_MIB:
        problems.append(f"memory {service.memory_mib} MiB: expected {LEAST_MEMORY_MIB} at least")
    return problems


def _stream(root: Path, service: Service) -> list[str]:
    problems = []
    known = settings.settings(root)
    said = {name: service.variables.get(name) or known[name] for name in ("MAX_RUNNING", "REQUEST_TIMEOUT", "KEEP_ALIVE", "SHUTDOWN_GRACE")}
    value = {name: int(text) for name, text in said.items() if settings.NUMBER.match(text)}
    if service.concurrency is not None and service.concurrency > value.get("MAX_RUNNING", 0):
        problems.append(f"{service.concurrency} requests at a time: expected MAX_RUNNING ({said['MAX_RUNNING']}) at most, others would wait for whole replies")
    least = LEAST_MEMORY_MIB + KEYS_AND_VALUES_MIB
    if service.memory_mib is not None and service.memory_mib < least:
        problems.append(f"memory {service.memory_mib} MiB: expected {least} at least, with keys and values beside the model")
    if (ends := service.request_timeout_s) is not None:
        if ends < LEAST_STREAM_S and not service.timeout_is_fixed:
            problems.append(f"requests end after {ends} s: expected {LEAST_STREAM_S} at least, a reply is streamed for minutes")
        if not 0 < value.get("REQUEST_TIMEOUT", 0) < ends:
            problems.append(f"REQUEST_TIMEOUT={said['REQUEST_TIMEOUT']}: expected more than 0 and less than the {ends} s after which the platform cuts a stream")
    if not value.get("KEEP_ALIVE"):
        problems.append(f"KEEP_ALIVE={said['KEEP_ALIVE']}: expected more than 0, or proxies end a stream in which nothing comes")
    if service.grace_s is not None and value.get("SHUTDOWN_GRACE", 0) >= service.grace_s:
        problems.append(f"SHUTDOWN_GRACE={said['SHUTDOWN_GRACE']}: expected less than the {service.grace_s} s between SIGTERM and SIGKILL")
    return problems


def _model(service: Service) -> list[str]:
    model = service.variables.get("MODEL", "")
    if model == "":
        return ["no MODEL"]
    if "CACHE_DIR" not in service.variables:
        return ["no CACHE_DIR: there is no home directory in the images"]
    if model and model.startswith("/") and not any(model.startswith(f"{mount}/") for mount in service.mounts):
        return [f"MODEL={model}: lies in none of the mounted volumes ({', '.join(service.mounts) or 'none'})"]
    return []
