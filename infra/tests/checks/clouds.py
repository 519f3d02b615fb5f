"""The services that Terraform makes: the contract with the binary, and what each cloud asks beside."""

import re
from pathlib import Path
from typing import Any

from . import contract, iam, kube, settings, terraform

CLOUD_RUN, AZURE, LAMBDA = "infra/cloudrun/terraform", "infra/azure", "infra/lambda/terraform"
# A variable, the one for CPUs where there is another for a GPU, or a limit among others.
VARIABLE = re.compile(r"^\$\{(?:local\.gpu \? local\.\w+ : )?var\.(\w+)\}$")
LIMIT = re.compile(r"\b(\w+) = (var\.\w+)")
# What depends on whether the function streams: that of one that does, that of others.
CHOICE = re.compile(r"^\$\{local\.streams \? (.+?) : (.+)\}$")
PAIR = re.compile(r'([A-Z_]+)"? = "(\d+)"')
LOOPS = "${local.streams ? [1] : []}"
WITH_GPU = re.compile(r'var\.gpu == null \? \{\} : \{"nvidia\.com/gpu" = "1"\}')
# Compute capability of the cards in Azure's profiles; the kernels are compiled for 8.0 and up.
PROFILES = {"Consumption-GPU-NC24-A100": 8.0, "Consumption-GPU-NC8as-T4": 7.5}
LEAST_CAPABILITY = 8.0
AZURE_PROBES = {"startup_probe": "startup", "readiness_probe": "readiness", "liveness_probe": "liveness"}
GOOGLE_PROBES = {"startup_probe": "startup", "liveness_probe": "liveness"}
GOOGLE_ROLES = {"roles/storage.objectViewer", "roles/secretmanager.secretAccessor", "roles/run.invoker"}
AZURE_ROLES = {"AcrPull"}
# What Azure allows of failure_count_threshold in the oldest provider that versions.tf lets in.
MOST_FAILURES = 30


def default(blocks: dict[str, list[Any]], value: Any) -> Any:
    """A variable's default in the place of the variable."""
    if isinstance(value, str) and (match := VARIABLE.match(value)):
        for block in blocks.get("variable", []):
            if match[1] in block:
                return block[match[1]].get("default")
    return value


def chosen(value: Any, streams: bool) -> Any:
    """One of two values, where the function decides."""
    match = CHOICE.match(value) if isinstance(value, str) else None
    return match[1 if streams else 2].strip('"') if match else value


def one(body: dict[str, Any], name: str) -> dict[str, Any]:
    """The only block of this name; empty where there is none."""
    found = body.get(name, [{}])
    return found[0] if isinstance(found, list) and found else {}


def resource(blocks: dict[str, list[Any]], of: str) -> dict[str, Any]:
    """The only resource of this type; empty where there is none."""
    return next((body for (kind, _), body in terraform.resources(blocks).items() if kind == of), {})


def dynamic(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Contents of the dynamic blocks of this name."""
    return [content for block in body.get("dynamic", []) if name in block for content in block[name]["content"]]


def cloud_run(root: Path, streams: bool = False) -> contract.Service:
    """The service of infra/cloudrun/terraform, of a function that streams or another."""
    blocks, _ = terraform.module(root, CLOUD_RUN)
    template = one(resource(blocks, "google_cloud_run_v2_service"), "template")
    container = one(template, "containers")
    limits = _limits(one(container, "resources"))
    loops = [block["env"] for block in container.get("dynamic", []) if "env" in block]
    more = [loop for loop in loops if streams or loop["for_each"] != LOOPS]
    environment = container.get("env", []) + [content for loop in more for content in loop["content"]]
    mounts = container.get("volume_mounts", []) + dynamic(container, "volume_mounts")
    return contract.Service(
        where=f"{CLOUD_RUN}/main.tf",
        port=one(container, "ports").get("container_port", 0),
        variables={env["name"]: env.get("value") for env in environment},
        probes={
            GOOGLE_PROBES[kind]: contract.Probe(
                one(probe, "http_get").get("path", ""),
                one(probe, "http_get").get("port", 0),
                probe.get("period_seconds"),
                probe.get("failure_threshold", 3),
            )
            for kind in GOOGLE_PROBES
            for probe in container.get(kind, [])
        },
        memory_mib=kube.mebibytes(default(blocks, limits.get("memory"))),
        least_replicas=one(template, "scaling").get("min_instance_count", -1),
        request_timeout_s=int(chosen(template.get("timeout", "0s"), streams).rstrip("s")),
        concurrency=default(blocks, template.get("max_instance_request_concurrency")),
        grace_s=kube.CLOUD_RUN_GRACE_S,
        function=contract.STREAMS if streams else "",
        mounts=[mount["mount_path"] for mount in mounts],
    )


def _limits(resources: dict[str, Any]) -> dict[str, str]:
    """By name, with the variables that they are; merge() hides them in an expression."""
    return {name: f"${{{variable}}}" for name, variable in LIMIT.findall(str(resources.get("limits", "")))}


def azure(root: Path, streams: bool = False) -> contract.Service:
    """The container app of infra/azure, of a function that streams or another. How long a request may take is not ours to say there (240 s)."""
    blocks, _ = terraform.module(root, AZURE)
    app = resource(blocks, "azurerm_container_app")
    template = one(app, "template")
    container = one(template, "container")
    more = [str(block["env"]["for_each"]) for block in container.get("dynamic", []) if "env" in block]
    return contract.Service(
        where=f"{AZURE}/app.tf",
        port=one(app, "ingress").get("target_port", 0),
        variables={env["name"]: env.get("value") for env in container.get("env", [])}
        | {name: value for each in more if streams for name, value in PAIR.findall(each)},
        probes={
            AZURE_PROBES[kind]: contract.Probe(
                probe.get("path", ""),
                probe.get("port", 0),
                probe.get("interval_seconds"),
                probe.get("failure_count_threshold", 3),
            )
            for kind in AZURE_PROBES
            for probe in container.get(kind, [])
        },
        memory_mib=kube.mebibytes(default(blocks, container.get("memory"))),
        least_replicas=template.get("min_replicas", -1),
        request_timeout_s=240,
        timeout_is_fixed=True,
        grace_s=int(chosen(template.get("termination_grace_period_seconds", 0), streams)),
        function=contract.STREAMS if streams else "",
        concurrency=default(blocks, one(template, "http_scale_rule").get("concurrent_requests")),
        port_is_set=False,
        mounts=[mount["path"] for mount in container.get("volume_mounts", [])],
    )


def check(root: Path) -> list[str]:
    """Both services with each kind of function, and rights and limits of all three clouds."""
    kinds = [read(root, streams) for streams in (False, True) for read in (cloud_run, azure)]
    problems = sorted({problem for service in kinds for problem in contract.check(root, service)})
    problems += [f"{CLOUD_RUN}: {problem}" for problem in _google(root)]
    problems += [f"{AZURE}: {problem}" for problem in _azure(root)]
    return problems + [f"{LAMBDA}: {problem}" for problem in _lambda(root)]


def _google(root: Path) -> list[str]:
    blocks, _ = terraform.module(root, CLOUD_RUN)
    problems = []
    for (kind, name), body in terraform.resources(blocks).items():
        role = body.get("role")
        if role and role not in GOOGLE_ROLES:
            problems.append(f"{kind}.{name}: role {role}: expected one of {', '.join(sorted(GOOGLE_ROLES))}")
        if body.get("member") in {"allUsers", "allAuthenticatedUsers"}:
            problems.append(f"{kind}.{name}: open to {body['member']}: members come from var.invokers")
    service = resource(blocks, "google_cloud_run_v2_service")
    volumes = one(service, "template").get("volumes", [])
    if not all(one(volume, "gcs").get("read_only") for volume in volumes if "gcs" in volume):
        problems.append("the bucket is mounted for writing")
    if not one(one(one(service, "template"), "containers"), "resources").get("startup_cpu_boost"):
        problems.append("no startup_cpu_boost")
    if "local.streams" not in _conditions(service):
        problems.append("no precondition on local.streams: chat needs memory for keys and values, and runs so many replies at once")
    return problems + _google_gpu(blocks, one(service, "template"))


def _conditions(of: dict[str, Any]) -> str:
    """All preconditions of a resource."""
    return " ".join(str(one.get("condition")) for one in one(of, "lifecycle").get("precondition", []))


def _google_gpu(blocks: dict[str, list[Any]], template: dict[str, Any]) -> list[str]:
    """What depends on var.gpu: without it nothing of a GPU is asked for, and with it all that belongs together."""
    resources, problems = one(one(template, "containers"), "resources"), []
    if not WITH_GPU.search(str(resources.get("limits"))):
        problems.append("limits: expected nvidia.com/gpu = 1 where var.gpu is set, and only there")
    if resources.get("cpu_idle") != "${var.gpu == null}":
        problems.append(f"cpu_idle {resources.get('cpu_idle')}: expected var.gpu == null, a GPU has instance-based billing")
    if template.get("gpu_zonal_redundancy_disabled") != "${var.gpu == null ? null : true}":
        problems.append("gpu_zonal_redundancy_disabled: expected true where var.gpu is set, a second GPU costs more")
    if not [one for one in dynamic(template, "node_selector") if one.get("accelerator") == "${node_selector.value}"]:
        problems.append("no node_selector with the card")
    conditions = _conditions(resource(blocks, "google_cloud_run_v2_service"))
    least = next((block["least"] for block in blocks.get("locals", []) if "least" in block), {})
    wanted = {name: {"cpu": cpu, "memory": memory // 1024} for name, (cpu, memory) in kube.LEAST.items()}
    if {name: {key: of.get(key) for key in ("cpu", "memory")} for name, of in least.items()} != wanted:
        problems.append(f"local.least {least}: expected {wanted}")
    for named in ("local.least[var.gpu].cpu", "local.least[var.gpu].memory", 'var.function != "rerank-gpu"'):
        if named not in conditions:
            problems.append(f"no precondition on {named}")
    return problems


def _azure(root: Path) -> list[str]:
    blocks, _ = terraform.module(root, AZURE)
    problems = []
    for (kind, name), body in terraform.resources(blocks).items():
        if kind == "azurerm_role_assignment" and body.get("role_definition_name") not in AZURE_ROLES:
            role = body.get("role_definition_name")
            problems.append(f"{name}: role {role}: expected one of {', '.join(sorted(AZURE_ROLES))}")
    app = resource(blocks, "azurerm_container_app")
    container = one(one(app, "template"), "container")
    if one(app, "ingress").get("allow_insecure_connections") is not False:
        problems.append("the ingress takes plain HTTP")
    if not any(env["name"] == "API_KEYS" and "secret_name" in env for env in container.get("env", [])):
        problems.append("no API_KEYS from a secret: the ingress is open to the internet")
    for kind in AZURE_PROBES:
        failures = one(container, kind).get("failure_count_threshold", 3)
        if not 1 <= failures <= MOST_FAILURES:
            problems.append(f"{kind}: failure_count_threshold {failures}: Azure allows 1 to {MOST_FAILURES}")
    if "local.streams" not in _conditions(app):
        problems.append("no precondition on local.streams: chat needs memory for keys and values, and runs so many replies at once")
    if resource(blocks, "azurerm_container_registry").get("admin_enabled") is not False:
        problems.append("the registry has an admin user")
    if resource(blocks, "azurerm_container_app_environment_storage").get("access_mode") != "ReadOnly":
        problems.append("the share is mounted for writing")
    if not resource(blocks, "azurerm_consumption_budget_resource_group"):
        problems.append("no budget")
    return problems + _azure_gpu(blocks, app)


def _azure_gpu(blocks: dict[str, list[Any]], app: dict[str, Any]) -> list[str]:
    """The environment has the profile with a GPU that the app names, and its card is one that the kernels run on."""
    problems = []
    environment = resource(blocks, "azurerm_container_app_environment")
    profiles = dynamic(environment, "workload_profile")
    if [profile.get("name") for profile in profiles] != ["gpu"]:
        problems.append(f"workload_profile {profiles}: expected one with the name gpu in the environment")
    if app.get("workload_profile_name") != '${local.gpu ? "gpu" : null}':
        problems.append(f"workload_profile_name {app.get('workload_profile_name')}: expected gpu where local.gpu")
    said = str([block for block in blocks.get("locals", []) if "gpu_profile" in block])
    condition = next((block["gpu_profile"] for block in blocks.get("variable", []) if "gpu_profile" in block), {})
    said += str([one.get("condition") for one in condition.get("validation", [])])
    named = set(re.findall(r"Consumption-GPU-[\w-]+", said))
    if not condition.get("validation"):
        problems.append("gpu_profile takes any profile: expected those alone whose cards the kernels run on")
    for profile in sorted(named):
        if (capability := PROFILES.get(profile)) is None:
            problems.append(f"profile {profile}: expected one of {', '.join(PROFILES)}")
        elif capability < LEAST_CAPABILITY:
            problems.append(f"profile {profile}: its card has compute capability {capability}, the kernels need {LEAST_CAPABILITY}")
    return problems


def _lambda(root: Path) -> list[str]:
    blocks, _ = terraform.module(root, LAMBDA)
    problems = []
    function = resource(blocks, "aws_lambda_function")
    snap_start = dynamic(function, "snap_start")
    loops = [block["snap_start"]["for_each"] for block in function.get("dynamic", []) if "snap_start" in block]
    if function.get("snap_start") or loops != ["${local.is_image ? [1] : []}"]:
        problems.append("SnapStart must depend on local.is_image: provided.al2023 refuses it")
    elif snap_start[0].get("apply_on") != "PublishedVersions":
        problems.append("snap_start.apply_on: expected PublishedVersions")
    if function.get("publish") is not True:
        problems.append("publish: expected true, SnapStart keeps published versions alone")
    url = resource(blocks, "aws_lambda_function_url")
    if url.get("authorization_type") != "AWS_IAM":
        problems.append(f"authorization_type {url.get('authorization_type')}: expected AWS_IAM")
    if "alias" not in str(url.get("qualifier")):
        problems.append("the URL must belong to the alias: SnapStart is for published versions")
    if not resource(blocks, "aws_cloudwatch_log_group").get("retention_in_days"):
        problems.append("logs are kept for ever")
    text = (root / LAMBDA / "main.tf").read_text(encoding="utf-8")
    written = text[text.index("settings = {") :]
    variables = dict(re.findall(r'^\s{4}([A-Z_]+)\s+= "([^"]*)"', written[: written.index("\n  }")], re.MULTILINE))
    for name, value in variables.items():
        problems += settings.check_variable(root, name, value)
    problems += iam.check_invoke_mode(url.get("invoke_mode"), variables.get("INVOKE_MODE"))
    of_streams = next((str(block["stream_settings"]) for block in blocks.get("locals", []) if "stream_settings" in block), "")
    ends = CHOICE.match(str(function.get("timeout")))
    problems += iam.check_stream(ends and ends[1], dict(PAIR.findall(of_streams)).get("REQUEST_TIMEOUT"))
    for name, document in terraform.resources(blocks, "data").items():
        if name[0] == "aws_iam_policy_document":
            for statement in document.get("statement", []) + dynamic(document, "statement"):
                problems += iam.check_rights(statement.get("actions", []), statement.get("resources", []), name[1])
    return problems
