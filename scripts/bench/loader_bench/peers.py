#!/usr/bin/env python3
"""One restore by another loader, in this process: prints one JSON line (see meter.py).

  python peers.py NAME FILE --model model.json [--verify]

Runs in the environment that `bench_loader --prepare` makes. --verify adds the nearest thing to our verification:
XXH3-64 of every tensor, on two threads, before it counts as ready. tensorizer has hashes of its own: `tensorizer-hash`.
"""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import meter


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("name", choices=sorted(LOADERS), help="the loader")
    parser.add_argument("file", type=Path, help="the checkpoint in the loader's format")
    parser.add_argument("--model", type=Path, required=True, help="model.json, which lists tensors and hashes")
    parser.add_argument("--verify", action="store_true", help="hash every tensor before it counts as ready")
    args = parser.parse_args()
    model = json.loads(args.model.read_text())
    modules, load = LOADERS[args.name]
    imported = [importlib.import_module(module) for module in modules]
    clock = meter.Meter()
    tensors = load(*imported, args.file, model)
    flats = [(name, meter.flat(tensor)) for name, tensor in tensors]
    if args.verify:
        meter.verify(flats, {tensor["name"]: tensor["xxh3"] for tensor in model["tensors"]})
    clock.ready()
    for _, data in flats:
        meter.touch(data)
    clock.touched()
    clock.finish(args.name + ("+xxh3" if args.verify else ""), flats or raw_tensors(args.file, model))


def safetensors_mmap(safetensors, path, _model):
    return list(safetensors.load_file(path).items())


def safetensors_pread(safetensors, path, _model):
    return list(safetensors.load_file(path, backend="pread").items())


def safetensors_read(safetensors, path, _model):
    return list(safetensors.load(path.read_bytes()).items())


def runai(streamer, path, _model):
    """Concurrency is RUNAI_STREAMER_CONCURRENCY, which the caller sets."""
    with streamer.SafetensorsStreamer() as session:
        session.stream_file(str(path))
        return list(session.get_tensors())


def runai_clone(streamer, path, _model):
    """Clones each tensor, as the streamer's documentation long asked of callers that keep tensors."""
    with streamer.SafetensorsStreamer() as session:
        session.stream_file(str(path))
        return [(name, tensor.clone()) for name, tensor in session.get_tensors()]


def tensorizer(library, path, _model):
    return list(library.TensorDeserializer(str(path), device="cpu").items())


def tensorizer_hash(library, path, _model):
    return list(library.TensorDeserializer(str(path), device="cpu", verify_hash=True).items())


def fastsafetensors(library, torch, path, _model):
    """Reads without GPUDirect, which needs a GPU: its threads read into bounce buffers."""
    loader = library.SafeTensorsFileLoader(library.SingleGroup(), "cpu", nogds=True)
    loader.add_filenames({0: [str(path)]})
    buffers = loader.copy_files_to_device()
    tensors = [(name, buffers.get_tensor(name)) for name in loader.get_keys()]
    # The tensors are views of the buffers; closing them is part of leaving the process.
    KEPT.extend([loader, buffers])
    return tensors


def numpy_fromfile(numpy, path, model):
    return split(numpy.fromfile(path, dtype=numpy.uint8), model)


def cat(path, _model):
    """The page cache and a pipe's worth of memory: nothing is kept, so there is nothing to touch."""
    subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, check=True)
    return []


def raw_tensors(path, model):
    """The tensors of the raw file, for the checksum of a contestant that kept nothing."""
    import numpy

    return split(numpy.fromfile(path, dtype=numpy.uint8), model)


def split(data, model):
    """Cuts the raw file, a flat uint8 array, into its tensors."""
    tensors, start = [], 0
    for tensor in model["tensors"]:
        tensors.append((tensor["name"], data[start : start + tensor["bytes"]]))
        start += tensor["bytes"]
    return tensors


KEPT = []

# Name: modules that are imported before the clock starts, and the function that gets them.
LOADERS = {
    "safetensors-mmap": (["safetensors.torch"], safetensors_mmap),
    "safetensors-pread": (["safetensors.torch"], safetensors_pread),
    "safetensors-read": (["safetensors.torch"], safetensors_read),
    "runai": (["runai_model_streamer"], runai),
    "runai-clone": (["runai_model_streamer"], runai_clone),
    "tensorizer": (["tensorizer"], tensorizer),
    "tensorizer-hash": (["tensorizer"], tensorizer_hash),
    "fastsafetensors": (["fastsafetensors", "torch"], fastsafetensors),
    "numpy-fromfile": (["numpy"], numpy_fromfile),
    "cat": ([], cat),
}

if __name__ == "__main__":
    sys.exit(main())
