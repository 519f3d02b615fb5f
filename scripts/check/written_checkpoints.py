"""Saves tiny models as the installed sentence-transformers saves them, for check_checkpoints.

  written_checkpoints.py --out FOLDER

Each folder is a checkpoint of that version with expected.json beside it: `texts` and `vectors`, or `query`, `documents`
and `scores` (logits), all computed by that version in f32 on CPU, one text at a time; or `packs`, where only packing is
asked for. Prints the versions.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import sentence_transformers
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer, models

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "golden"
TEXTS = ["The red fox sleeps.", "A QUICK Test", "Café ÉCOLE and the rest of a somewhat longer text."]
QUERY, DOCUMENTS = "who wrote it?", ["Harper Lee wrote it in 1960.", "Snow melts."]
OLD_MODES = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "weightedmean": "weightedmean_tokens"}
FLOAT = {"model_args": {"torch_dtype": torch.float32}}
IS_NEW = int(sentence_transformers.__version__.split(".")[0]) > 5 or sentence_transformers.__version__.startswith(("5.4", "5.5", "5.6", "5.7"))


def source(name, scratch):
    """A golden checkpoint without the files of sentence-transformers, which this version is to write."""
    folder = scratch / name
    folder.mkdir()
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        shutil.copy(GOLDEN / name / file, folder)
    if transformers.__version__.startswith("4."):
        # That version does not read rope_parameters, and keeps them beside its own default.
        config = json.loads((folder / "config.json").read_text())
        config.update(config.pop("rope_parameters", {}))
        config.pop("rope_type", None)
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def transformer(folder, length):
    """The module, in f32."""
    if IS_NEW:
        return models.Transformer(str(folder), processor_kwargs={"model_max_length": length}, model_kwargs={"dtype": torch.float32})
    return models.Transformer(str(folder), max_seq_length=length, model_args={"torch_dtype": torch.float32})


def write(model, out, expected):
    """Saves a model with what it gives."""
    (model.save_pretrained if hasattr(model, "save_pretrained") else model.save)(str(out))
    (out / "expected.json").write_text(json.dumps(expected))


def embedder(steps, out):
    """Saves an embedder of these modules."""
    model = SentenceTransformer(modules=steps, device="cpu").eval()
    model[0].tokenizer.pad_token = model[0].tokenizer.pad_token or model[0].tokenizer.convert_ids_to_tokens(0)
    vectors = [[float(value) for value in model.encode(text)] for text in TEXTS]
    write(model, out, {"texts": TEXTS, "vectors": vectors})


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True)
    torch.manual_seed(15)
    with tempfile.TemporaryDirectory() as scratch:
        bert, qwen = source("bert-embedding", Path(scratch)), source("qwen3-embedding", Path(scratch))
        for mode, old in OLD_MODES.items():
            pooling = models.Pooling(32, pooling_mode=mode) if IS_NEW else models.Pooling(32, pooling_mode=mode.replace("_tokens", ""))
            embedder([transformer(bert, 24), pooling, models.Normalize()], out / f"bert-{mode}")
        pooling = models.Pooling(32, pooling_mode="lasttoken")
        embedder([transformer(qwen, 64), pooling, models.Normalize()], out / "qwen3-lasttoken")
        pooling = models.Pooling(32, pooling_mode="mean")
        dense = [models.Dense(32, 48), models.Dense(48, 16, bias=False, activation_function=torch.nn.Identity())]
        embedder([transformer(bert, 24), pooling, *dense, models.Normalize()], out / "bert-dense")
        embedder([transformer(bert, 24), models.Pooling(32), models.Dropout(0.3)], out / "bert-dropout")
        kind = {"model_kwargs": {"dtype": torch.float32}} if IS_NEW else {"device": "cpu"}
        for name in ("bert-classifier", "xlm-roberta-classifier"):
            model = CrossEncoder(str(source(name, Path(scratch))), num_labels=1, **kind)
            model.model.float()
            identity = {"activation_fn" if sentence_transformers.__version__[0] > "3" else "activation_fct": torch.nn.Identity()}
            scores = [float(model.predict([(QUERY, text)], **identity)[0]) for text in DOCUMENTS]
            write(model, out / name, {"query": QUERY, "documents": DOCUMENTS, "scores": scores})
        if IS_NEW:
            write(CrossEncoder(str(source("qwen3-reranker", Path(scratch)))), out / "qwen3-reranker", {"packs": True})
    print(f"sentence-transformers {sentence_transformers.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
