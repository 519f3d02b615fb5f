"""Packing and bulk work as containers do them, with the real tool; the volume is a folder."""

import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from defrost_modal import tool

GOLDEN = ROOT / "data" / "golden"
TEXTS = [f'{{"_id": "{number}", "title": "", "text": "{number % 7} is a number"}}\n' for number in range(20)]


def test_packing_puts_a_whole_file_into_the_volume(built, tmp_path):
    source, models = str(GOLDEN / "bert-classifier"), tmp_path / "models"
    report = tool.pack(source, "", ["--name", "tiny/cross", "--precision", "f32"], 2, models, built / "defrost")
    assert [file.name for file in models.iterdir()] == ["bert-classifier-f32.snap"]
    assert report.startswith("bert-classifier-f32.snap\n")
    verified = subprocess.run([built / "defrost", "verify", models / "bert-classifier-f32.snap"], check=False)
    assert verified.returncode == 0


def test_packing_again_replaces_and_a_failure_leaves_what_was_there(built, tmp_path):
    models = tmp_path / "models"
    for model in ("bert-classifier", "bert-embedding"):
        tool.pack(str(GOLDEN / model), "model.snap", [], 2, models, built / "defrost")
    (kept,) = models.iterdir()
    before = kept.read_bytes()
    with pytest.raises(tool.ToolError, match="(?s)defrost pack .*/nothing .*ended with 1:\n.*nothing"):
        tool.pack(str(GOLDEN / "nothing"), "model.snap", [], 2, models, built / "defrost")
    assert [file.name for file in models.iterdir()] == ["model.snap"]
    assert kept.read_bytes() == before


@pytest.mark.parametrize("file", ["../model.snap", "/etc/model.snap", "model"])
def test_only_a_snapshot_of_the_volume_is_written(file, tmp_path):
    with pytest.raises(tool.ToolError, match="expected the name of a file that ends in .snap"):
        tool.pack("hf://a/b", file, [], 2, tmp_path, "never run")
    assert not list(tmp_path.iterdir())


def test_a_copy_that_fails_leaves_nothing(tmp_path):
    source, target = tmp_path / "source", tmp_path / "volume" / "model.snap"
    with pytest.raises(FileNotFoundError):
        tool.put(source, target)
    assert not list(target.parent.iterdir())
    source.touch()
    target.mkdir()
    with pytest.raises(OSError):
        tool.put(source, target)
    assert list(target.parent.iterdir()) == [target]


def test_whoever_has_a_snapshot_open_keeps_it(tmp_path):
    source, target = tmp_path / "source", tmp_path / "model.snap"
    source.write_text("old")
    tool.put(source, target)
    with target.open() as opened:
        source.write_text("new")
        tool.put(source, target)
        assert opened.read() == "old"
    assert target.read_text() == "new"


def test_the_tool_sees_the_token_of_the_hub_and_little_else(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "token")
    monkeypatch.setenv("MODAL_IDENTITY_TOKEN", "hush")
    seen = tool.run("/usr/bin/env", [], 1.5, tmp_path).split("\n")
    assert "HF_TOKEN=token" in seen
    assert "NUM_THREADS=2" in seen
    assert f"HOME={tmp_path}" in seen
    assert not [line for line in seen if "hush" in line]


@pytest.fixture
def embeds(built):
    """The tool, if it has bulk work built in."""
    done = subprocess.run([built / "defrost", "embed", "--help"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{built / 'defrost'} has no command embed")
    return built / "defrost"


def test_shards_join_into_what_one_machine_writes(embeds, snapshots, tmp_path):
    corpus = tmp_path / "bulk" / "corpora" / "c.jsonl"
    corpus.parent.mkdir(parents=True)
    corpus.write_text("".join(TEXTS))

    def embed(out, shard, options=()):
        work = ("corpora/c.jsonl", out, "bert-embedding.snap", list(options), 2, shard)
        return tool.embed(*work, models=snapshots, bulk=tmp_path / "bulk", tool=embeds)

    with pytest.raises(tool.ToolError, match="ended with"):
        embed("vectors/many/vectors.jsonl", None)
    for index in (2, 0, 1, 0):
        embed("vectors/many/vectors.jsonl", (index, 3))
    embed("vectors/many/vectors.jsonl", None)
    embed("vectors/one/vectors.jsonl", (0, 1))
    embed("vectors/one/vectors.jsonl", None)
    many, one = (Path(tmp_path, "bulk", "vectors", run, "vectors.jsonl").read_bytes() for run in ("many", "one"))
    assert many == one
    assert len(many.splitlines()) == len(TEXTS)
