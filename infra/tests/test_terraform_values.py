"""Terraform's own words on GPUs, where it is installed: variables, locals and preconditions of the modules, without providers.

A module is cut down to what needs none: its variables as they are, its locals, and the expressions and preconditions that
depend on a GPU, as outputs. What Terraform then computes or refuses is what it would in the whole module.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("terraform"), reason="needs terraform")

AZURE = {
    "subscription_id": "x",
    "suffix": "abc",
    "api_keys": "k" * 24,
    "budget_start": "2026-12-01T00:00:00Z",
    "budget_emails": "[]",
}
CLOUD_RUN = {"project": "p", "region": "r", "image": "i", "model_bucket": "b", "model_file": "m.snap"}


def block(text: str, opening: str) -> str:
    """The block that begins with this line, up to the brace at the same depth."""
    found = re.search(rf"^( *){re.escape(opening)} \{{\n.*?^\1\}}$", text, re.MULTILINE | re.DOTALL)
    assert found, opening
    return found[0]


def expression(text: str, name: str) -> str:
    """What is assigned to the name."""
    found = re.search(rf"^ *{name} += (.*)$", text, re.MULTILINE)
    assert found, name
    return found[1]


class Module:
    """A folder with such a module."""

    def __init__(self, folder: Path, source: Path, required: dict[str, str], extra: str) -> None:
        self.folder, self.required = folder, required
        shutil.copy(source / "variables.tf", folder)
        (folder / "main.tf").write_text(extra, encoding="utf-8")
        self._run("init", "-input=false")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["terraform", f"-chdir={self.folder}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def values(self, **given: str) -> dict[str, object]:
        """The outputs."""
        done = self._apply(given)
        assert done.returncode == 0, done.stderr
        found = json.loads(self._run("output", "-json").stdout)
        return {name: found[name]["value"] if name in found else None for name in self.outputs()}

    def refused(self, **given: str) -> str:
        """Why not."""
        done = self._apply(given)
        assert done.returncode != 0, done.stdout
        return " ".join(re.sub(r"[│╷╵\n]", " ", done.stderr).split())

    def outputs(self) -> list[str]:
        """Their names; an output that is null is not told."""
        return re.findall(r'^output "(\w+)"', (self.folder / "main.tf").read_text(encoding="utf-8"), re.MULTILINE)

    def _apply(self, given: dict[str, str]) -> subprocess.CompletedProcess[str]:
        words = [f"-var={name}={value}" for name, value in (self.required | given).items()]
        return self._run("apply", "-auto-approve", "-input=false", "-no-color", *words)


@pytest.fixture
def azure(root: Path, tmp_path: Path) -> Module:
    source = root / "infra" / "azure"
    app, main = (source / "app.tf").read_text("utf-8"), (source / "main.tf").read_text("utf-8")
    profiles = block(main, 'dynamic "workload_profile"')
    wanted = {
        "profiles": expression(profiles, "for_each"),
        "profile": expression(app, "workload_profile_name"),
        "cpu": expression(app, "cpu"),
        "memory": expression(app, "memory"),
        "grace": expression(app, "termination_grace_period_seconds"),
        "more": expression(block(app, 'dynamic "env"'), "for_each"),
    }
    outputs = "\n".join(f'output "{name}" {{\n  value = {value}\n}}' for name, value in wanted.items())
    return Module(tmp_path, source, AZURE, block(main, "locals") + "\n" + outputs)


@pytest.fixture
def cloud_run(root: Path, tmp_path: Path) -> Module:
    source = root / "infra" / "cloudrun" / "terraform"
    main = (source / "main.tf").read_text("utf-8")
    conditions = block(main, "lifecycle").removeprefix("  lifecycle {").removesuffix("}")
    wanted = {name: expression(main, name) for name in ("limits", "cpu_idle", "gpu_zonal_redundancy_disabled", "timeout")}
    wanted["cards"] = expression(block(main, 'dynamic "node_selector"'), "for_each")
    outputs = "\n".join(f'output "{name}" {{\n  value = {value}\n}}' for name, value in wanted.items())
    outputs += f'\noutput "function" {{\n  value = var.function\n{conditions}}}\n'
    return Module(tmp_path, source, CLOUD_RUN, block(main, "locals") + "\n" + outputs)


def test_azure_has_a_gpu_where_the_function_needs_one(azure: Module) -> None:
    a100 = "Consumption-GPU-NC24-A100"
    on_gpu = {"profiles": [a100], "profile": "gpu", "cpu": 24, "memory": "220Gi", "grace": 10, "more": {}}
    assert azure.values(function="rerank-gpu") == on_gpu
    assert azure.values(function="embed", gpu_profile=a100) == on_gpu
    assert azure.values() == {"profiles": [], "profile": None, "cpu": 2, "memory": "4Gi", "grace": 10, "more": {}}


def test_azure_ends_replies_before_the_ingress_does(azure: Module) -> None:
    chat = azure.values(function="chat")
    assert (chat["grace"], chat["more"]) == (240, {"REQUEST_TIMEOUT": "230", "SHUTDOWN_GRACE": "235"})


def test_azure_refuses_cards_without_kernels(azure: Module) -> None:
    said = azure.refused(function="rerank-gpu", gpu_profile="Consumption-GPU-NC8as-T4")
    assert "compute capability 7.5, and the kernels are compiled for 8.0 and up" in said


def test_cloud_run_asks_for_a_card_where_one_is_named(cloud_run: Module) -> None:
    given = {"function": "rerank-gpu", "gpu": "nvidia-l4", "cpu": "4", "memory": "16Gi"}
    assert cloud_run.values(**given) == {
        "limits": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
        "cpu_idle": False,
        "gpu_zonal_redundancy_disabled": True,
        "timeout": "300s",
        "cards": ["nvidia-l4"],
        "function": "rerank-gpu",
    }
    assert cloud_run.values(function="embed") == {
        "limits": {"cpu": "2", "memory": "2Gi"},
        "cpu_idle": True,
        "gpu_zonal_redundancy_disabled": None,
        "timeout": "300s",
        "cards": [],
        "function": "embed",
    }
    chat = cloud_run.values(function="chat", memory="4Gi")
    assert (chat["function"], chat["timeout"], chat["cards"]) == ("chat", "900s", [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"function": "rerank-gpu"}, "rerank-gpu needs a card; name it in gpu, such as nvidia-l4"),
        ({"function": "rerank-gpu", "gpu": "nvidia-l4"}, "an nvidia-l4 needs at least cpu=4 and memory=16Gi"),
        ({"function": "embed", "gpu": "nvidia-rtx-pro-6000", "cpu": "8", "memory": "32Gi"}, "nvidia-rtx-pro-6000 cpu=20"),
        ({"function": "embed", "gpu": "nvidia-t4"}, "gpu: expected nvidia-l4 or nvidia-rtx-pro-6000"),
        ({"function": "chat-gpu"}, "function: expected rerank-cpu-int8, embed, chat or rerank-gpu"),
        ({"function": "chat"}, "give it memory=4Gi or more"),
        ({"function": "chat", "memory": "4096Mi"}, "give it memory=4Gi or more"),
        ({"function": "chat", "memory": "8Gi", "concurrency": "33"}, "a concurrency of 32 at most"),
    ],
)
def test_cloud_run_refuses_what_the_platform_would(cloud_run: Module, given: dict[str, str], said: str) -> None:
    assert said in cloud_run.refused(**given)
