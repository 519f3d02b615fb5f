"""Writes blocks of every kind that GGUF files hold, with what the `gguf` package makes of them.

Each file of --out holds raw little-endian numbers, row after row; shapes and versions stand in golden.json:

  KIND.blocks           ROWS rows of COLUMNS weights in the file form of KIND (q8_0 ... q6_k): random codes and
                        scales. The last rows hold scales at the ends of f16: zeros of both signs, subnormal, the
                        largest, negative
  KIND.values           the same, dequantised by `gguf`: f32
  weights.values        rows to quantise, f32: normal, with outliers, constant, zeros, ties of the greatest weight,
                        tiny
  KIND.quantized        `weights.values` in the file form of KIND by `gguf` (the kinds that it can write)

Only finite scales are here: what a block with an infinite or absent scale is worth no reader agrees on.

Environment: python3 -m venv .venv && .venv/bin/pip install gguf numpy
             .venv/bin/python scripts/golden/golden_blocks.py --out data/golden/gguf-blocks
"""

import argparse
import json
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

ROWS, EDGE_ROWS, COLUMNS = 5, 2, 512
# Bytes of a block at which an f16 begins.
SCALES_AT = {
    "q8_0": [0], "q4_0": [0], "q5_0": [0], "q4_1": [0, 2], "q5_1": [0, 2],
    "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208],
}  # fmt: skip
WRITES = ["q8_0", "q4_0", "q5_0", "q4_1", "q5_1"]
# Smallest and largest of f16 in value, both zeros, subnormal ones, a usual one of each sign.
EDGES = np.array([0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x2C00, 0xAC00], np.uint16)


def kind_of(name):
    return GGMLQuantizationType[name.upper()]


def random_blocks(name, rng):
    """Valid blocks: every byte is random but for the f16 scales, which are finite."""
    weights, size = GGML_QUANT_SIZES[kind_of(name)]
    blocks = rng.integers(0, 256, (ROWS, COLUMNS // weights, size), dtype=np.uint8)
    for at in SCALES_AT[name]:
        scales = rng.normal(0, 0.02, blocks.shape[:2]).astype(np.float16).view(np.uint16)
        edge = rng.permutation(np.resize(EDGES, EDGE_ROWS * blocks.shape[1])).reshape(EDGE_ROWS, -1)
        scales[ROWS - EDGE_ROWS :] = edge
        blocks[..., at : at + 2] = scales[..., None].view(np.uint8)
    return blocks.reshape(ROWS, -1)


def weights_to_quantize(rng):
    """Rows that reach every branch of a quantiser."""
    rows = rng.normal(0, 0.05, (6, COLUMNS)).astype(np.float32)
    rows[1, ::37] *= 40
    rows[2] = np.float32(0.125)
    rows[3, 64:] = 0
    rows[4] = rng.choice(np.array([-0.75, -0.5, 0.25, 0.5, 0.75], np.float32), COLUMNS)
    rows[5] *= np.float32(1e-4)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(18)
    for name in SCALES_AT:
        blocks = random_blocks(name, rng)
        values = quants.dequantize(blocks, kind_of(name))
        assert values.shape == (ROWS, COLUMNS) and values.dtype == np.float32 and np.isfinite(values).all(), name
        (out / f"{name}.blocks").write_bytes(blocks.tobytes())
        (out / f"{name}.values").write_bytes(values.astype("<f4").tobytes())
    weights = weights_to_quantize(rng)
    (out / "weights.values").write_bytes(weights.astype("<f4").tobytes())
    for name in WRITES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            quantized = quants.quantize(weights, kind_of(name))
        (out / f"{name}.quantized").write_bytes(quantized.tobytes())
    golden = {
        "versions": {name: version(name) for name in ["gguf", "numpy"]},
        "columns": COLUMNS,
        "rows": ROWS,
        "kinds": list(SCALES_AT),
        "weights_rows": len(weights),
        "quantized": WRITES,
    }
    (out / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
