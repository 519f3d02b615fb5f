"""The files as they are: no check finds anything."""

from pathlib import Path

import pytest
from checks import clouds, compose, contract, images, kube, requests, sam, settings, terraform, texts

CHECKS = {
    "clouds": clouds.check,
    "compose": compose.check,
    "images": images.check,
    "kube schemas": kube.check_schemas,
    "kube services": kube.check_services,
    "requests": lambda root: requests.load(root)[1],
    "sam lint": sam.check_lint,
    "sam rules": sam.check_rules,
    "terraform": terraform.check,
    "terraform fmt": terraform.check_format,
    "links": texts.check_links,
    "secrets": texts.check_secrets,
    "shell": texts.check_shell,
    "yaml": texts.check_yaml,
}


@pytest.mark.parametrize("name", CHECKS)
def test_nothing_is_wrong(root: Path, name: str) -> None:
    assert CHECKS[name](root) == []


def test_every_platform_is_looked_at(root: Path) -> None:
    """A reader that finds nothing would find nothing wrong."""
    seen = {service.where for service in kube.services(root)}
    assert seen == {
        "infra/cloudrun/chat.yaml",
        "infra/cloudrun/embed.yaml",
        "infra/cloudrun/rerank-gpu.yaml",
        "infra/cloudrun/rerank.yaml",
        "infra/knative/chat.yaml",
        "infra/knative/embed.yaml",
        "infra/knative/kserve-gpu.yaml",
        "infra/knative/kserve.yaml",
        "infra/knative/rerank-gpu.yaml",
        "infra/knative/rerank.yaml",
    }
    assert {service.where for service in kube.services(root) if service.gpu} == {
        "infra/cloudrun/rerank-gpu.yaml",
        "infra/knative/kserve-gpu.yaml",
        "infra/knative/rerank-gpu.yaml",
    }
    assert [service.where for service in kube.services(root) if service.function == contract.STREAMS] == [
        "infra/cloudrun/chat.yaml",
        "infra/knative/chat.yaml",
    ]
    ends = {read(root, streams).request_timeout_s for read in (clouds.azure, clouds.cloud_run) for streams in (False, True)}
    assert ends == {240, 300, 900}
    for service in (clouds.azure(root), clouds.cloud_run(root)):
        assert service.port == 8000
        assert len(service.variables) >= 5
        assert service.probes.keys() >= {"startup", "liveness"}
    assert len(settings.settings(root)) > 40
    assert len(requests.load(root)[0]) == 7
    assert texts.scripts(root)


def test_every_image_of_a_function_is_there_or_none(root: Path) -> None:
    """The templates name all; infra/images is either complete or not in this checkout."""
    found = {file.parent.name for file in images.dockerfiles(root) if file.name == "Dockerfile"}
    assert found & set(images.FUNCTIONS) in (set(), set(images.FUNCTIONS))
    assert found >= set(images.GPU_FUNCTIONS)
    assert {service["image"] for service in compose.services(root).values()} == {
        f"localhost/{name}:latest" for name in images.FUNCTIONS + images.GPU_FUNCTIONS
    }


def test_files_are_short(root: Path) -> None:
    written = [file for file in texts.files(root) if "schemas" not in file.parts]
    long = [file.name for file in written if len(file.read_text(encoding="utf-8").splitlines()) > 400]
    assert long == []
