"""Exports a Hugging Face checkpoint to ONNX in f32, for ONNX Runtime and for `defrost pack`.

Three kinds of model, told apart by config.json and modules.json as `defrost pack` tells them apart:

  cross-encoder  BertForSequenceClassification, XLMRobertaForSequenceClassification: output `logits` [batch, 1]
  embedder       BertModel, XLMRobertaModel, Qwen3 with modules.json: `last_hidden_state` [batch, sequence, hidden]
  decoder        Qwen2ForCausalLM, Qwen3ForCausalLM: output `logits` [batch, 1], the yes/no reranker described below

The first two go through optimum. The decoder is a model of our own around the transformer, since no exporter trims it:
hidden state of the last position alone (the last one with mask 1, whichever side the padding is on), times the two rows
of the vocabulary that answer yes and no, and their difference. Positions and the causal mask are computed in the graph
from `attention_mask`, so that it takes `input_ids` and `attention_mask` only.

The folder it writes holds model.onnx (weights beyond 2 GB in model.onnx_data), tokenizer.json, config.json and, for
embedders, the files of sentence-transformers.

  python scripts/golden/export_onnx.py --model-id models/all-MiniLM-L6-v2 --out-dir models/minilm-onnx

Needs torch, transformers, onnx and optimum-onnx.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

# Files beside the weights that decide how texts become tokens, and hidden states an embedding.
BESIDE = ["tokenizer.json", "config.json", "tokenizer_config.json", "special_tokens_map.json", "modules.json",
          "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json"]  # fmt: skip
# The answer words by family: of mxbai-rerank-v2 and of Qwen3-Reranker.
NO_YES = {"qwen2": ("0", "1"), "qwen3": ("no", "yes")}
# The names that optimum has for the kinds that it exports.
TASKS = {"cross-encoder": "text-classification", "embedder": "feature-extraction"}


class Refused(Exception):
    """Something in the checkpoint or the arguments that cannot be exported; the message says what to do."""


def say(text):
    """Progress goes to stderr."""
    print(f"export_onnx: {text}", file=sys.stderr, flush=True)


def checkpoint_folder(model_id):
    """The local folder, or the hub's files in its cache."""
    folder = Path(model_id)
    if folder.is_dir():
        return folder
    if model_id.startswith((".", "/")) or model_id.count("/") != 1:
        raise Refused(f"{model_id} is neither a folder nor a hub id of the form org/name")
    from huggingface_hub import snapshot_download

    say(f"fetching {model_id} from the hub")
    try:
        return Path(snapshot_download(model_id, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:
        raise Refused(f"cannot fetch {model_id} from the hub ({error}); give the folder of a local copy") from error


def kind_of(folder):
    """The model's kind and its family."""
    path = folder / "config.json"
    if not path.is_file():
        raise Refused(f"{folder} has no config.json, expected a Hugging Face checkpoint")
    config = json.loads(path.read_text(encoding="utf-8"))
    family = config.get("model_type", "")
    names = config.get("architectures") or []
    if (folder / "modules.json").is_file():
        return "embedder", family
    if any(name.endswith("ForSequenceClassification") for name in names):
        return "cross-encoder", family
    if any(name.endswith("ForCausalLM") for name in names):
        if family not in NO_YES:
            raise Refused(f"a decoder of model_type {family!r}, expected one of {', '.join(NO_YES)}")
        return "decoder", family
    return "embedder", family


def export_with_optimum(folder, kind, out, opset):
    """Encoders, by optimum's own configurations."""
    from optimum.exporters.onnx import main_export

    main_export(str(folder), output=out, task=TASKS[kind], library_name="transformers", dtype="fp32", opset=opset,
                do_validation=False, local_files_only=True)  # fmt: skip


def decoder_module(folder, family):
    """The reranker around a causal transformer, as a torch module."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = []
    for word in NO_YES[family]:
        tokens = tokenizer.encode(word, add_special_tokens=False).ids
        if len(tokens) != 1:
            raise Refused(f"{word!r} must be one token of tokenizer.json, it is {tokens}")
        ids += tokens
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    class YesNo(torch.nn.Module):
        """input_ids, attention_mask -> logit of yes minus logit of no."""

        def __init__(self):
            super().__init__()
            self.transformer = model.model
            self.head = torch.nn.Parameter(model.lm_head.weight[ids].detach().clone())

        def forward(self, input_ids, attention_mask):
            """Computes as the models' own packages do, on one last position instead of all."""
            positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
            length = input_ids.shape[1]
            steps = torch.arange(length)
            seen = (steps[None, :] <= steps[:, None])[None, None] & (attention_mask[:, None, None, :] > 0)
            # The mask is not minus infinity: a row of padding on the left sees nothing, and softmax would give NaN.
            mask = torch.where(seen, 0.0, torch.finfo(torch.float32).min)
            # Ready-made masks go in under the kind of layer that wants them.
            hidden = self.transformer(input_ids=input_ids, attention_mask={"full_attention": mask},
                                      position_ids=positions, use_cache=False).last_hidden_state  # fmt: skip
            last = (attention_mask * steps[None, :]).argmax(-1)
            chosen = hidden[torch.arange(input_ids.shape[0]), last]
            answers = chosen @ self.head.T
            return (answers[:, 1] - answers[:, 0])[:, None]

    return YesNo().eval()


def export_decoder(folder, family, out, opset):
    """A yes/no reranker through torch.onnx.export."""
    import onnx
    import torch

    module = decoder_module(folder, family)
    example = (torch.ones(2, 7, dtype=torch.long), torch.ones(2, 7, dtype=torch.long))
    parts = out / ".parts"
    parts.mkdir()
    axes = {0: "batch_size", 1: "sequence_length"}
    with torch.inference_mode():
        torch.onnx.export(
            module, example, str(parts / "model.onnx"), opset_version=opset, dynamo=False, do_constant_folding=True,
            input_names=["input_ids", "attention_mask"], output_names=["logits"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch_size"}},
        )  # fmt: skip
    del module
    # The exporter spreads large weights over hundreds of files.
    model = onnx.load(parts / "model.onnx")
    onnx.save_model(model, out / "model.onnx", save_as_external_data=model.ByteSize() < 0 or model.ByteSize() >= 2**31,
                    all_tensors_to_one_file=True, location="model.onnx_data")  # fmt: skip
    shutil.rmtree(parts)


def copy_beside(folder, out):
    """The tokenizer and what describes the model, from the checkpoint and as they are there."""
    for name in BESIDE:
        if (folder / name).is_file():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, out / name)
    if not (out / "tokenizer.json").is_file():
        raise Refused(f"{folder} has no tokenizer.json (the fast tokenizer's file)")


def export(model_id, out, opset):
    """The whole job; the folder appears complete or not at all."""
    folder = checkpoint_folder(model_id)
    kind, family = kind_of(folder)
    if out.exists() and any(out.iterdir()):
        raise Refused(f"{out} exists and is not empty; remove it or give another --out-dir")
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    say(f"{folder}: {kind}, {family}, opset {opset}")
    begun = time.monotonic()
    try:
        if kind == "decoder":
            export_decoder(folder, family, unfinished, opset)
        else:
            export_with_optimum(folder, kind, unfinished, opset)
        copy_beside(folder, unfinished)
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    size = sum(file.stat().st_size for file in out.glob("model.onnx*"))
    say(f"{out}: {size:,} bytes of ONNX in {time.monotonic() - begun:.1f} s")


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-id", required=True, help="folder of a checkpoint, or a hub id such as BAAI/bge-m3")
    parser.add_argument("--out-dir", required=True, type=Path, help="folder to make")
    parser.add_argument("--opset", type=int, default=17, help="ONNX opset (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        export(arguments.model_id, arguments.out_dir, arguments.opset)
    except Refused as error:
        sys.exit(f"export_onnx: {error}")


if __name__ == "__main__":
    main()
