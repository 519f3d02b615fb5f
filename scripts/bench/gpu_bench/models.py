"""The models that a run needs: small golden ones with known scores, large ones of true dimensions and random weights.

Packed for the GPU where the tool knows that layout (`--isa cuda`), else portable, which every runtime takes.
"""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lib import CannotCheck

# By the name that `defrost synth` knows; in a dry run in these dimensions instead, for a second on one core.
LARGE = {
    "mxbai-rerank-base-v2": "layers=2,hidden=64,heads=2,kv_heads=1,head_dim=32,intermediate=128,vocab=1000",
    "bge-reranker-v2-m3": "layers=2,hidden=64,heads=2,kv_heads=2,head_dim=32,intermediate=128,vocab=1000",
}
# Per multiply-add.
FLOPS = 2


@dataclass
class Large:
    """A large model: its checkpoint, for peers, and its snapshot."""

    name: str
    checkpoint: Path
    snapshot: Path

    @property
    def config(self):
        """Its dimensions."""
        return json.loads((self.checkpoint / "config.json").read_text(encoding="utf-8"))


def flops(config, tokens):
    """Of one forward pass over one sequence, without the head and what is read only (embeddings, norms).

    Products: query, key and value, output, feed-forward (gated: three matrices), all once per token. Attention: scores
    and sums over all keys, half of them where it is causal. This is the work that a pass has without anything shared or
    left out, so a runtime that leaves out work can show more than the card's rate.
    """
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    groups, size = config.get("num_key_value_heads") or heads, config.get("head_dim") or hidden // heads
    causal = config["model_type"].startswith("qwen")
    projections = hidden * (heads + 2 * groups) * size + heads * size * hidden
    forward = hidden * config["intermediate_size"] * (3 if causal else 2)
    attention = 2 * heads * size * tokens * (0.5 if causal else 1)
    return FLOPS * config["num_hidden_layers"] * tokens * (projections + forward + attention)


class Maker:
    """Runs `defrost` in a folder."""

    def __init__(self, tool, folder, precision, for_gpu, dry):
        self.tool, self.folder, self.precision, self.dry = tool, folder, precision, dry
        said = self.run("pack", "--help")
        self.known = set(re.findall(r"^ +- (\w+):", said, re.MULTILINE))
        if precision not in self.known:
            raise CannotCheck(f"{tool} pack --precision {precision}: expected a precision that it knows; --precision names another")
        self.isa = "cuda" if for_gpu else "portable"

    def run(self, *arguments):
        """Output of the tool, which must succeed."""
        done = subprocess.run([self.tool, *map(str, arguments)], cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotCheck(f"{Path(self.tool).name} {' '.join(map(str, arguments))}: {done.stderr.strip()[-800:]}")
        return done.stdout

    def pack(self, checkpoint, name, isa=None, precision=None):
        """A snapshot of a checkpoint; kept where it is there already."""
        isa, precision = isa or self.isa, precision or self.precision
        out = self.folder / f"{name}-{precision}-{isa}.snap"
        if not out.is_file():
            try:
                self.run("pack", checkpoint, "--name", name, "--precision", precision, "--isa", isa, "--out", out)
            except CannotCheck:
                if isa != "cuda":
                    raise
                # A tool that knows no layout for GPUs; its runtimes take the portable one.
                self.isa = "portable"
                return self.pack(checkpoint, name, precision=precision)
        return out

    def own_precision(self, checkpoint):
        """That of a golden checkpoint, of which packing then rounds nothing, if the tool has it."""
        with (checkpoint / "model.safetensors").open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        kinds = {one["dtype"].lower() for name, one in header.items() if name != "__metadata__"}
        return next((kind for kind in ("f16", "bf16") if kind in kinds & self.known), self.precision)

    def large(self, name, tokenizer=None):
        """A large model, synthesised and packed."""
        checkpoint = self.folder / name
        if not (checkpoint / "config.json").is_file():
            more = ["--dims", LARGE[name]] if self.dry else []
            more += ["--tokenizer", tokenizer] if tokenizer else []
            self.run("synth", name, "--out", checkpoint, *more)
        return Large(name, checkpoint, self.pack(checkpoint, name))

    def scores(self, snapshot, case):
        """What the tool's own CPU runtime computes for a case, on all cores."""
        path = self.folder / "case.json"
        path.write_text(json.dumps([case]), encoding="utf-8")
        said = json.loads(self.run("rerank", "--model", snapshot, "--cases-file", path, "--json", "--num-threads", os.cpu_count() or 1))
        (answer,) = said if isinstance(said, list) else [said]
        found = {one["index"]: float(one.get("relevance_score", one.get("score"))) for one in answer["results"]}
        return [found[place] for place in sorted(found)]
