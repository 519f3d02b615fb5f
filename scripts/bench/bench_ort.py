"""Measures ONNX Runtime on given token ids, at the settings that serve it best: the yardstick for the engine.

Input is a JSON list of lists of token ids, from a file or stdin (`-`). The sequences are sorted by length and cut into
micro-batches of each size in --batch-sizes, padded to the longest in each; mask, token types and positions are given as
far as the model asks for them. Every size is run once unmeasured, then --runs times, in turns so that a disturbance
meets all of them; the size with the best median is the result. Threads spin while they wait, all graph optimisations
are on, memory arenas are on: ONNX Runtime's own defaults, which were the fastest here.

  python scripts/bench/bench_ort.py --model-path models/minilm-int8/model.onnx --ids ids.json --threads 2

Prints JSON: `median_s`, `pairs_per_s` and `tokens_per_s` (real tokens, padding not counted) of the best size, `sizes`
with the medians of all, `session_s` (creation of the session, optimisation included), and `scores` in input order:
the logit or, for an embedder, the cosine with the first sequence. Needs onnxruntime and numpy.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path


def say(text):
    """Progress goes to stderr."""
    print(f"bench_ort: {text}", file=sys.stderr, flush=True)


def read_sequences(source):
    """The token ids, checked."""
    text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    try:
        sequences = json.loads(text)
    except json.JSONDecodeError as error:
        sys.exit(f"bench_ort: {source} is not JSON ({error}), expected a list of lists of token ids")
    good = isinstance(sequences, list) and sequences and all(
        isinstance(ids, list) and ids and all(isinstance(token, int) and token >= 0 for token in ids) for ids in sequences
    )  # fmt: skip
    if not good:
        sys.exit(f"bench_ort: {source} must hold a list of lists of token ids, none of them empty")
    return sequences


def session_of(arguments):
    """The session and the seconds it took to make."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    for setting in arguments.config:
        key, found, value = setting.partition("=")
        if not found:
            sys.exit(f"bench_ort: --config needs KEY=VALUE, found {setting!r}")
        options.add_session_config_entry(key, value)
    begun = time.perf_counter()
    session = onnxruntime.InferenceSession(str(arguments.model_path), options, providers=["CPUExecutionProvider"])
    return session, time.perf_counter() - begun


def feeds(session, batch, pad):
    """What the model wants to know about one micro-batch: padded on the right."""
    import numpy as np

    width = max(map(len, batch))
    ids = np.full((len(batch), width), pad, dtype=np.int64)
    mask = np.zeros((len(batch), width), dtype=np.int64)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    known = {
        "input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids),
        "position_ids": np.maximum(mask.cumsum(1) - 1, 0),
    }  # fmt: skip
    wanted = {}
    for given in session.get_inputs():
        if given.name not in known:
            sys.exit(f"bench_ort: the model wants {given.name!r}, known are {', '.join(known)}")
        kind = np.int32 if given.type == "tensor(int32)" else np.int64
        wanted[given.name] = known[given.name].astype(kind)
    return wanted, mask


def pooled(hidden, mask, pooling):
    """Normalised embeddings of a micro-batch."""
    import numpy as np

    if pooling == "cls":
        rows = hidden[:, 0]
    elif pooling == "last":
        rows = hidden[np.arange(len(hidden)), mask.sum(1) - 1]
    else:
        rows = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def once(session, batches, pooling):
    """Runs prepared micro-batches; seconds of the runs and one answer for each sequence, sorted by length."""
    output = session.get_outputs()[0].name
    answers = []
    begun = time.perf_counter()
    for given, mask in batches:
        result = session.run([output], given)[0]
        answers.extend(pooled(result, mask, pooling) if result.ndim == 3 else result[:, :1])
    return time.perf_counter() - begun, answers


def measure(arguments):
    """All sizes in turns."""
    import numpy as np
    import onnxruntime

    sequences = read_sequences(arguments.ids)
    before = os.getloadavg()[0]
    session, session_s = session_of(arguments)
    order = sorted(range(len(sequences)), key=lambda at: len(sequences[at]), reverse=True)
    prepared = {}
    for size in arguments.batch_sizes:
        ranked = [sequences[at] for at in order]
        parts = [ranked[at : at + size] for at in range(0, len(ranked), size)]
        prepared[size] = [feeds(session, part, arguments.pad_id) for part in parts]
    times = {size: [] for size in prepared}
    answers = None
    for run in range(arguments.runs + 1):
        for size, batches in prepared.items():
            seconds, found = once(session, batches, arguments.pooling)
            if run > 0:
                times[size].append(seconds)
                answers = found
        say(f"run {run} of {arguments.runs}")
    medians = {size: statistics.median(all_runs) for size, all_runs in times.items()}
    best = min(medians, key=medians.get)
    placed = [None] * len(sequences)
    for at, answer in zip(order, answers, strict=True):
        placed[at] = answer
    if len(placed[0]) > 1:
        placed = [[float(np.dot(placed[0], answer))] for answer in placed]
    tokens = sum(map(len, sequences))
    return {
        "model": str(arguments.model_path),
        "onnxruntime": onnxruntime.__version__,
        "threads": arguments.threads,
        "pairs": len(sequences),
        "tokens": tokens,
        "session_s": session_s,
        "batch_size": best,
        "median_s": medians[best],
        "fastest_s": min(times[best]),
        "pairs_per_s": len(sequences) / medians[best],
        "tokens_per_s": tokens / medians[best],
        "sizes": {str(size): median for size, median in medians.items()},
        "load_average": [before, os.getloadavg()[0]],
        "scores": [float(answer[0]) for answer in placed],
    }


def sizes(text):
    """A list such as 1,4,16."""
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise argparse.ArgumentTypeError("sizes start at 1")
    return values


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-path", required=True, type=Path, help="ONNX model")
    parser.add_argument("--ids", default="-", help="JSON file of token ids, - for stdin (default)")
    parser.add_argument("--threads", type=int, default=2, help="threads within an operator (default: %(default)s)")
    parser.add_argument("--batch-sizes", type=sizes, default=[1, 2, 4, 8, 16, 32], help="sizes of micro-batches to try")
    parser.add_argument("--runs", type=int, default=5, help="measured runs of each size (default: %(default)s)")
    parser.add_argument("--pad-id", type=int, default=0, help="token id of padding (1 for XLM-RoBERTa)")
    parser.add_argument("--pooling", choices=["mean", "cls", "last"], default="mean", help="of an embedder")
    parser.add_argument("--config", action="append", default=[], metavar="KEY=VALUE", help="session setting; repeatable")
    arguments = parser.parse_args()
    if not arguments.model_path.is_file():
        sys.exit(f"bench_ort: {arguments.model_path} is not there; scripts/golden/quantize_onnx.py makes it")
    if arguments.runs < 1 or arguments.threads < 1:
        sys.exit("bench_ort: --runs and --threads must be 1 or more")
    json.dump(measure(arguments), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
