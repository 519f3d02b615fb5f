"""Writes data/cases/sentence_transformers.json: what sentence-transformers makes of variants of checkpoints in data.

A variant is a folder of data with some files replaced; the tests make the same folder, pack it and compare. They are:

  pooling      each of the six poolings, in both spellings, of an encoder, a causal decoder and one without its mask
  attention    Qwen2 and Qwen3 without the causal mask, by `is_causal`
  dense        one module Dense after the pooling with each activation, without bias, and two of them
  tokens       lower case from each file that can ask for it, and lengths

The reference is sentence-transformers 6 with transformers 5 in f32 on CPU, one text at a time, so without padding. The
second dense layer's weights are random from a seed and written to data/cases/second-dense.

  /tmp/venv/bin/python scripts/golden/golden_cases.py --out data/cases

Needs torch, safetensors and sentence-transformers 6.
"""

import argparse
import copy
import json
import shutil
import tempfile
from pathlib import Path

import sentence_transformers
import torch
import transformers
from safetensors.torch import save_file

DATA = Path(__file__).resolve().parents[2] / "data"
TEXTS = ["The red fox sleeps.", "A QUICK Test", "Café ÉCOLE, naïve İstanbul and the rest of a somewhat longer text."]
POOLINGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
ACTIVATIONS = {
    "Identity": "linear.Identity",
    "Tanh": "activation.Tanh",
    "ReLU": "activation.ReLU",
    "GELU": "activation.GELU",
    "SiLU": "activation.SiLU",
    "Sigmoid": "activation.Sigmoid",
}
BERT, QWEN2, QWEN3, G1 = "cases/F5-gamma-beta", "golden/qwen2-mxbai", "cases/F2-is-causal-false", "cases/G1-dense-module"
NORMALIZE = ("2_Normalize", "Normalize")


def modules(*named):
    """modules.json of a transformer and these (folder, class)."""
    steps = [("", "Transformer"), *named]
    return [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(steps)
    ]


def config(base, **changes):
    """config.json of a folder with other values."""
    found = json.loads((DATA / base / "config.json").read_text())
    return {**found, **changes}


def pooled(*more, mode="mean", old=True):
    """Files of a pooling, in the old spelling or the new one."""
    flags = {key: name == mode for name, key in POOLINGS.items()}
    pooling = {"word_embedding_dimension": 32, **flags} if old else {"embedding_dimension": 32, "pooling_mode": mode}
    return {"modules.json": modules(("1_Pooling", "Pooling"), *more), "1_Pooling/config.json": pooling}


def dense(name, outputs, inputs, bias=True):
    """A module Dense's configuration."""
    function = f"torch.nn.modules.{ACTIVATIONS[name]}"
    return {"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": function}


def variants():
    """Name, folder and replaced files of each."""
    for mode in POOLINGS:
        for old in (True, False):
            spelling = "old" if old else "new"
            yield f"pooling {mode} {spelling}, bert", BERT, pooled(NORMALIZE, mode=mode, old=old)
        plain = pooled(mode=mode, old=False)
        hidden = {"1_Pooling/config.json": {"embedding_dimension": 64, "pooling_mode": mode}}
        for causal in (True, False):
            mask = "causal" if causal else "bidirectional"
            yield f"pooling {mode}, qwen3 {mask}", QWEN3, {**plain, "config.json": config(QWEN3, is_causal=causal)}
            qwen2 = {"config.json": config(QWEN2, is_causal=causal), "modules.json": plain["modules.json"], **hidden}
            yield f"pooling {mode}, qwen2 {mask}", QWEN2, qwen2
    step = ("2_Dense", "Dense")
    for name in ACTIVATIONS:
        files = {**pooled(step, ("3_Normalize", "Normalize")), "2_Dense/config.json": dense(name, 16, 32)}
        yield f"dense {name}", G1, files
    two = {"2_Dense/config.json": dense("Tanh", 16, 32), "3_Dense/config.json": dense("Identity", 40, 16, bias=False)}
    yield "dense twice, not normalised", G1, {**pooled(step, ("3_Dense", "Dense")), **two}
    yield "dense once, the later of one name", G1, {}
    for lower in (True, False):
        for given in ({"do_lower_case": lower}, {"do_lower_case": lower, "strip_accents": not lower}):
            names = " ".join(f"{key} {value}" for key, value in given.items())
            files = {**pooled(NORMALIZE), "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", **given}}
            yield f"tokenizer_config {names}", BERT, files
    yield "tokenizer_config tokenize_chinese_chars False", BERT, {
        **pooled(NORMALIZE), "tokenizer_config.json": {"tokenize_chinese_chars": False},
    }
    plain_class = {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}
    yield "sentence_bert_config do_lower_case", "cases/F3-do-lower-case", {}
    yield "a class that takes tokenizer.json as it is", "cases/F3-do-lower-case", {
        "tokenizer_config.json": plain_class, "sentence_bert_config.json": {"max_seq_length": 256},
    }
    yield "model_max_length", BERT, {
        "tokenizer_config.json": {"model_max_length": 9}, "sentence_bert_config.json": {"do_lower_case": False},
    }
    yield "model_max_length, over max_seq_length", BERT, {
        "tokenizer_config.json": {"model_max_length": 9}, "sentence_bert_config.json": {"max_seq_length": 7},
    }
    yield "model_max_length 1e30", BERT, {
        "tokenizer_config.json": {"model_max_length": 10**30}, "sentence_bert_config.json": {},
    }


def make(folder, base, files):
    """The variant's folder."""
    shutil.copytree(DATA / base, folder, dirs_exist_ok=True)
    for name in ("expected.json", "golden.json"):
        (folder / name).unlink(missing_ok=True)
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    if "3_Dense/config.json" in files:
        shutil.copy(DATA / "cases/second-dense/model.safetensors", folder / "3_Dense")


def vectors(folder):
    """What sentence-transformers gives."""
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    if model.tokenizer.pad_token is None:
        # It is asked for even where nothing is padded.
        model.tokenizer.pad_token = model.tokenizer.convert_ids_to_tokens(0)
    return [[round(float(value), 6) for value in model.encode(text)] for text in TEXTS]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DATA / "cases")
    out = parser.parse_args().out
    second = out / "second-dense"
    second.mkdir(parents=True, exist_ok=True)
    weight = torch.randn(40, 16, generator=torch.Generator().manual_seed(15)) * 0.3
    save_file({"linear.weight": weight}, second / "model.safetensors")
    found = []
    for name, base, files in variants():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), base, copy.deepcopy(files))
            found.append({"name": name, "base": base, "files": files, "vectors": vectors(Path(folder))})
    versions = {"sentence_transformers": sentence_transformers.__version__, "transformers": transformers.__version__}
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in found)
    texts = json.dumps(TEXTS, ensure_ascii=False)
    text = f'{{"versions": {json.dumps(versions)},\n"texts": {texts},\n"cases": [\n{lines}\n]}}\n'
    (out / "sentence_transformers.json").write_text(text)


if __name__ == "__main__":
    main()
