"""Writes golden outputs: tiny random models of each family and what `transformers` computes with them.

The reference is `transformers` in f32 on CPU, eager attention, one text or pair at a time and no padding. Each folder
of --out is a complete checkpoint in the form of the hub, and its golden.json holds:

  versions            packages that computed it
  kind                cross-encoder | yes-no-logit | embedding-similarity
  template            mxbai-rerank-v2 | qwen3-reranker | null
  max_length          the limit the cases were cut to
  max_length_covers   sequence (special and template tokens included) | pair (mxbai: the template comes on top)
                      | text (each text by itself)
  checks              what this script measured about the model; see check()
  cases               name, query, document, instruction, raw score; pairs have ids and type_ids ([] = all zero),
                      embedders query_ids and document_ids, the first two cases also the document's `embedding`
  long_pairs          64 random sequences of 512 ids with raw scores, for int8 against f32; second_start is where
                      token type 1 begins (null = all zero)

Environment (CPU wheels suffice):
  python3 -m venv .venv && .venv/bin/pip install torch transformers tokenizers safetensors numpy
  .venv/bin/python scripts/golden/golden.py --out data/golden
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import safetensors
import tokenizers
import torch
import transformers
from tokenizers import Tokenizer
from transformers import CamembertConfig, Qwen2Config, Qwen3Config, RobertaConfig

import golden_models as build
import golden_texts as texts

DIMS = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
LONG_PAIRS = 64
LONG_TOKENS = 512

# Stored precision varies on purpose: hub checkpoints come in all three, and the scores are of the stored values.
MODELS = {
    "bert-classifier": {
        "kind": "cross-encoder", "loader": "classifier", "architecture": "BertForSequenceClassification",
        "dtype": torch.float16, "seed": 1, "max_length": 512, "head_std": 0.5,
        "tokenizer": lambda: build.wordpiece(480),
        "config": lambda t: build.bert(t, **DIMS, intermediate_size=128, max_position_embeddings=512, num_labels=1),
    },
    "xlm-roberta-classifier": {
        "kind": "cross-encoder", "loader": "classifier", "architecture": "XLMRobertaForSequenceClassification",
        "dtype": torch.bfloat16, "seed": 2, "max_length": 1024, "head_std": 0.5, "word_std": 0.8,
        "tokenizer": lambda: build.unigram(480),
        "config": lambda t: build.xlm_roberta(
            t, **DIMS, intermediate_size=128, max_position_embeddings=1026, num_labels=1
        ),
    },
    "qwen2-mxbai": {
        "kind": "yes-no-logit", "loader": "causal", "architecture": "Qwen2ForCausalLM", "template": "mxbai-rerank-v2",
        "dtype": torch.bfloat16, "seed": 3, "max_length": 1024,
        "tokenizer": lambda: build.byte_bpe(640, append_eos=False),
        "config": lambda t: build.qwen(Qwen2Config, t, **DIMS, intermediate_size=160, num_key_value_heads=2),
    },
    "qwen3-reranker": {
        "kind": "yes-no-logit", "loader": "causal", "architecture": "Qwen3ForCausalLM", "template": "qwen3-reranker",
        "dtype": torch.bfloat16, "seed": 4, "max_length": 1024,
        "tokenizer": lambda: build.byte_bpe(640, append_eos=False),
        "config": lambda t: build.qwen(
            Qwen3Config, t, **DIMS, intermediate_size=160, num_key_value_heads=2, head_dim=32
        ),
    },
    "bert-embedding": {
        "kind": "embedding-similarity", "loader": "encoder", "architecture": "BertModel", "pooling": "mean_tokens",
        "dtype": torch.float32, "seed": 5, "max_length": 256, "word_std": 0.8, "sentence_bert_config": True, "position_ids": True,
        "tokenizer": lambda: build.wordpiece(480),
        "config": lambda t: build.bert(t, **SMALL, intermediate_size=64, max_position_embeddings=256),
    },
    "xlmr-embedding": {
        "kind": "embedding-similarity", "loader": "encoder", "architecture": "XLMRobertaModel", "pooling": "cls_token",
        "dtype": torch.float32, "seed": 6, "max_length": 512, "sentence_bert_config": True,
        "tokenizer": lambda: build.unigram(480),
        "config": lambda t: build.xlm_roberta(t, **SMALL, intermediate_size=64, max_position_embeddings=514),
    },
    "xlmr-m3": {
        "kind": "embedding-similarity", "loader": "encoder", "architecture": "XLMRobertaModel", "pooling": "cls_token",
        "dtype": torch.float32, "seed": 8, "max_length": 256, "sentence_bert_config": True, "token_heads": True,
        "tokenizer": lambda: build.unigram(480),
        "config": lambda t: build.xlm_roberta(t, **SMALL, intermediate_size=64, max_position_embeddings=258),
    },
    "qwen3-embedding": {
        "kind": "embedding-similarity", "loader": "encoder", "architecture": "Qwen3ForCausalLM",
        "pooling": "lasttoken", "query_prompt": texts.QWEN3_QUERY_PROMPT, "rope_parameters": True,
        "dtype": torch.bfloat16, "seed": 7, "max_length": 512,
        "tokenizer": lambda: build.byte_bpe(640, append_eos=True),
        "config": lambda t: build.qwen(
            Qwen3Config, t, **SMALL, intermediate_size=96, num_key_value_heads=1, head_dim=32
        ),
    },
    "roberta-classifier": {
        "kind": "cross-encoder", "loader": "classifier", "architecture": "RobertaForSequenceClassification",
        "dtype": torch.float16, "seed": 9, "max_length": 512, "head_std": 0.5, "word_std": 0.8,
        "tokenizer_config": True, "named_tokens": True,
        "tokenizer": lambda: build.roberta_bpe(480),
        "config": lambda t: build.xlm_roberta(
            t, RobertaConfig, **DIMS, intermediate_size=128, max_position_embeddings=514, num_labels=1
        ),
    },
    "camembert-classifier": {
        "kind": "cross-encoder", "loader": "classifier", "architecture": "CamembertForSequenceClassification",
        "dtype": torch.bfloat16, "seed": 10, "max_length": 512, "head_std": 0.5, "word_std": 0.8,
        "tokenizer_config": True, "named_tokens": True,
        "tokenizer": lambda: build.unigram(480, camembert=True),
        "config": lambda t: build.xlm_roberta(
            t, CamembertConfig, **DIMS, intermediate_size=128, max_position_embeddings=514, num_labels=1
        ),
    },
    "distilbert-classifier": {
        "kind": "cross-encoder", "loader": "classifier", "architecture": "DistilBertForSequenceClassification",
        "dtype": torch.float16, "seed": 13, "max_length": 512, "head_std": 0.5, "tokenizer_config": True,
        "named_tokens": True,
        "tokenizer": lambda: build.wordpiece(480),
        "config": lambda t: build.distilbert(
            t, dim=64, n_layers=3, n_heads=4, hidden_dim=128, max_position_embeddings=512, num_labels=1
        ),
    },
    "roberta-mean": {
        "kind": "embedding-similarity", "loader": "encoder", "architecture": "RobertaModel", "pooling": "mean_tokens",
        "dtype": torch.float32, "seed": 14, "max_length": 256, "word_std": 0.8, "sentence_bert_config": True,
        "position_ids": True, "tokenizer_config": True, "named_tokens": True,
        "tokenizer": lambda: build.roberta_bpe(480),
        "config": lambda t: build.xlm_roberta(
            t, RobertaConfig, **SMALL, intermediate_size=64, max_position_embeddings=258
        ),
    },
    "distilbert-cls": {
        "kind": "embedding-similarity", "loader": "encoder", "architecture": "DistilBertModel", "pooling": "cls_token",
        "dtype": torch.float32, "seed": 15, "max_length": 256, "sentence_bert_config": True, "tokenizer_config": True,
        "named_tokens": True,
        "tokenizer": lambda: build.wordpiece(480),
        "config": lambda t: build.distilbert(
            t, dim=32, n_layers=3, n_heads=2, hidden_dim=64, max_position_embeddings=256
        ),
    },
}  # fmt: skip


class Scorer:
    """Token ids and raw scores of one checkpoint."""

    def __init__(self, folder, spec):
        self.spec = spec
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.model = build.load_model(folder, spec)
        self.eos = self.tokenizer.token_to_id("<|endoftext|>")
        ends = ("[CLS]", "[SEP]") if self.tokenizer.token_to_id("[CLS]") is not None else ("<s>", "</s>")
        self.cls, self.sep = map(self.tokenizer.token_to_id, ends)
        yes_no = {"mxbai-rerank-v2": ("1", "0"), "qwen3-reranker": ("yes", "no")}.get(spec.get("template"))
        if yes_no:
            self.yes, self.no = (self.tokenizer.token_to_id(token) for token in yes_no)

    def plain(self, text):
        """Ids without special tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def pair(self, query, document, instruction=None):
        """Ids and token types of one pair."""
        limit = self.spec["max_length"]
        if self.spec.get("template") == "mxbai-rerank-v2":
            return self.mxbai(query, document, instruction, limit), []
        if self.spec.get("template") == "qwen3-reranker":
            return self.qwen3(query, document, instruction, limit), []
        query = self.plain(query)[: limit * 3 // 4]
        if self.spec["architecture"].startswith("Bert"):
            first = [2, *query, 3]
            second = [*self.plain(document)[: limit - len(first) - 1], 3]
            return first + second, [0] * len(first) + [1] * len(second)
        joint = [self.sep] if self.spec["architecture"].startswith("DistilBert") else [self.sep, self.sep]
        first = [self.cls, *query, *joint]
        return first + [*self.plain(document)[: limit - len(first) - 1], self.sep], []

    def mxbai(self, query, document, instruction, limit):
        """mxbai-rerank-v2: segments tokenized apart, then joined."""
        prefix, task, suffix, sep = map(
            self.plain, [texts.MXBAI_PREFIX, texts.MXBAI_TASK, texts.MXBAI_SUFFIX, "\n"]
        )
        fixed = len(prefix) + len(task) + len(suffix) + len(sep)
        positions = self.model.config.max_position_embeddings
        assert limit + fixed <= positions
        query = f"query: {query}"
        if instruction:
            query = f"instruction: {instruction}\n{query}"
        query = self.plain(query)[: limit * 3 // 4]
        document = self.plain(f"document: {document}")[: min(positions - len(query) - fixed, limit)]
        second = (sep + document)[: limit - len(query)]
        return prefix + query + second + sep + task + suffix

    def qwen3(self, query, document, instruction, limit):
        """Qwen3-Reranker, its transformers path: the body is cut at its end."""
        prefix, suffix = self.plain(texts.QWEN3_PREFIX), self.plain(texts.QWEN3_SUFFIX)
        instruction = instruction or texts.QWEN3_INSTRUCTION
        body = self.plain(f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}")
        return prefix + body[: limit - len(prefix) - len(suffix)] + suffix

    def text(self, text):
        """Ids of one text for an embedder, special tokens within the limit."""
        self.tokenizer.enable_truncation(self.spec["max_length"])
        ids = self.tokenizer.encode(text).ids
        self.tokenizer.no_truncation()
        return ids

    @torch.inference_mode()
    def raw(self, ids, type_ids=()):
        """The score of one pair, before any sigmoid."""
        inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        if type_ids:
            inputs["token_type_ids"] = torch.tensor([type_ids])
        logits = self.model(**inputs).logits
        if self.spec["kind"] == "yes-no-logit":
            return (logits[0, -1, self.yes] - logits[0, -1, self.no]).item()
        return logits[0, 0].item()

    @torch.inference_mode()
    def embed(self, ids):
        """The pooled and normalised embedding of one text."""
        hidden = self.model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long))
        hidden = hidden.last_hidden_state[0]
        pooled = {"mean_tokens": hidden.mean(0), "cls_token": hidden[0], "lasttoken": hidden[-1]}[self.spec["pooling"]]
        return torch.nn.functional.normalize(pooled, dim=0)

    def score(self, case):
        """The raw score of a finished case."""
        if self.spec["kind"] == "embedding-similarity":
            query, document = self.embed(case["query_ids"]), self.embed(case["document_ids"])
            return torch.dot(query, document).item()
        return self.raw(case["ids"], case["type_ids"])

    def case(self, name, query, document, instruction=None):
        """One case with everything but its embedding."""
        case = {"name": name, "query": query, "document": document, "instruction": instruction}
        if self.spec["kind"] == "embedding-similarity":
            case["query_ids"] = self.text(self.spec.get("query_prompt", "") + query)
            case["document_ids"] = self.text(document)
        else:
            case["ids"], case["type_ids"] = self.pair(query, document, instruction)
        case["raw"] = self.score(case)
        return case


def grow(scorer, tokens, rng):
    """A text of about so many tokens."""
    parts, count = [], 0
    while count < tokens:
        part = texts.SENTENCES[rng.integers(len(texts.SENTENCES))]
        parts.append(part)
        count += len(scorer.plain(part)) + (scorer.eos is not None)
    return " ".join(parts)


def cases(scorer):
    """All cases of one model, long ones grown to fit its limit."""
    rng = np.random.default_rng(17)
    limit = scorer.spec["max_length"]
    result = [scorer.case(*pair) for pair in texts.PAIRS]
    room = limit - len(scorer.plain(texts.WHO)) - 8
    if scorer.spec.get("template") == "qwen3-reranker":
        room -= len(scorer.pair("", "")[0])
    result.append(scorer.case("long-fits", texts.WHO, grow(scorer, room - 80, rng)))
    result.append(scorer.case("long-cut", texts.WHO, grow(scorer, limit * 5 // 4, rng)))
    result.append(scorer.case("long-query-cut", grow(scorer, limit * 9 // 10, rng), texts.FIRST_ANSWER))
    result.append(scorer.case("both-cut", grow(scorer, limit, rng), grow(scorer, limit // 2, rng)))
    if "template" in scorer.spec:
        result += [scorer.case(*pair) for pair in texts.INSTRUCTED]
    if scorer.spec.get("named_tokens"):
        named = ("[MASK]", "[PAD]") if scorer.tokenizer.token_to_id("[PAD]") is not None else ("<mask>", "<pad>")
        result += [scorer.case(name, *(text.format(*named) for text in pair)) for name, *pair in texts.NAMED]
    return result


def long_pairs(scorer):
    """Random sequences, with the special tokens of a pair where the family has them.

    Each draws on 24 ids of its own, as a text keeps to its topic: were all 512 tokens uniform, attention would average
    them to nearly the same state in every pair, and int8 rounding would be compared with hardly any signal.
    """
    rng = np.random.default_rng(512)
    rows = []
    for _ in range(LONG_PAIRS):
        topic = rng.integers(5, scorer.tokenizer.get_vocab_size() - 5, 24)
        ids = [int(i) for i in rng.choice(topic, LONG_TOKENS)]
        second = None
        if scorer.spec["kind"] == "cross-encoder":
            query = int(rng.integers(4, 64))
            ids[0], ids[query], ids[-1] = scorer.cls, scorer.sep, scorer.sep
            if scorer.spec["architecture"].startswith("Bert"):
                second = query + 1
            elif not scorer.spec["architecture"].startswith("DistilBert"):
                ids[query + 1] = scorer.sep
        types = [] if second is None else [0] * second + [1] * (LONG_TOKENS - second)
        rows.append({"second_start": second, "raw": scorer.raw(ids, types), "ids": ids})
    return rows


def int8_linear(layer, x):
    """What an int8 kernel computes: weights per output channel, activations per token, both symmetric."""
    w_scale = layer.weight.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
    x_scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
    product = torch.round(x / x_scale) @ torch.round(layer.weight / w_scale).T
    product = product * x_scale * w_scale.T.squeeze(0)
    return product if layer.bias is None else product + layer.bias


def whole_string_differences(scorer, chosen):
    """How many mxbai pairs would get other ids if the prompt were tokenized in one piece, which it must not be."""
    count = 0
    for case in chosen:
        if "-cut" in case["name"]:
            continue
        instruction = f"instruction: {case['instruction']}\n" if case["instruction"] else ""
        middle = f"{instruction}query: {case['query']}\ndocument: {case['document']}\n"
        whole = scorer.plain(texts.MXBAI_PREFIX + middle + texts.MXBAI_TASK + texts.MXBAI_SUFFIX)
        count += whole != case["ids"]
    return count


def check(scorer, golden):
    """Whether the numbers can catch mistakes: spread, f32 noise, every tensor's weight, int8's own distance."""
    chosen = golden["cases"]
    raw = np.array([case["raw"] for case in chosen])
    result = {"std": float(raw.std()), "min": float(raw.min()), "max": float(raw.max())}

    if scorer.spec["kind"] == "cross-encoder":
        for case in chosen[: len(texts.PAIRS)]:
            assert scorer.tokenizer.encode(case["query"], case["document"]).ids == case["ids"], case["name"]
    if scorer.spec.get("template") == "mxbai-rerank-v2":
        result["cases_where_whole_string_differs"] = whole_string_differences(scorer, chosen)
        assert result["cases_where_whole_string_differs"]
    assert len(scorer.plain("a")) == 1
    few = [chosen[i] for i in (0, 2, 5, 9, 17, 29)]
    before = [case["raw"] for case in few]
    weakest = ("", np.inf)
    for name, parameter in scorer.model.named_parameters():
        saved = parameter.data.clone()
        parameter.data.zero_()
        change = max(abs(scorer.score(case) - b) for case, b in zip(few, before, strict=True))
        parameter.data.copy_(saved)
        # A constant added to every key leaves softmax unchanged; an embedder never runs BERT's pooler.
        idle = name.endswith(("key.bias", "k_lin.bias")) or ("pooling" in scorer.spec and name.startswith("pooler."))
        assert idle or change > 1e-3, f"{name} hardly matters: {change}"
        weakest = weakest if idle else min(weakest, (name, change), key=lambda pair: pair[1])
    result["weakest_tensor"] = {"name": weakest[0], "largest_change_when_zeroed": weakest[1]}

    if golden["long_pairs"]:
        linear = torch.nn.Linear.forward
        rows = golden["long_pairs"]
        exact = ("lm_head", "classifier", "pre_classifier", "bert.pooler")
        heads = [m for n, m in scorer.model.named_modules() if n.startswith(exact)]
        torch.nn.Linear.forward = lambda layer, x: (linear if layer in heads else int8_linear)(layer, x)
        types = [[0] * s + [1] * (LONG_TOKENS - s) if (s := row["second_start"]) else [] for row in rows]
        int8 = np.array([scorer.raw(row["ids"], t) for row, t in zip(rows, types, strict=True)])
        torch.nn.Linear.forward = linear
        long = np.array([row["raw"] for row in rows])
        result["long_pairs_std"] = float(long.std())
        result["long_pairs_int8_pearson"] = float(np.corrcoef(int8, long)[0, 1])

    scorer.model.double()
    result["f32_noise"] = max(abs(scorer.score(case) - case["raw"]) for case in chosen)
    scorer.model.float()
    return result


def write_golden(path, golden):
    """JSON with one case a line: small, and a diff shows which case moved."""
    compact = {"ensure_ascii": False, "separators": (",", ":")}
    lines = []
    for key, value in golden.items():
        if key in ("cases", "chunks", "long_pairs") and value:
            rows = ",\n".join(json.dumps(row, **compact) for row in value)
            lines.append(f'"{key}":[\n{rows}\n]')
        else:
            lines.append(f'"{key}":{json.dumps(value, **compact)}')
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def make(name, spec, out):
    """One folder: checkpoint, then golden.json from the checkpoint as read back."""
    folder = out / name
    tokenizer = spec["tokenizer"]()
    build.write_model(folder, spec, tokenizer, spec["config"](tokenizer))
    scorer = Scorer(folder, spec)
    golden = {
        "versions": {
            "python": platform.python_version(),
            **{m.__name__: str(m.__version__) for m in (torch, transformers, tokenizers, safetensors, np)},
        },
        "kind": spec["kind"],
        "template": spec.get("template"),
        "max_length": spec["max_length"],
        "max_length_covers": {"mxbai-rerank-v2": "pair"}.get(
            spec.get("template"), "text" if "pooling" in spec else "sequence"
        ),
        "checks": None,
        "cases": cases(scorer),
        "long_pairs": [] if "pooling" in spec else long_pairs(scorer),
    }
    golden["checks"] = check(scorer, golden)
    for case in golden["cases"][:2] if "pooling" in spec else []:
        case["embedding"] = scorer.embed(case["document_ids"]).tolist()
    write_golden(folder / "golden.json", golden)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{name}: {len(golden['cases'])} cases, {size:,} bytes, {json.dumps(golden['checks'])}", flush=True)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/golden"), help="folder to write (default: %(default)s)")
    parser.add_argument("--only", choices=MODELS, action="append", help="only this model; may be repeated")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name, spec in MODELS.items():
        if not arguments.only or name in arguments.only:
            make(name, spec, arguments.out)


if __name__ == "__main__":
    main()
