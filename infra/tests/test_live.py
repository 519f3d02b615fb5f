"""With binaries: what the templates and requests say is what the functions take."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checks import requests, settings
from runtime_api import on_lambda, request
from test_bulk import LINE, Cloud

MODELS = {"rerank-cpu-int8": "bert-classifier", "embed": "qwen3-embedding", "chat": "generate-qwen3"}
KINDS = {"rerank-cpu-int8": "rerank", "embed": "embed", "chat": "chat"}


@pytest.fixture(scope="module")
def snapshots(root: Path, binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models, packed."""
    folder = tmp_path_factory.mktemp("snapshots")
    found = {}
    for function, model in MODELS.items():
        found[function] = folder / f"{model}.snap"
        command = [binaries / "defrost", "pack", root / "data/golden" / model, "--out", found[function]]
        command += ["--kind", "chat"] if function == "chat" else []
        subprocess.run(command, check=True, capture_output=True)
    return found


@pytest.fixture(scope="module")
def urls(root: Path, binaries: Path, snapshots: dict[str, Path]) -> Iterator[dict[str, str]]:
    """Both functions, running."""
    sys.path.insert(0, str(root / "scripts"))
    from lib.served import served

    rerank = served(binaries / "rerank-cpu-int8", snapshots["rerank-cpu-int8"], API_KEYS="collection-key")
    embed = served(binaries / "embed", snapshots["embed"], API_KEYS="collection-key", ALLOW_NON_MRL="true")
    with rerank as rerank_url, embed as embed_url:
        yield {"rerank": rerank_url, "embed": embed_url}


def test_the_page_of_settings_has_those_of_the_binaries(root: Path, binaries: Path) -> None:
    for function, kind in KINDS.items():
        said = subprocess.run([binaries / function, "--help"], check=True, capture_output=True, text=True).stdout
        named = set(re.findall(r"\[env: ([A-Z_]+)", " ".join(said.split())))
        assert named == settings.settings_of(root, kind), function


def test_every_request_of_the_collection_is_answered(root: Path, urls: dict[str, str]) -> None:
    for known in requests.load(root)[0]:
        name, path = re.fullmatch(r"\{\{(\w+)\}\}(.*)", known.url).groups()  # type: ignore[union-attr]
        body = json.dumps(known.body).encode() if known.body else None
        headers = {"content-type": "application/json", "authorization": "Bearer collection-key"}
        sent = urllib.request.Request(urls[name] + path, body, headers, method=known.method)
        try:
            with urllib.request.urlopen(sent, timeout=60) as answer:
                assert json.load(answer)
        except urllib.error.HTTPError as error:
            pytest.fail(f"{known.where}: {error.code} {error.read().decode()[:500]}")


def test_probes_of_the_templates_need_no_key(root: Path, urls: dict[str, str]) -> None:
    for path in settings.probes(root):
        with urllib.request.urlopen(urls["embed"] + path, timeout=60) as answer:
            assert answer.status == 200, path


@pytest.mark.parametrize("mode", ["response_stream", "buffered"])
def test_chat_streams_where_the_url_does(binaries: Path, snapshots: dict[str, Path], tmp_path: Path, mode: str) -> None:
    """Prelude, eight zeros and the events as they come, or all of them at once in an envelope."""
    body = {"prompt": "rain in the city", "max_tokens": 20, "temperature": 0, "ignore_eos": True, "stream": True}
    with on_lambda(binaries / "chat", snapshots["chat"], tmp_path / "log", INVOKE_MODE=mode) as ask:
        given = ask(request("/v1/completions", body))
    assert given.get("streamed", False) == (mode == "response_stream")
    assert (given["statusCode"], given["headers"]["content-type"]) == (200, "text/event-stream")
    assert given["body"].endswith("data: [DONE]\n\n")


def test_bulk_work_over_the_real_function(
    root: Path, binaries: Path, snapshots: dict[str, Path], tmp_path: Path
) -> None:
    """The state machine's event is one that the binary takes; equal lines are computed once; refusals are told."""
    cloud = Cloud(root)
    with on_lambda(binaries / "embed", snapshots["embed"], tmp_path / "log") as ask:

        def answer(event: dict[str, Any]) -> tuple[int, str]:
            given = ask(event)
            assert given["isBase64Encoded"] is False
            return given["statusCode"], given["body"]

        cloud.answers = answer
        cloud.run(LINE, LINE, {"input": "three"})
        assert len(cloud.asked) == len(cloud.objects) == 2
        stored = cloud.objects[cloud.outputs[0]["key"]]
        assert [one["index"] for one in stored["data"]] == [0, 1]
        assert stored["data"][0]["embedding"] != stored["data"][1]["embedding"]
        with pytest.raises(Exception, match="no_field|input") as refused:
            cloud.run({"no_field": 1})
        assert refused.value.args[0] == "Refused"
