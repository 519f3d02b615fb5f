"""scripts/ops/deploy_azure and infra/azure/Makefile, with stand-ins for az and terraform that note what they are asked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

STAND_IN = """#!/bin/bash
echo "$(basename "$0") $*${AZURE_STORAGE_KEY:+ [key in the environment]}" >>"$JOURNAL"
case "$*" in
    *"$REFUSE"*) [ -z "$REFUSE" ] || exit 1 ;;
esac
case "$*" in
    "account show"*) [ "$LOGGED_IN" = yes ] ;;
    *"keys list"*) echo account-key ;;
    *"state list"*) echo "$STATE" ;;
    *"output -raw url") echo https://app.example.com ;;
    *"output -raw"*) echo "the-${*: -1}" ;;
esac
"""


class Azure:
    """The copy of the repository with stand-ins first on the PATH."""

    def __init__(self, tree: Path) -> None:
        self.tree, self.journal = tree, tree / "journal"
        self.bin = tree / "bin"
        self.bin.mkdir()
        for name in ("az", "terraform"):
            (self.bin / name).write_text(STAND_IN)
            (self.bin / name).chmod(0o755)
        for function in ("rerank-cpu-int8", "embed", "chat", "rerank-gpu"):
            folder = tree / "infra" / "images" / function
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "Dockerfile").write_text("FROM scratch\nUSER 1\n")
        (tree / "model.snap").write_bytes(b"a snapshot")

    def run(self, *command: str, **variables: str) -> tuple[int, str, list[str]]:
        """Exit code, output, and what az and terraform were asked."""
        self.journal.unlink(missing_ok=True)
        defaults = {"LOGGED_IN": "yes", "STATE": "", "REFUSE": ""}
        own = {"PATH": f"{self.bin}:{os.environ['PATH']}", "JOURNAL": str(self.journal), "TF_VAR_api_keys": "s3cret-key"}
        done = subprocess.run(
            command, cwd=self.tree, env=own | defaults | variables, capture_output=True, text=True, check=False
        )
        asked = self.journal.read_text().splitlines() if self.journal.exists() else []
        return done.returncode, done.stdout + done.stderr, asked

    def deploy(self, *arguments: str, **variables: str) -> tuple[int, str, list[str]]:
        """The script."""
        return self.run("scripts/ops/deploy_azure", *arguments, **variables)


@pytest.fixture
def azure(tree: Path) -> Azure:
    return Azure(tree)


def test_a_first_deployment_goes_in_order(azure: Azure) -> None:
    code, output, asked = azure.deploy("--snapshot", "model.snap", "--tag", "t1", "--yes")
    assert code == 0, output
    assert asked == [
        "az account show --output none",
        "terraform -chdir=infra/azure init -input=false",
        "terraform -chdir=infra/azure state list",
        "terraform -chdir=infra/azure apply -auto-approve -input=false -var deploy_app=false",
        "terraform -chdir=infra/azure output -raw registry",
        "az acr run --registry the-registry --file infra/azure/acr-build.yaml --timeout 7200 "
        "--set function=rerank-cpu-int8 --set tag=t1 . --output none",
        "terraform -chdir=infra/azure output -raw storage_account",
        "az storage account keys list --account-name the-storage_account --query [0].value --output tsv",
        "terraform -chdir=infra/azure output -raw share [key in the environment]",
        "az storage file upload --account-name the-storage_account --share-name the-share --path rerank-cpu-int8.snap "
        "--source model.snap --no-progress --output none [key in the environment]",
        "terraform -chdir=infra/azure apply -auto-approve -input=false -var deploy_app=true",
        "terraform -chdir=infra/azure output -raw url",
    ]
    assert "deployed: https://app.example.com" in output


def test_an_app_that_runs_stays_while_its_image_is_built(azure: Azure) -> None:
    code, _, asked = azure.deploy("--tag", "t2", "--function", "embed", STATE="azurerm_container_app.function[0]")
    assert code == 0
    applied = [line for line in asked if " apply" in line]
    assert applied == ["terraform -chdir=infra/azure apply -var deploy_app=true"]
    assert any("--set function=embed" in line for line in asked)
    assert not any("upload" in line for line in asked)


def test_a_function_on_a_gpu_is_deployed_alike(azure: Azure) -> None:
    """Terraform itself knows which profile it needs (infra/azure/main.tf)."""
    code, output, asked = azure.deploy("--snapshot", "model.snap", "--tag", "t3", "--function", "rerank-gpu", "--yes")
    assert code == 0, output
    assert any("--set function=rerank-gpu" in line for line in asked)
    assert any("--path rerank-gpu.snap" in line for line in asked)


@pytest.mark.parametrize("step", ["init", "deploy_app=false", "acr run", "keys list", "file upload", "deploy_app=true"])
def test_a_step_that_fails_ends_it(azure: Azure, step: str) -> None:
    code, output, asked = azure.deploy("--snapshot", "model.snap", "--tag", "t", REFUSE=step)
    assert code == 1
    assert step in asked[-1]
    assert "deployed" not in output


def test_secrets_are_neither_shown_nor_passed_as_arguments(azure: Azure) -> None:
    _, output, asked = azure.deploy("--snapshot", "model.snap", "--tag", "t")
    for secret in ("account-key", "s3cret-key"):
        assert secret not in output
        assert not any(secret in line for line in asked)


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "words"),
    [
        (["--function", "chat-gpu"], {}, 2, "expected rerank-cpu-int8, embed, chat or rerank-gpu, found chat-gpu"),
        (["--tag"], {}, 2, "--tag needs a value"),
        (["--force"], {}, 2, "unknown argument --force"),
        (["--snapshot", "none.snap"], {}, 1, "none.snap: no such file"),
        (["--tag", "t"], {"LOGGED_IN": "no"}, 1, "run az login"),
    ],
)
def test_mistakes_are_told_before_anything_happens(
    azure: Azure, arguments: list[str], variables: dict[str, str], code: int, words: str
) -> None:
    found, output, asked = azure.deploy(*arguments, **variables)
    assert (found, words in output) == (code, True), output
    assert not any(line.startswith("terraform") for line in asked)


def test_help_names_every_flag(azure: Azure) -> None:
    code, output, _ = azure.deploy("--help")
    assert code == 0
    for flag in ("--snapshot", "--function", "--tag", "--yes"):
        assert flag in output


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_every_target_of_the_makefile_asks_the_right_thing(azure: Azure) -> None:
    wanted = {
        "azure-login": "az login",
        "azure-acr-build": "az acr run --registry the-registry --file infra/azure/acr-build.yaml --timeout 7200 "
        "--set function=embed --set tag=t . --output none",
        "tf-init": f"terraform -chdir={azure.tree}/infra/azure init",
        "tf-plan": f"terraform -chdir={azure.tree}/infra/azure plan",
        "tf-apply": f"terraform -chdir={azure.tree}/infra/azure apply",
        "tf-destroy": f"terraform -chdir={azure.tree}/infra/azure destroy",
        "tf-output": f"terraform -chdir={azure.tree}/infra/azure output",
        "run": "az containerapp start --name embed --resource-group the-resource_group --output none",
        "stop": "az containerapp stop --name embed --resource-group the-resource_group --output none",
        "logs": "az containerapp logs show --name embed --resource-group the-resource_group --follow --tail 100",
    }
    for target, last in wanted.items():
        code, output, asked = azure.run("make", "-C", "infra/azure", target, "FUNCTION=embed", "TAG=t")
        assert code == 0, output
        assert asked[-1] == last, target
    code, output, asked = azure.run("make", "-C", "infra/azure", "push-model", "FUNCTION=embed", "TAG=t")
    assert (code != 0, "no such file" in output, asked) == (True, True, [])
    snapshot = f"SNAPSHOT={azure.tree}/model.snap"
    code, output, asked = azure.run("make", "-C", "infra/azure", "push-model", "FUNCTION=embed", "TAG=t", snapshot)
    assert code == 0, output
    assert "--path embed.snap" in asked[-1] and "[key in the environment]" in asked[-1]
    code, output, asked = azure.run("make", "-C", "infra/azure", "deploy", "FUNCTION=embed", "TAG=t", snapshot)
    assert code == 0, output
    assert any("upload" in line and "--path embed.snap" in line for line in asked)
