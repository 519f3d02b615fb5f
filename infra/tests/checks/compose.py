"""infra/images/compose.yaml: each service is locked down, limited, watched and reachable as its image promises.

`docker compose config` would need docker, and says nothing of what a service should have. A service whose image is one
for GPUs reserves a GPU, and no other does: one would not start where there is none, the other would find none.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from . import images, settings

FILE = "infra/images/compose.yaml"
LOCKED_DOWN = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "user": "65532:65532",
    "restart": "unless-stopped",
}
DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")


def services(root: Path) -> dict[str, dict[str, Any]]:
    """By name, merged parts put in."""
    return yaml.safe_load((root / FILE).read_text(encoding="utf-8"))["services"]


def check(root: Path) -> list[str]:
    """All services."""
    return [f"{FILE}: {name}: {problem}" for name, one in services(root).items() for problem in _service(root, one)]


def _service(root: Path, service: dict[str, Any]) -> list[str]:
    problems = [f"{key}: expected {value}" for key, value in LOCKED_DOWN.items() if service.get(key) != value]
    problems += [f"no {key}: nothing bounds it" for key in ("mem_limit", "pids_limit", "cpus") if key not in service]
    dockerfile = root / service["build"]["dockerfile"]
    if not dockerfile.is_file():
        return [*problems, f"{service['build']['dockerfile']}: no such file"]
    function, stage = dockerfile.parent.name, images.last_stage(dockerfile)
    if service["image"] != f"localhost/{function}:latest":
        problems.append(f"image {service['image']}: expected localhost/{function}:latest, which scripts/images/build_images makes")
    asked = service.get("healthcheck", {}).get("test", [])[1:]
    if asked != images.health_check(stage):
        problems.append(f"health check {asked}: the image's own is {images.health_check(stage)}")
    port = settings.port(root)
    ports = [DEFAULT.sub(r"\1", one) for one in service.get("ports", [])]
    if not all(re.fullmatch(rf"127\.0\.0\.1:\d+:{port}", one) for one in ports) or not ports:
        problems.append(f"ports {ports}: expected this machine's loopback and the image's {port}")
    for name, value in service.get("environment", {}).items():
        shown = DEFAULT.sub(r"\1", str(value))
        problems += settings.check_variable(root, name, shown if name != "API_KEYS" else None, gpu=images.for_gpus(function))
    return problems + _devices(service, images.for_gpus(function))


def _devices(service: dict[str, Any], gpu: bool) -> list[str]:
    resources = service.get("deploy", {}).get("resources", {})
    devices = resources.get("reservations", {}).get("devices", [])
    if not gpu:
        return ["reserves a GPU, and its function is one for CPUs"] if devices else []
    problems = []
    if not any(one.get("driver") == "nvidia" and "gpu" in one.get("capabilities", []) for one in devices):
        problems.append("no GPU is reserved: expected deploy.resources.reservations.devices with driver nvidia, capabilities [gpu]")
    if any(one.get("count") != 1 for one in devices):
        problems.append("count: expected 1, a process uses one GPU")
    if "gpu" not in service.get("profiles", []):
        problems.append("profiles: expected gpu, or `up` fails on machines without one")
    return problems
