"""Writes what `transformers` makes of texts: dense, sparse and ColBERT vectors of the tiny embedding models.

Reads the checkpoints that golden.py has written to --out and adds embeddings.json to each. The reference is
`transformers` in f32 on CPU, one text at a time and no padding. Sparse and ColBERT vectors follow FlagEmbedding, whose
formulas are written out here (github FlagOpen/FlagEmbedding,
FlagEmbedding/finetune/embedder/encoder_only/m3/modeling.py `EncoderOnlyEmbedderM3Model._sparse_embedding`,
`_colbert_embedding`, and FlagEmbedding/inference/embedder/encoder_only/m3.py `_process_token_weights`,
`_process_colbert_vecs`):

  sparse    relu(sparse_linear(h)) of every token, the largest of each id, without cls, eos, pad and unk, above 0
  colbert   colbert_linear(h[1:]), each row scaled to length 1

Each file holds `cases`, one a line:

  name, text, prompt   the prompt is none, query, document or instruct (for the task in `task`)
  ids                  what the model was run on, cut to max_length, special tokens included
  dense                pooled, scaled to length 1
  short                pooled, cut to 16 dimensions, then scaled to length 1
  sparse               [[id, weight], ...] ascending, where the model has the head
  colbert              all rows of texts of few tokens, else the first two and the last two

Models that take means of tokens have `chunks` too, for late chunking (arXiv 2409.04701): the model is run on the prompt
and all `texts`, each tokenised by itself, one after another, and `dense` has the mean over each text's own hidden
states, scaled to length 1.

Environment: that of golden.py.
  .venv/bin/python scripts/golden/golden_embeddings.py --out data/golden
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.nn.functional import normalize

import golden
import golden_texts as texts

SHORT = 16
TASK = "Find the passage that names the author."
WHOLE_ROWS = 24
# Which pairs' documents are chunks of one text, and the prompt before them.
CHUNKS = ((0, "none"), (9, "query"))


class Embedder(golden.Scorer):
    """A checkpoint with what FlagEmbedding adds to it."""

    def __init__(self, folder, spec):
        super().__init__(folder, spec)
        self.heads = {}
        for name in ("sparse_linear", "colbert_linear"):
            if (folder / f"{name}.pt").exists():
                self.heads[name] = torch.load(folder / f"{name}.pt", weights_only=True)
        special = [self.tokenizer.token_to_id(token) for token in ("<s>", "</s>", "<pad>", "<unk>")]
        self.unused = {token for token in special if token is not None}

    def linear(self, name, x):
        """The layer of that name, in f32."""
        return torch.nn.functional.linear(x, self.heads[name]["weight"].float(), self.heads[name]["bias"].float())

    @torch.inference_mode()
    def vectors(self, ids):
        """Everything there is to know about one sequence."""
        hidden = self.model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long))
        hidden = hidden.last_hidden_state[0]
        pooled = {"mean_tokens": hidden.mean(0), "cls_token": hidden[0], "lasttoken": hidden[-1]}[self.spec["pooling"]]
        found = {
            "dense": rounded(normalize(pooled, dim=0)),
            "short": rounded(normalize(pooled[:SHORT], dim=0)),
        }
        if "sparse_linear" in self.heads:
            weights = torch.relu(self.linear("sparse_linear", hidden))[:, 0]
            largest = {}
            for token, weight in zip(ids, weights.tolist(), strict=True):
                if token not in self.unused and weight > max(0, largest.get(token, 0)):
                    largest[token] = weight
            found["sparse"] = [[token, round(largest[token], 6)] for token in sorted(largest)]
        if "colbert_linear" in self.heads:
            rows = normalize(self.linear("colbert_linear", hidden[1:]), dim=-1)
            rows = rows if len(rows) <= WHOLE_ROWS else torch.cat([rows[:2], rows[-2:]])
            found["colbert"] = rounded(rows)
        return found

    def case(self, name, text, prompt):
        """One text after one prompt."""
        before = {
            "query": self.spec.get("query_prompt", ""), "instruct": f"Instruct: {TASK}\nQuery:",
        }.get(prompt, "")  # fmt: skip
        ids = self.text(before + text)
        return {"name": name, "text": text, "prompt": prompt, "ids": ids, **self.vectors(ids)}


    @torch.inference_mode()
    def chunks(self, chunks, prompt):
        """Each of these texts in the context of all."""
        first, last = self.text("")
        parts = [self.text(text)[1:-1] for text in (self.spec.get(f"{prompt}_prompt", ""), *chunks)]
        ids = [first, *(token for part in parts for token in part), last]
        hidden = self.model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long))
        hidden, at = hidden.last_hidden_state[0], 1 + len(parts[0])
        dense = []
        for part in parts[1:]:
            dense.append(rounded(normalize(hidden[at : at + len(part)].mean(0), dim=0)))
            at += len(part)
        return {"texts": chunks, "prompt": prompt, "ids": ids, "dense": dense}


def rounded(values):
    """Values as short as the tolerance of the tests allows."""
    return np.round(values.numpy().astype(np.float64), 6).tolist()


def cases(embedder):
    """Documents, queries, nothing at all, and more than the model takes."""
    rng = np.random.default_rng(23)
    result = [embedder.case(name, document, "document") for name, _, document in texts.PAIRS]
    result += [embedder.case(f"query-{name}", query, "query") for name, query, _ in texts.PAIRS[::4]]
    result.append(embedder.case("empty", "", "none"))
    result.append(embedder.case("empty-query", "", "query"))
    result.append(embedder.case("plain", texts.WHO, "none"))
    if embedder.spec.get("query_prompt"):
        result += [embedder.case(f"instruct-{name}", query, "instruct") for name, query, _ in texts.PAIRS[:3]]
    limit = embedder.spec["max_length"]
    result.append(embedder.case("long-cut", golden.grow(embedder, limit * 5 // 4, rng), "document"))
    return result


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/golden"), help="golden.py's folder (default: %(default)s)")
    parser.add_argument("--only", choices=golden.MODELS, action="append", help="only this model; may be repeated")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name, spec in golden.MODELS.items():
        if "pooling" not in spec or (arguments.only and name not in arguments.only):
            continue
        folder = arguments.out / name
        embedder = Embedder(folder, spec)
        found = {
            "versions": {m.__name__: str(m.__version__) for m in (torch, transformers)},
            "task": TASK,
            "max_length": spec["max_length"],
            "short_dimensions": SHORT,
            "cases": cases(embedder),
        }
        if spec["pooling"] == "mean_tokens":
            documents = [document for _, _, document in texts.PAIRS]
            found["chunks"] = [embedder.chunks(documents[at : at + 3], prompt) for at, prompt in CHUNKS]
        golden.write_golden(folder / "embeddings.json", found)
        print(f"{name}: {len(found['cases'])} cases, {(folder / 'embeddings.json').stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
