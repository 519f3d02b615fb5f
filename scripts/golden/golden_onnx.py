"""Writes data/onnx: tiny ONNX models with the scores that `transformers` computes, for the tests of the ort backend.

  classifier   a BERT cross-encoder, as checkpoint and as model.onnx (f32) and model_int8.onnx (dynamically quantised)
  embedding    a BERT embedder with mean pooling, as checkpoint and as model.onnx

The checkpoints and golden.json are made as those of golden.py (its head explains the fields), but smaller and without
`checks` and `long_pairs`: that the scores depend on every weight is what data/golden is for. The ONNX files come from
export_onnx.py and quantize_onnx.py, and it fails if ONNX Runtime's scores are not those of `transformers`.

  python scripts/golden/golden_onnx.py --out data/onnx

Needs torch, transformers, tokenizers, safetensors, onnx, onnxruntime and optimum-onnx.
"""

import argparse
import platform
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import tokenizers
import torch
import transformers

import export_onnx
import golden
import golden_models as build
import quantize_onnx

DIMS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
LIMIT = 160
TOLERANCE = 2e-5
MODELS = {
    "classifier": {
        "kind": "cross-encoder", "loader": "classifier", "architecture": "BertForSequenceClassification",
        "dtype": torch.float16, "seed": 11, "max_length": LIMIT, "head_std": 0.5,
        "tokenizer": lambda: build.wordpiece(480),
        "config": lambda t: build.bert(t, **DIMS, max_position_embeddings=LIMIT, num_labels=1),
    },
    "embedding": {
        "kind": "embedding-similarity", "loader": "encoder", "architecture": "BertModel", "pooling": "mean_tokens",
        "dtype": torch.float16, "seed": 12, "max_length": LIMIT, "word_std": 0.8, "sentence_bert_config": True,
        "tokenizer": lambda: build.wordpiece(480),
        "config": lambda t: build.bert(t, **DIMS, max_position_embeddings=LIMIT),
    },
}  # fmt: skip


def onnx_score(session, case):
    """The raw score of a case by ONNX Runtime, one sequence at a time."""
    def run(ids, types):
        given = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types or [0] * len(ids)}
        return session.run(None, {name: np.array([values], dtype=np.int64) for name, values in given.items()})[0][0]

    if "ids" in case:
        return float(run(case["ids"], case["type_ids"])[0])
    pooled = [run(case[name], []).mean(0) for name in ("query_ids", "document_ids")]
    return float(np.dot(*(state / np.linalg.norm(state) for state in pooled)))


def make(name, spec, out):
    """One folder, complete or an error."""
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = spec["tokenizer"]()
    build.write_model(folder, spec, tokenizer, spec["config"](tokenizer))
    scorer = golden.Scorer(folder, spec)
    cases = golden.cases(scorer)
    for case in cases[:2] if "pooling" in spec else []:
        case["embedding"] = scorer.embed(case["document_ids"]).tolist()
    with tempfile.TemporaryDirectory() as work:
        export_onnx.export(str(folder), Path(work) / "onnx", 17)
        shutil.copyfile(Path(work) / "onnx/model.onnx", folder / "model.onnx")
    if name == "classifier":
        # Seven bits: on processors without VNNI, ONNX Runtime's products of whole-range weights overflow 16 bits.
        quantize_onnx.run(SimpleNamespace(
            model_path=folder / "model.onnx", out_path=folder / "model_int8.onnx", per_channel=True, reduce_range=True,
            op_types="MatMul,Gather", weight_type="int8", fuse=False,
        ))  # fmt: skip
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    worst = max(abs(onnx_score(session, case) - case["raw"]) for case in cases)
    assert worst < TOLERANCE, f"{name}: ONNX Runtime is {worst} from transformers"
    golden.write_golden(folder / "golden.json", {
        "versions": {
            "python": platform.python_version(),
            **{m.__name__: str(m.__version__) for m in (torch, transformers, tokenizers, onnxruntime)},
        },
        "kind": spec["kind"], "template": None, "max_length": LIMIT,
        "max_length_covers": "text" if "pooling" in spec else "sequence", "checks": None, "cases": cases, "long_pairs": [],
    })  # fmt: skip
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{name}: {len(cases)} cases, {size:,} bytes, ONNX Runtime within {worst:.1e}", flush=True)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/onnx"), help="folder to write (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for name, spec in MODELS.items():
        make(name, spec, arguments.out)


if __name__ == "__main__":
    main()
