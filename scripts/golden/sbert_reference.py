"""Writes data/golden/minilm.json: what the real all-MiniLM-L6-v2 gives on the examples and on data/scifact-mini.

As sentence-transformers does it (mean pooling, normalised, cut to 256 tokens), but with `transformers` alone: f32, CPU,
one text at a time, no padding. The weights are not committed; fetch them first.

  scripts/ops/fetch_default_model
  .venv/bin/python scripts/golden/sbert_reference.py --model models/all-MiniLM-L6-v2

The environment is that of golden.py. `--beir DIR` measures nDCG@10 on another folder in BEIR's layout and only prints
it.
"""

import argparse
import hashlib
import json
import math
import platform
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoModel

MAX_LENGTH = 256
TOP = 10


class Embedder:
    """all-MiniLM-L6-v2 as sentence-transformers runs it."""

    def __init__(self, folder):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # The published file asks for padding to 128 tokens and truncation at 128; sentence-transformers overrides both.
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_LENGTH)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    def ids(self, text):
        """Token ids, special tokens included."""
        return self.tokenizer.encode(text).ids

    @torch.inference_mode()
    def embed(self, text):
        """The normalised mean of the last hidden states."""
        ids = torch.tensor([self.ids(text)])
        hidden = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        return torch.nn.functional.normalize(hidden.mean(0), dim=0)


def cosine(a, b):
    """The cosine of two normalised embeddings."""
    return torch.dot(a, b).item()


def pair_cases(embedder, data):
    """Raw cosines of query and document pairs from the example files."""
    examples = [{"name": "docs", **json.loads((data / "example_docs.json").read_text(encoding="utf-8"))}]
    examples += json.loads((data / "example_cases.json").read_text(encoding="utf-8"))
    cases = []
    for example in examples:
        query = embedder.embed(example["query"])
        for at, document in enumerate(example["documents"]):
            cases.append({
                "name": f"{example['name']}-{at}", "query": example["query"], "document": document,
                "query_ids": embedder.ids(example["query"]), "document_ids": embedder.ids(document),
                "raw": cosine(query, embedder.embed(document)),
            })  # fmt: skip
    for case in cases[:2]:
        case["embedding"] = embedder.embed(case["document"]).tolist()
    return cases


def read_jsonl(path):
    """Rows of a JSON lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def ndcg(embedder, beir):
    """Mean nDCG@10 over the test queries, gains as in trec_eval; also the smallest gap that decides a rank."""
    corpus = read_jsonl(beir / "corpus.jsonl")
    names = [row["_id"] for row in corpus]
    documents = torch.stack([embedder.embed(f"{row['title']} {row['text']}".strip()) for row in corpus])
    qrels = {}
    for line in (beir / "qrels/test.tsv").read_text().splitlines()[1:]:
        query, document, score = line.split("\t")
        qrels.setdefault(query, {})[document] = int(score)
    values, gap = [], math.inf
    for row in read_jsonl(beir / "queries.jsonl"):
        if row["_id"] not in qrels:
            continue
        relevant = qrels[row["_id"]]
        scores = (documents @ embedder.embed(row["text"])).tolist()
        order = sorted(range(len(names)), key=lambda at: -scores[at])[: TOP + 1]
        gap = min([gap, *(scores[a] - scores[b] for a, b in zip(order, order[1:], strict=False))])
        gains = [relevant.get(names[at], 0) for at in order[:TOP]]
        ideal = sorted(relevant.values(), reverse=True)[:TOP]
        dcg, best = (sum(gain / math.log2(at + 2) for at, gain in enumerate(row)) for row in (gains, ideal))
        values.append(dcg / best if best else 0.0)
    return {"queries": len(values), "documents": len(names), "ndcg_at_10": math.fsum(values) / len(values),
            "smallest_gap_in_top_11": gap, "per_query": values}  # fmt: skip


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/all-MiniLM-L6-v2"))
    parser.add_argument("--data", type=Path, default=Path("data"), help="where the examples and scifact-mini lie")
    parser.add_argument("--out", type=Path, default=Path("data/golden/minilm.json"))
    parser.add_argument("--beir", type=Path, help="only print nDCG@10 on this folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    embedder = Embedder(arguments.model)
    if arguments.beir:
        result = ndcg(embedder, arguments.beir)
        print({key: value for key, value in result.items() if key != "per_query"})
        return

    mini = ndcg(embedder, arguments.data / "scifact-mini")
    golden = {
        "versions": {
            "python": platform.python_version(),
            **{m.__name__: str(m.__version__) for m in (torch, transformers, tokenizers)},
        },
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "model_sha256": hashlib.sha256((arguments.model / "model.safetensors").read_bytes()).hexdigest(),
        "kind": "embedding-similarity",
        "max_length": MAX_LENGTH,
        "scifact_mini": mini,
        "cases": pair_cases(embedder, arguments.data),
    }
    compact = {"ensure_ascii": False, "separators": (",", ":")}
    head = [f'"{key}":{json.dumps(value, **compact)}' for key, value in golden.items() if key != "cases"]
    rows = ",\n".join(json.dumps(case, **compact) for case in golden["cases"])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text("{\n" + ",\n".join(head) + f',\n"cases":[\n{rows}\n]\n}}\n', encoding="utf-8")
    for case in golden["cases"]:
        print(f"{case['name']:8} {case['raw']:.4f}")
    print({key: value for key, value in mini.items() if key != "per_query"})


if __name__ == "__main__":
    main()
