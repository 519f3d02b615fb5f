#!/usr/bin/env python3
"""One restore from an object store by another tool, in this process: prints one JSON line (see meter.py).

  python s3_peers.py NAME URL FOLDER --model model.json [--verify]

URL is s3://bucket/key, at the endpoint AWS_ENDPOINT_URL; FOLDER is empty and takes what is written to disk. Runs in the
environment that `bench_loader --prepare` makes.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import meter
import peers

PART_BYTES = 8 * 2**20
CONNECTIONS = 16


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("name", choices=sorted(LOADERS), help="the tool")
    parser.add_argument("url", help="s3://bucket/key in the tool's format")
    parser.add_argument("folder", type=Path, help="an empty folder for downloads")
    parser.add_argument("--model", type=Path, required=True, help="model.json, which lists tensors and hashes")
    parser.add_argument("--verify", action="store_true", help="hash every tensor before it counts as ready")
    args = parser.parse_args()
    model = json.loads(args.model.read_text())
    modules, load = LOADERS[args.name]
    imported = [importlib.import_module(module) for module in modules]
    clock = meter.Meter()
    flats = [(name, meter.flat(tensor)) for name, tensor in load(*imported, args.url, args.folder, model)]
    if args.verify:
        meter.verify(flats, {tensor["name"]: tensor["xxh3"] for tensor in model["tensors"]})
    clock.ready()
    for _, data in flats:
        meter.touch(data)
    clock.touched()
    clock.finish(args.name + ("+xxh3" if args.verify else ""), flats)


def boto3_file(boto3, safetensors, url, folder, _model):
    """The usual pipeline: download the file with the transfer manager, then map it."""
    path = folder / "model.safetensors"
    client, transfer = client_of(boto3)
    client.download_file(*bucket_and_key(url), str(path), Config=transfer)
    return list(safetensors.load_file(path).items())


def client_of(boto3):
    """A client with as many connections as threads, and transfers in parts of 8 MiB."""
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, max_pool_connections=CONNECTIONS)
    transfer = TransferConfig(max_concurrency=CONNECTIONS, multipart_chunksize=PART_BYTES)
    return boto3.client("s3", config=config), transfer


def runai(streamer, url, _folder, _model):
    with streamer.SafetensorsStreamer() as session:
        session.stream_file(url)
        return list(session.get_tensors())


def tensorizer(library, url, _folder, _model, verify_hash=False):
    return list(library.TensorDeserializer(url, device="cpu", verify_hash=verify_hash).items())


def tensorizer_hash(library, url, folder, model):
    return tensorizer(library, url, folder, model, verify_hash=True)


def curl(numpy, url, folder, model):
    """One connection, to a file that is then mapped."""
    path = folder / "model.raw"
    address = "/".join([os.environ["AWS_ENDPOINT_URL"].rstrip("/"), *bucket_and_key(url)])
    subprocess.run(["curl", "--fail", "--silent", "--show-error", "--output", path, address], check=True)
    return peers.split(numpy.memmap(path, dtype=numpy.uint8, mode="r"), model)


def bucket_and_key(url):
    """The parts of s3://bucket/key."""
    return url.removeprefix("s3://").split("/", maxsplit=1)


# Name: modules that are imported before the clock starts, and the function that gets them.
LOADERS = {
    "boto3": (["boto3", "safetensors.torch"], boto3_file),
    "runai": (["runai_model_streamer"], runai),
    "tensorizer": (["tensorizer"], tensorizer),
    "tensorizer-hash": (["tensorizer"], tensorizer_hash),
    "curl": (["numpy"], curl),
}

if __name__ == "__main__":
    sys.exit(main())
