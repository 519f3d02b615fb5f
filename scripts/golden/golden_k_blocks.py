"""Writes a tiny random Qwen3 as GGUF files of mixed blocks, with the logits of the values that they stand for.

--out gets, for each of KINDS, `wide-KIND.gguf`, which llama.cpp's own converter and quantiser make (the first from its
sources, the second through llama-cpp-python), and `wide-KIND.json`: name, ids and tokens of each case, the tokens
chosen greedily in f32 with the values that `gguf` dequantises, and all logits where `at` tokens were chosen before.
Nobody who rounds activations can meet those exactly.

Environment: as golden_generation.py says, with llama-cpp-python in the same or another Python (--peer)
  .venv/bin/python scripts/golden/golden_k_blocks.py --out data/golden/gguf-models --peer .venv/bin/python \\
    --llama-cpp llama_cpp_python-0.3.36/vendor/llama.cpp
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import gguf
import torch
from gguf import GGMLQuantizationType, quants

import golden_chat_models as build
import golden_generation as generation

SEED = 1
# llama.cpp's numbers of its mixtures.
KINDS = {"q4_k_m": 15, "q5_k_m": 17}
QUANTIZE = (
    "import ctypes, sys, llama_cpp as l; p = l.llama_model_quantize_default_params(); p.ftype = int(sys.argv[3]); p.nthread = 1\n"
    "sys.exit(l.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(p)))"
)
NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def dequantized(model, file):
    """Gives the model the values of the file's matrices; returns the kinds that they have."""
    state, kinds = model.state_dict(), set()
    for tensor in gguf.GGUFReader(file).tensors:
        if tensor.tensor_type == GGMLQuantizationType.F32:
            continue
        kinds.add(tensor.tensor_type.name)
        if tensor.name == "token_embd.weight":
            name = "model.embed_tokens.weight"
        else:
            _, layer, part, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{NAMES[part]}.weight"
        values = torch.from_numpy(quants.dequantize(tensor.data, tensor.tensor_type).copy())
        assert (state[name] - values).norm() < 0.1 * values.norm(), tensor.name
        state[name].copy_(values)
    return kinds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--llama-cpp", type=Path, required=True, help="folder of llama.cpp's sources")
    parser.add_argument("--peer", type=Path, required=True, help="a Python with llama-cpp-python")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder, source = Path(scratch) / "wide", Path(scratch) / "wide.gguf"
        build.write_model("wide", folder, SEED)
        generation.convert(arguments.llama_cpp, "wide", folder, "bf16", source)
        for kind, number in KINDS.items():
            out = arguments.out / f"wide-{kind}.gguf"
            command = [arguments.peer, "-c", QUANTIZE, source, out, number]
            subprocess.run(list(map(str, command)), check=True, capture_output=True)
            model = build.load_model(folder)
            kinds = dequantized(model, out)
            cases = []
            for case in generation.prompts(folder):
                tokens = generation.greedy(model, case["ids"])
                logits = generation.rows(model, case["ids"] + tokens)[len(case["ids"]) - 1 : -1]
                values = [{"at": at, "values": [round(float(x), 4) for x in logits[at]]} for at in generation.AT]
                cases.append({"name": case["name"], "ids": case["ids"], "tokens": tokens, "logits": values})
            generation.write_lines(arguments.out / f"wide-{kind}.json", {"kinds": sorted(kinds), "cases": cases})
            print(kind, sorted(kinds), [len(set(case["tokens"])) for case in cases], out.stat().st_size, flush=True)


if __name__ == "__main__":
    main()
