"""Knative, Cloud Run and KServe: strict schemas, and what the services say of themselves.

Validators of Kubernetes know neither Knative's Service nor KServe's InferenceService and let unknown keys pass with a
warning, so schemas/kube.json has what we use of them and refuses the rest. Kinds that are Kubernetes' own go through
kubernetes-validate, strictly.
"""

import json
import re
from pathlib import Path
from string import Template
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from . import contract, images

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas" / "kube.json"
KUBERNETES = "1.34"
# What envsubst fills in.
VARIABLES = {
    "PROJECT": "my-project",
    "REGION": "europe-west4",
    "BUCKET": "my-models",
    "MODEL_KEY": "embed/model.snap",
}
UNITS = {"Mi": 1, "Gi": 1024}
# Cloud Run ends a container so long after SIGTERM, whatever its file says.
CLOUD_RUN_GRACE_S = 10
GPU = "nvidia.com/gpu"
ACCELERATOR = "run.googleapis.com/accelerator"
# What Cloud Run asks beside a card: processors, memory in MiB.
LEAST = {"nvidia-l4": (4, 16 * 1024), "nvidia-rtx-pro-6000": (20, 80 * 1024)}
# Instance-based billing is the only one with a GPU; a second GPU kept free in another zone costs more than a start takes.
GPU_ANNOTATIONS = {
    "run.googleapis.com/cpu-throttling": "false",
    "run.googleapis.com/gpu-zonal-redundancy-disabled": "true",
}
KINDS = {"startupProbe": "startup", "readinessProbe": "readiness", "livenessProbe": "liveness"}
SCHEMA_OF = {
    ("cloudrun", "Service"): "cloudrun_service",
    ("cloudrun", "Job"): "cloudrun_job",
    ("knative", "Service"): "knative_service",
    ("knative", "InferenceService"): "inference_service",
}


def documents(root: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Path, platform and content of every document, filled in."""
    found = []
    for platform in ("cloudrun", "knative"):
        for file in sorted((root / "infra" / platform).glob("*.yaml")):
            where = file.relative_to(root).as_posix()
            text = Template(file.read_text(encoding="utf-8")).safe_substitute(VARIABLES)
            try:
                found += [(where, platform, document) for document in yaml.safe_load_all(text) if document]
            except yaml.YAMLError as error:
                raise ValueError(f"{where}: {error}") from error
    return found


def check_schemas(root: Path) -> list[str]:
    """Unknown and missing keys, wrong types."""
    schemas = json.loads(SCHEMAS.read_text(encoding="utf-8"))
    problems = []
    for where, platform, document in documents(root):
        if name := SCHEMA_OF.get((platform, document.get("kind", ""))):
            schema = {"$ref": f"#/$defs/{name}", "$defs": schemas["$defs"]}
            validator = jsonschema.Draft202012Validator(schema)
            for error in sorted(validator.iter_errors(document), key=lambda error: error.json_path):
                problems.append(f"{where}: {error.json_path}: {error.message[:200]}")
        else:
            try:
                kubernetes_validate.validate(document, KUBERNETES, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                problems.append(f"{where}: {getattr(error, 'message', error)}")
        if left := re.findall(r"\$\{\w+\}", json.dumps(document)):
            problems.append(f"{where}: {', '.join(sorted(set(left)))}: envsubst is not told of it")
    return problems


def mebibytes(text: str | None) -> int | None:
    """`2Gi` as 2048."""
    match = re.fullmatch(r"(\d+)(Mi|Gi)", text or "")
    return int(match[1]) * UNITS[match[2]] if match else None


def function_of(container: dict[str, Any]) -> str:
    """Whose image it is."""
    return container["image"].rsplit("/", 1)[-1].split(":")[0]


def services(root: Path) -> list[contract.Service]:
    """All services and predictors; jobs are none."""
    found = []
    for where, platform, document in documents(root):
        annotations: dict[str, str] = {}
        if document.get("kind") == "Service":
            template = document["spec"]["template"]
            annotations, pod = template["metadata"]["annotations"], template["spec"]
            least = annotations.get("autoscaling.knative.dev/minScale")
            least = annotations.get("autoscaling.knative.dev/min-scale") if least is None else least
            timeout = pod.get("timeoutSeconds")
        elif document.get("kind") == "InferenceService":
            pod = document["spec"]["predictor"]
            least, timeout = pod.get("minReplicas"), pod.get("timeout")
        else:
            continue
        container = pod["containers"][0]
        found.append(
            contract.Service(
                where=where,
                port=container["ports"][0]["containerPort"],
                variables={one["name"]: one.get("value") for one in container["env"]},
                probes={
                    KINDS[key]: contract.Probe(
                        path=container[key]["httpGet"]["path"],
                        port=container[key]["httpGet"]["port"],
                        period_s=container[key].get("periodSeconds"),
                        failures=container[key].get("failureThreshold", 3),
                    )
                    for key in KINDS
                    if key in container and "httpGet" in container[key]
                },
                memory_mib=mebibytes(container["resources"]["limits"].get("memory")),
                least_replicas=int(least if least is not None else -1),
                request_timeout_s=timeout,
                concurrency=pod.get("containerConcurrency"),
                mounts=[mount["mountPath"] for mount in container.get("volumeMounts", [])],
                grace_s=CLOUD_RUN_GRACE_S if platform == "cloudrun" else None,
                function=function_of(container),
                gpu=GPU in container["resources"]["limits"],
            )
        )
    return found


def check_services(root: Path) -> list[str]:
    """The contract with the binary, and what each platform asks beside."""
    return [problem for service in services(root) for problem in contract.check(root, service)] + [
        f"{where}: {problem}" for where, platform, document in documents(root) for problem in _own(platform, document)
    ]


def _own(platform: str, document: dict[str, Any]) -> list[str]:
    kind = document.get("kind")
    if kind not in {"Service", "InferenceService"}:
        return []
    pod = document["spec"]["predictor"] if kind == "InferenceService" else document["spec"]["template"]["spec"]
    container = pod["containers"][0]
    problems = []
    if platform == "knative":
        context = container.get("securityContext", {})
        wanted = {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
        problems += [f"securityContext.{key}: expected {value}" for key, value in wanted.items() if context.get(key) != value]
    variables = {one["name"] for one in container["env"]}
    if not variables & {"API_KEYS", "API_KEYS_FILE"}:
        problems.append("neither API_KEYS nor API_KEYS_FILE: whoever reaches it may use it")
    for one in container["env"]:
        if "value" in one and re.search(r"SECRET|PASSWORD|ACCESS_KEY|TOKEN", one["name"]):
            problems.append(f"{one['name']} has a value in the file: it comes from a secret")
    declared = {volume["name"] for volume in pod.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in declared:
            problems.append(f"volume {mount['name']} is mounted and not declared")
    limits = container["resources"]["limits"]
    function = function_of(container)
    if images.for_gpus(function) != (GPU in limits):
        which = f"no limit {GPU}: no node with one is looked for" if images.for_gpus(function) else "its function is one for CPUs"
        problems.append(f"image {function}: {which}")
    if GPU in limits:
        if limits[GPU] != "1":
            problems.append(f"{GPU}: {limits[GPU]}: expected 1, a process uses one GPU")
        if platform == "cloudrun":
            problems += _card(document["spec"]["template"], limits)
    return problems


def _card(template: dict[str, Any], limits: dict[str, str]) -> list[str]:
    """What Cloud Run asks of a service with a GPU."""
    card = template["spec"].get("nodeSelector", {}).get(ACCELERATOR)
    if card not in LEAST:
        return [f"nodeSelector {ACCELERATOR}: {card}: expected one of {', '.join(LEAST)}"]
    processors, memory = LEAST[card]
    problems = []
    if int(limits["cpu"]) < processors or (mebibytes(limits["memory"]) or 0) < memory:
        problems.append(f"an {card} needs at least {processors} processors and {memory // 1024}Gi")
    annotations = template["metadata"]["annotations"]
    return problems + [
        f"{name}: {annotations.get(name)}: expected {value} with a GPU"
        for name, value in GPU_ANNOTATIONS.items()
        if annotations.get(name) != value
    ]
