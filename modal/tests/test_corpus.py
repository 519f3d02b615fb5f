"""Names of bulk work are made of content, and files go into the volume once and come out whole."""

import contextlib
import inspect
from pathlib import Path
from types import SimpleNamespace

import modal
import pytest
from defrost_modal import corpus


class FolderVolume:
    """What a Modal volume is from outside: names and bytes."""

    def __init__(self, folder):
        self.folder, self.sent = folder, []

    def listdir(self, path):
        if not (self.folder / path).is_dir():
            raise FileNotFoundError(path)
        return [SimpleNamespace(path=f"{path}/{file.name}") for file in (self.folder / path).iterdir()]

    @contextlib.contextmanager
    def batch_upload(self):
        yield self

    def put_file(self, source, target):
        self.sent.append(target)
        (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / target).write_bytes(Path(source).read_bytes())

    def read_file(self, path):
        content = (self.folder / path).read_bytes()
        yield content[:3]
        if b"cut" in content:
            raise ConnectionError("gone")
        yield content[3:]


def test_modal_volumes_are_used_as_they_are():
    for name in ("listdir", "batch_upload", "read_file"):
        real = inspect.signature(getattr(modal.Volume, name)).parameters
        ours = [each for each in inspect.signature(getattr(FolderVolume, name)).parameters if each != "self"]
        assert [each for each in real if each != "self"][: len(ours)] == ours


def test_a_corpus_is_sent_once_whatever_it_is_called(tmp_path):
    volume = FolderVolume(tmp_path / "volume")
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for file in (first, second):
        file.write_text('{"text": "x"}\n')
    target = corpus.stored(first)
    assert corpus.stored(second) == target
    assert corpus.send(volume, first, target) is True
    assert corpus.send(volume, second, target) is False
    second.write_text('{"text": "y"}\n')
    assert corpus.send(volume, second, corpus.stored(second)) is True
    assert len(set(volume.sent)) == len(volume.sent) == 2


def test_other_work_has_another_place():
    places = {
        corpus.output(*work)
        for work in [
            ("corpora/a.jsonl", "m.snap", [], "v.parquet"),
            ("corpora/b.jsonl", "m.snap", [], "v.parquet"),
            ("corpora/a.jsonl", "n.snap", [], "v.parquet"),
            ("corpora/a.jsonl", "m.snap", ["--dimensions", "64"], "v.parquet"),
            ("corpora/a.jsonl", "m.snap", ["--dimensions 64"], "v.parquet"),
            ("corpora/a.jsonl", "m.snap", [], "v.jsonl"),
        ]
    }
    assert len(places) == 6
    same = corpus.output("corpora/a.jsonl", "m.snap", [], "elsewhere/w.parquet")
    assert same in places


def test_wrong_files_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(corpus.CorpusError, match="expected a file that ends in .jsonl or .parquet"):
        corpus.stored(tmp_path / "nothing.jsonl")
    (tmp_path / "c.csv").touch()
    with pytest.raises(corpus.CorpusError, match="expected a file that ends in"):
        corpus.stored(tmp_path / "c.csv")
    with pytest.raises(corpus.CorpusError, match="expected a name that ends in .parquet or .jsonl"):
        corpus.output("corpora/a.jsonl", "m.snap", [], "v.npy")


def test_a_download_appears_whole_or_not_at_all(tmp_path):
    volume = FolderVolume(tmp_path)
    (tmp_path / "good").write_bytes(b"all of it")
    (tmp_path / "bad").write_bytes(b"cut off")
    corpus.fetch(volume, "good", tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == b"all of it"
    with pytest.raises(ConnectionError):
        corpus.fetch(volume, "bad", tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == b"all of it"
    assert not list(tmp_path.glob(".*"))
