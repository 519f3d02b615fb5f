"""Cuts a small reproducible subset out of BEIR's SciFact: some test queries, what is relevant to them, and others.

  python3 scripts/golden/make_scifact_mini.py --beir DIR --out data/scifact-mini --queries 25 --documents 150 --seed 7

DIR is in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/test.tsv), and so is the output. Needs only Python.
"""

import argparse
import json
import random
from pathlib import Path

SOURCE = """# SciFact, a small subset

{queries} test queries, all {relevant} documents relevant to them and {others} random others, made by
`scripts/golden/make_scifact_mini.py --queries {queries} --documents {documents} --seed {seed}` from the BEIR edition of SciFact.

- Data set: David Wadden, Shanchuan Lin, Kyle Lo, Lucy Lu Wang, Madeleine van Zuylen, Arman Cohan, Hannaneh Hajishirzi:
  "Fact or Fiction: Verifying Scientific Claims", EMNLP 2020. https://github.com/allenai/scifact
- Edition: Nandan Thakur et al.: "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of Information Retrieval
  Models", NeurIPS 2021. https://github.com/beir-cellar/beir
- Licences: claims and annotations (queries, qrels) CC BY 4.0; abstracts (corpus, from S2ORC) ODC-By 1.0.
- Changes: a subset; the `metadata` of documents and queries is left out.

A score on this subset is for regression tests: with so few documents it is far above the one on all 5,183.
"""


def read_jsonl(path):
    """Rows by id."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {row["_id"]: row for row in rows}


def write_jsonl(path, rows):
    """One compact object a line."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beir", type=Path, required=True, help="SciFact in BEIR's layout")
    parser.add_argument("--out", type=Path, default=Path("data/scifact-mini"))
    parser.add_argument("--queries", type=int, default=25)
    parser.add_argument("--documents", type=int, default=150)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()

    corpus, queries = read_jsonl(arguments.beir / "corpus.jsonl"), read_jsonl(arguments.beir / "queries.jsonl")
    qrels = [line.split("\t") for line in (arguments.beir / "qrels/test.tsv").read_text().splitlines()[1:]]
    rng = random.Random(arguments.seed)
    by_id = {"key": int}
    chosen = set(rng.sample(sorted({query for query, _, _ in qrels}, **by_id), arguments.queries))
    qrels = [row for row in qrels if row[0] in chosen]
    relevant = {document for _, document, score in qrels if int(score) > 0}
    if len(relevant) > arguments.documents:
        parser.error(f"{len(relevant)} documents are relevant already; raise --documents or lower --queries")
    others = rng.sample(sorted(corpus.keys() - relevant, **by_id), arguments.documents - len(relevant))

    (arguments.out / "qrels").mkdir(parents=True, exist_ok=True)
    documents = [corpus[document] for document in sorted(relevant.union(others), **by_id)]
    write_jsonl(arguments.out / "corpus.jsonl", ({k: row[k] for k in ("_id", "title", "text")} for row in documents))
    picked = [queries[query] for query in sorted(chosen, **by_id)]
    write_jsonl(arguments.out / "queries.jsonl", ({k: row[k] for k in ("_id", "text")} for row in picked))
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(row) for row in qrels)]
    (arguments.out / "qrels/test.tsv").write_text("".join(f"{line}\n" for line in lines))
    (arguments.out / "SOURCE.md").write_text(
        SOURCE.format(
            queries=len(chosen), relevant=len(relevant), others=len(others), documents=len(documents), seed=arguments.seed
        )
    )
    print(f"{arguments.out}: {len(chosen)} queries, {len(documents)} documents, {len(relevant)} of them relevant")


if __name__ == "__main__":
    main()
