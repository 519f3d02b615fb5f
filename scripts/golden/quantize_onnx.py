r"""Quantises an ONNX model to int8 for ONNX Runtime on CPUs: weights once, activations as they come (dynamic).

Three steps: ONNX Runtime's preprocessing (shapes, constant folding), optionally the fusions of its transformer
optimiser (`--fuse`: attention, layer norms and GELU as single operators, which its int8 kernels then take whole), and
`quantize_dynamic`. Models that do not fit into one protobuf (2 GB) go through files of external data, before and after.

The defaults are what was fastest on processors with VNNI: int8 weights per tensor, whole range. `--per-channel` is
nearer to f32 at the same speed. `--reduce-range` is for x86-64 processors without VNNI, where the sum of two products
of int8 and uint8 may overflow 16 bits.

  python scripts/golden/quantize_onnx.py --model-path models/minilm-onnx/model.onnx \
    --out-path models/minilm-int8/model.onnx

tokenizer.json, config.json and the files of sentence-transformers are copied along. Needs onnx and onnxruntime.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

# Above this the result's weights go into a file beside the graph; one protobuf message ends at 2 GB.
LARGEST_SINGLE = 1_500_000_000
BESIDE = ["tokenizer.json", "config.json", "tokenizer_config.json", "special_tokens_map.json", "modules.json",
          "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json"]  # fmt: skip
FUSABLE = ("bert", "xlm-roberta")


class Refused(Exception):
    """Arguments or files that cannot be used; the message says what to do."""


def say(text):
    """Progress goes to stderr."""
    print(f"quantize_onnx: {text}", file=sys.stderr, flush=True)


def weight_bytes(path):
    """Size of a model with its external data."""
    return sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))


def preprocess(source, work):
    """Shapes inferred and constants folded; the weights are only referred to."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    out = work / "preprocessed.onnx"
    external = weight_bytes(source) > LARGEST_SINGLE
    # Symbolic inference stops at some masks of exporters; shapes of weights are all that quantisation needs.
    quant_pre_process(str(source), str(out), skip_symbolic_shape=True, skip_optimization=external,
                      save_as_external_data=external, all_tensors_to_one_file=True,
                      external_data_location="preprocessed.data" if external else None)  # fmt: skip
    return out


def fuse(source, work, config_path):
    """The graph with whole attention blocks, layer norms and activations as single operators."""
    from onnxruntime.transformers.optimizer import optimize_model

    if not config_path.is_file():
        raise Refused(f"--fuse reads heads and width from {config_path}, which is not there")
    config = json.loads(config_path.read_text(encoding="utf-8"))
    if config.get("model_type") not in FUSABLE:
        raise Refused(f"--fuse knows {', '.join(FUSABLE)}, this model is a {config.get('model_type')}")
    model = optimize_model(str(source), model_type="bert", num_heads=config["num_attention_heads"],
                           hidden_size=config["hidden_size"], opt_level=0, use_gpu=False)  # fmt: skip
    say(f"fused: { {name: count for name, count in model.get_fused_operator_statistics().items() if count} }")
    out = work / "fused.onnx"
    model.save_model_to_file(str(out), use_external_data_format=weight_bytes(source) > LARGEST_SINGLE)
    return out


def quantise(source, out, arguments):
    """Writes the int8 model; it appears whole or not at all."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    types = [name.strip() for name in arguments.op_types.split(",") if name.strip()]
    if "MatMul" in types and arguments.fuse:
        types.append("Attention")
    external = weight_bytes(source) > 4 * LARGEST_SINGLE
    quantize_dynamic(
        str(source), str(out), op_types_to_quantize=types, per_channel=arguments.per_channel,
        reduce_range=arguments.reduce_range, use_external_data_format=external,
        weight_type={"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}[arguments.weight_type],
        # Products of two activations stay in f32: there is nothing to quantise in advance.
        extra_options={"MatMulConstBOnly": True},
    )  # fmt: skip


def run(arguments):
    """All steps."""
    source, out = arguments.model_path, arguments.out_path
    if not source.is_file():
        raise Refused(f"{source} is not there; scripts/golden/export_onnx.py makes it")
    if out.exists():
        raise Refused(f"{out} exists; remove it or give another --out-path")
    out.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    # Beside the result: as large as the model, and moved into place without a copy.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".quantise-") as work:
        work = Path(work)
        say(f"{source}: {weight_bytes(source):,} bytes")
        step = preprocess(source, work)
        say(f"preprocessed after {time.monotonic() - begun:.1f} s")
        if arguments.fuse:
            step = fuse(step, work, source.parent / "config.json")
        result = work / "result" / out.name
        result.parent.mkdir()
        quantise(step, result, arguments)
        for file in result.parent.iterdir():
            if file.name != out.name:
                file.rename(out.parent / file.name)
        result.rename(out)
    for name in BESIDE:
        if (source.parent / name).is_file() and source.parent.resolve() != out.parent.resolve():
            (out.parent / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.parent / name, out.parent / name)
    say(f"{out}: {weight_bytes(out):,} bytes after {time.monotonic() - begun:.1f} s")


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-path", required=True, type=Path, help="f32 model, as export_onnx.py writes it")
    parser.add_argument("--out-path", required=True, type=Path, help="int8 model to write")
    parser.add_argument("--per-channel", action="store_true", help="one scale for each output channel")
    parser.add_argument("--reduce-range", action="store_true", help="7-bit weights, for processors without VNNI")
    parser.add_argument("--op-types", default="MatMul,Gather", help="operators to quantise (default: %(default)s)")
    parser.add_argument("--weight-type", choices=["int8", "uint8"], default="int8", help="default: %(default)s")
    parser.add_argument("--fuse", action="store_true", help="fuse attention and norms first (bert, xlm-roberta)")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except Refused as error:
        sys.exit(f"quantize_onnx: {error}")


if __name__ == "__main__":
    main()
