"""Writes golden outputs of language models: tiny random checkpoints and what `transformers` continues prompts with.

--out gets `generate-NAME/` for each model of golden_chat_models.py: a checkpoint in the files of the hub, matrices in
bf16, with golden.json:

  versions       packages that computed it; `seed`: of the weights
  texts          text, and its ids by the checkpoint's tokenizer, with and without special tokens
  cases          name, prompt (or messages, and the prompt that the template makes of them), ids, and in f32 on the
                 CPU, eager attention, one sequence at a time: `tokens`, 200 chosen greedily (the greatest logit, ends
                 of turns among them), and `logits`: all of them where `at` tokens were chosen before
  checks         smallest_gap between the two greatest logits over all steps; noise, the greatest difference of f32
                 from f64; what the tokens would have been otherwise: see wrong()

and `gguf-models/`: the same models as llama.cpp's own converter writes them, NAME-bf16.gguf (the same values) and
NAME-q8_0.gguf with NAME-q8_0.json: for each case the logits, at the same places and after the same tokens, of the
values that `gguf` dequantises. Nobody who rounds activations can meet those exactly.

The converter comes from the source distribution of llama-cpp-python, folder `vendor/llama.cpp`. It knows the splits of
a vocabulary by a hash that ours do not have; everything else is its own doing.

Environment (CPU wheels suffice):
  python3 -m venv .venv
  .venv/bin/pip install torch transformers tokenizers safetensors numpy sentencepiece protobuf gguf
  pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 && tar xf llama_cpp_python-0.3.36.tar.gz
  .venv/bin/python scripts/golden/golden_generation.py --out data/golden \\
      --llama-cpp llama_cpp_python-0.3.36/vendor/llama.cpp
"""

import argparse
import copy
import json
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, quants
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import golden_chat_models as build
import golden_texts as texts

TOKENS = 200
AT = (0, 1, 40, 199)
# Seeds of the weights: the first at which find_seed() is content.
SEEDS = {"llama": 2, "smollm": 2, "qwen2": 1, "qwen3": 5, "gemma3": 5, "tinyllama": 5}
# The gap between the two greatest logits must exceed the noise of f32 so many times: others sum in another order.
GAP_OVER_NOISE = 20
SMALLEST_GAP = 4e-4
DIFFERENT_TOKENS = 40
PROMPTS = {
    "short": "The capital of",
    "long": " ".join(texts.SENTENCES[at] for at in (3, 8, 21, 12, 17, 25, 5, 18, 24, 2)),
    "code": texts.SENTENCES[22] + "\n\n\tresult = 3520031  # über\n",
}
MESSAGES = [
    {"role": "system", "content": "You answer in one line."},
    {"role": "user", "content": "Who wrote 'Moby-Dick'?\n"},
    {"role": "assistant", "content": "Herman Melville."},
    {"role": "user", "content": "And when?"},
]
TEXTS = [
    "", " ", "a", "Hello, world!", "  two blanks before, two after  ", "1234567890 3.14 ½", "it's WE'LL don't",
    "line\nline\r\n\n\n\ttab \n end", "café nai\u0308ve ﬁne Ｗｉｄｅ", "谁写了这本小说？ من كتب هذه الرواية؟", "😀👍🏽👩\u200d👩\u200d👧",
    "fn main() { println!(\"{x:?}\"); }", "zero\u200bwidth no\u00a0break soft\u00adhyphen \ufeff", "<think>\nso\n</think>\n\nyes",
    "<|im_start|>user\n<|im_end|> <s> </s><bos><start_of_turn><|eot_id|>", "▁under_score ▁▁", "\u0000\u0007 control",
]  # fmt: skip


def rows(model, ids):
    """Logits of every position."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def greedy(model, ids):
    """Greedily chosen tokens, with the keys and values of what was before kept."""
    chosen, cache, feed = [], None, ids
    with torch.inference_mode():
        while len(chosen) < TOKENS:
            answer = model(input_ids=torch.tensor([feed]), cache=cache, use_cache=True)
            cache, feed = answer.cache, [int(answer.logits[0, -1].argmax())]
            chosen += feed
    return chosen


def prompts(folder):
    """Name, prompt or messages, and ids of every case."""
    own, whole = Tokenizer.from_file(str(folder / "tokenizer.json")), AutoTokenizer.from_pretrained(folder)
    for name, prompt in PROMPTS.items():
        yield {"name": name, "prompt": prompt, "ids": own.encode(prompt).ids}
    prompt = whole.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    ids = own.encode(prompt, add_special_tokens=False).ids
    yield {"name": "chat", "messages": MESSAGES, "prompt": prompt, "ids": ids}


def continued(model, exact, case):
    """Adds tokens and logits to a case; returns the smallest gap and the greatest noise."""
    case["tokens"] = greedy(model, case["ids"])
    ids = case["ids"] + case["tokens"]
    logits = rows(model, ids)[len(case["ids"]) - 1 : -1]
    assert logits.argmax(1).tolist() == case["tokens"], "one pass and step by step differ"
    greatest = logits.topk(2, dim=1).values
    noise = (logits.double() - rows(exact, ids)[len(case["ids"]) - 1 : -1]).abs().max().item()
    case["logits"] = [{"at": at, "values": [round(float(x), 5) for x in logits[at]]} for at in AT]
    return (greatest[:, 0] - greatest[:, 1]).min().item(), noise


def wrong(model, cases):
    """How many of all tokens follow from their predecessors also in models with one mistake, each as a fraction.

    One where any mistake leaves nearly all of them as they are could not tell a wrong implementation from a right one.
    """

    def kept(changed):
        same = [
            int(row.argmax()) == token
            for case in cases
            for row, token in zip(rows(changed, case["ids"] + case["tokens"])[len(case["ids"]) - 1 :], case["tokens"])
        ]
        return round(sum(same) / len(same), 3)

    found = {}
    config = model.config

    def variant(name, change):
        changed = copy.deepcopy(config)
        change(changed)
        other = type(model)(changed)
        other.load_state_dict(model.state_dict())
        found[name] = kept(other.float().eval().requires_grad_(False))

    plain = {"rope_type": "default", "rope_theta": 10001.0}
    if config.model_type == "gemma3_text":
        both = config.rope_parameters
        full = {"rope_type": "default", "rope_theta": 1e6}
        variant("no scaling of positions", lambda c: setattr(c, "rope_parameters", both | {"full_attention": full}))
        variant("one base for all layers", lambda c: setattr(c, "rope_parameters", both | {"sliding_attention": full}))
        variant("a window one token wider", lambda c: setattr(c, "sliding_window", config.sliding_window + 1))
        variant("all layers local", lambda c: setattr(c, "layer_types", ["sliding_attention"] * 7))
        variant("another activation", lambda c: setattr(c, "hidden_activation", "silu"))
    elif config.rope_parameters["rope_type"] == "llama3":
        base = {"rope_type": "default", "rope_theta": config.rope_parameters["rope_theta"]}
        variant("no scaling of positions", lambda c: setattr(c, "rope_parameters", base))
    else:
        variant("another base", lambda c: setattr(c, "rope_parameters", plain | {"rope_theta": config.rope_parameters["rope_theta"] * 2}))
    state = model.state_dict()
    for name in sorted(state):
        tensor, saved = state[name], state[name].clone()
        # A vector is replaced by its mean, a matrix loses four columns: either is a small mistake.
        if tensor.dim() == 1:
            tensor.fill_(saved.mean())
        else:
            tensor[:, :4] = 0
        if tensor.data_ptr() not in {state[other].data_ptr() for other in state if other < name}:
            found[f"{name} damaged"] = kept(model)
        tensor.copy_(saved)
    return found


def attempt(name, folder, seed):
    """Builds the model of a seed; its cases, or None where they could not be told from noise, or say too little."""
    build.write_model(name, folder, seed)
    model, exact = build.load_model(folder), build.load_model(folder, torch.float64)
    cases, gaps, noises = list(prompts(folder)), [], []
    for case in cases:
        gap, noise = continued(model, exact, case)
        gaps.append(gap)
        noises.append(noise)
        if gap < max(SMALLEST_GAP, GAP_OVER_NOISE * noise) or len(set(case["tokens"])) < DIFFERENT_TOKENS:
            return None
    return model, cases, {"smallest_gap": min(gaps), "noise": max(noises)}


def find_seed(name, folder):
    """The first seed that will do."""
    return next(seed for seed in range(1, 400) if attempt(name, folder, seed))


def tokenized(folder):
    """TEXTS and their ids."""
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [
        {"text": text, "plain": own.encode(text, add_special_tokens=False).ids, "special": own.encode(text).ids}
        for text in TEXTS
    ]


def convert(llama_cpp, name, folder, kind, out):
    """Runs llama.cpp's converter, with its own `gguf` and the name of the splits that it cannot know."""
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); pre = sys.argv.pop(1)\n"
        "import convert_hf_to_gguf as converter; from conversion.base import TextModel\n"
        "TextModel.get_vocab_base_pre = lambda self, tokenizer: pre\n"
        "converter.main()"
    )
    words = [llama_cpp.resolve(), build.MODELS[name].get("pre", ""), folder, "--outtype", kind, "--outfile", out]
    command = [sys.executable, "-c", program, *map(str, words), "--model-name", f"tiny {name}"]
    subprocess.run(command, check=True, capture_output=True, text=True)


def rounded(model, file):
    """Gives the model the values of a file in q8_0; every matrix of it must be one of the model's, rounded."""
    there = {tuple(map(int, tensor.shape[::-1])): 0 for tensor in gguf.GGUFReader(file).tensors}
    kinds = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(file).tensors}
    matrices = [name for name, kind in kinds.items() if kind == GGMLQuantizationType.Q8_0]
    assert there and all(kinds[name] == GGMLQuantizationType.F32 for name in set(kinds) - set(matrices)), kinds
    count = 0
    for _, parameter in model.named_parameters():
        if parameter.dim() == 2:
            values = quants.quantize(parameter.detach().numpy(), GGMLQuantizationType.Q8_0)
            parameter.data = torch.from_numpy(quants.dequantize(values, GGMLQuantizationType.Q8_0))
            count += 1
    assert count == len(matrices), (count, len(matrices))
    table = next(tensor for tensor in gguf.GGUFReader(file).tensors if tensor.name == "token_embd.weight")
    ours = model.get_input_embeddings().weight.detach().numpy()[: table.data.shape[0]]
    assert np.array_equal(quants.dequantize(table.data, table.tensor_type), ours)


def write_rounded(model, name, cases, out):
    """The logits of the model in q8_0."""
    rounded(model, out / f"{name}-q8_0.gguf")
    found = []
    for case in cases:
        logits = rows(model, case["ids"] + case["tokens"])[len(case["ids"]) - 1 : -1]
        values = [{"at": at, "values": [round(float(x), 4) for x in logits[at]]} for at in AT]
        found.append({"name": case["name"], "logits": values})
    write_lines(out / f"{name}-q8_0.json", {"cases": found})


def write_lines(path, value):
    """JSON with lists of numbers on one line, since indented they would be most of the repository's lines."""
    marks = {}

    def flat(item):
        if isinstance(item, list) and item and all(isinstance(x, (int, float)) for x in item):
            marks[f'"@{len(marks)}@"'] = json.dumps(item, separators=(",", ":"))
            return f"@{len(marks) - 1}@"
        if isinstance(item, dict):
            return {key: flat(x) for key, x in item.items()}
        return [flat(x) for x in item] if isinstance(item, list) else item

    text = json.dumps(flat(value), indent=1, ensure_ascii=False)
    for mark, numbers in marks.items():
        text = text.replace(mark, numbers, 1)
    path.write_text(text + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--llama-cpp", type=Path, help="folder of llama.cpp's sources; without it no GGUF files are written")
    parser.add_argument("--only", choices=SEEDS, action="append", help="these models only")
    parser.add_argument("--find-seeds", action="store_true", help="prints seeds that will do; writes into --out as it tries")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = arguments.out / "gguf-models"
    for name in arguments.only or SEEDS:
        folder = arguments.out / f"generate-{name}"
        if arguments.find_seeds:
            print(name, find_seed(name, folder), flush=True)
            continue
        shutil.rmtree(folder, ignore_errors=True)
        done = attempt(name, folder, SEEDS[name])
        assert done, f"{name}: seed {SEEDS[name]} will not do; look for another with --find-seeds"
        model, cases, checks = done
        checks["kept_in_wrong_models"] = wrong(model, cases)
        assert max(checks["kept_in_wrong_models"].values()) < 0.99, checks
        versions = {package: version(package) for package in ("torch", "transformers", "tokenizers", "numpy")}
        write_lines(folder / "golden.json", {
            "versions": versions | {"python": platform.python_version()}, "seed": SEEDS[name], "checks": checks,
            "texts": tokenized(folder), "cases": cases,
        })  # fmt: skip
        print(name, {key: value for key, value in checks.items() if key != "kept_in_wrong_models"}, flush=True)
        if arguments.llama_cpp:
            files.mkdir(parents=True, exist_ok=True)
            for kind in ("bf16", "q8_0"):
                convert(arguments.llama_cpp, name, folder, kind, files / f"{name}-{kind}.gguf")
            write_rounded(model, name, cases, files)


if __name__ == "__main__":
    main()
