"""Cases out of a BEIR folder: complete, repeatable, and honest about what is relevant."""

import json
import re

from conftest import ROOT, script

DATASET = ROOT / "data/scifact-mini"


def build(out, *more):
    """The cases."""
    done = script("build_beir_subset", "--dataset-dir", DATASET, "--out", out, *more)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


def qrels():
    """Relevant documents by query, read as plainly as can be."""
    found = {}
    for line in (DATASET / "qrels/test.tsv").read_text().splitlines()[1:]:
        query, document, score = line.split("\t")
        if int(score) > 0:
            found.setdefault(query, set()).add(document)
    return found


def test_every_relevant_document_is_there_and_marked(tmp_path):
    relevant = qrels()
    cases = build(tmp_path / "all.json", "--top-k", 12)
    assert {case["name"] for case in cases} == set(relevant)
    for case in cases:
        marked = {one for one, gain in zip(case["ids"], case["relevance"], strict=True) if gain > 0}
        assert marked == relevant[case["name"]]
        assert len(case["documents"]) == len(set(case["ids"])) == 12


def test_same_seed_same_bytes_other_seed_other_cases(tmp_path):
    build(tmp_path / "a.json", "--limit", 5)
    build(tmp_path / "b.json", "--limit", 5)
    build(tmp_path / "c.json", "--limit", 5, "--seed", 8)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_bytes() != (tmp_path / "c.json").read_bytes()


def test_negatives_bound_the_others_and_places_tell_nothing(tmp_path):
    cases = build(tmp_path / "few.json", "--negatives", 3)
    assert all(sum(gain == 0 for gain in case["relevance"]) == 3 for case in cases)
    assert len({case["relevance"].index(1.0) for case in cases}) > 1


def test_bm25_negatives_share_more_words_with_the_query_than_random_ones(tmp_path):
    def shared(cases):
        total = 0
        for case in cases:
            words = set(re.findall(r"\w+", case["query"].lower()))
            for document, gain in zip(case["documents"], case["relevance"], strict=True):
                total += len(words & set(re.findall(r"\w+", document.lower()))) if gain == 0 else 0
        return total

    hard = build(tmp_path / "hard.json", "--top-k", 6)
    easy = build(tmp_path / "easy.json", "--top-k", 6, "--first-stage", "random")
    assert shared(hard) > shared(easy)


def test_the_cases_are_what_defrost_reads(tmp_path, binaries, snapshot):
    import subprocess

    build(tmp_path / "cases.json", "--limit", 1, "--top-k", 2)
    command = [binaries / "defrost", "rerank", "--model", snapshot, "--cases-file", tmp_path / "cases.json", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_errors_say_what_there_is(tmp_path):
    done = script("build_beir_subset", "--dataset-dir", DATASET, "--split", "train", "--out", tmp_path / "x")
    assert done.returncode == 2 and "one of: test" in done.stderr
    done = script("build_beir_subset", "--dataset-dir", tmp_path, "--out", tmp_path / "x")
    assert done.returncode == 2 and "corpus.jsonl" in done.stderr
    (tmp_path / "corpus.jsonl").write_text('{"_id": "1", "text": "a"}\n[]\n')
    done = script("build_beir_subset", "--dataset-dir", tmp_path, "--out", tmp_path / "x")
    assert done.returncode == 2 and "corpus.jsonl:2" in done.stderr
    assert not (tmp_path / "x").exists()
