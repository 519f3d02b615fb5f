"""Runs of the tool `defrost` in a container: pack a snapshot into a volume, embed a share of a corpus, join the shares.

A file comes into a volume under a name of its own and is renamed when it is whole, so that nobody sees a part of it: not
a server that starts meanwhile, and not the next run after this one was killed.
"""

import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from .images import BIN
from .process import inherited
from .settings import MODELS

TOOL = f"{BIN}/defrost"
BULK = "/bulk"
# The end of a log that an error shows.
SHOWN_LINES = 20

# HF_TOKEN comes from a Modal secret; the others are for mirrors and proxies of the hub.
# AWS_* are for models in a bucket.
INHERITED = ("HF_TOKEN", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_")


class ToolError(RuntimeError):
    """The tool failed; with the end of what it said."""


def run(tool, arguments, cpu, folder):
    """The tool's answer. What it says meanwhile goes to Modal's log, line by line."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        # For what it caches; the container's disk, gone with it.
        "HOME": str(folder),
        "NUM_THREADS": str(math.ceil(cpu)),
        **inherited(os.environ, INHERITED),
    }
    said = []
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as answer:
        child = subprocess.Popen(
            [tool, *arguments],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        for line in child.stderr:
            said = [*said, line.rstrip("\n")][-SHOWN_LINES:]
            print(line, end="", file=sys.stderr, flush=True)
        if child.wait():
            words = shlex.join(["defrost", *map(str, arguments)])
            raise ToolError(f"{words} ended with {child.returncode}:\n" + "\n".join(said))
        answer.seek(0)
        return answer.read()


def pack(source, file, options, cpu, models=MODELS, tool=TOOL):
    """Packs a checkpoint into the volume; what `defrost pack` reports, which begins with the file's name.

    On the container's disk first: packing writes here and there in the file, a volume wants it from front to end.
    """
    if file and (Path(file).name != file or not file.endswith(".snap")):
        raise ToolError(f"expected the name of a file that ends in .snap, found {file!r}")
    with tempfile.TemporaryDirectory() as folder:
        report = run(tool, ["pack", source, *(["--out", file] if file else []), *options], cpu, folder)
        (made,) = Path(folder).glob("*.snap")
        put(made, Path(models) / made.name)
        return report


def put(source, target):
    """Copies a file under another name and renames it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def embed(corpus, out, model, options, cpu, shard=None, models=MODELS, bulk=BULK, tool=TOOL):
    """Embeds shard (index, count) of a corpus in the volume into OUT.parts, or joins what is there into OUT.

    The tool keeps answers by the hash of model, settings and text, so a share that is run twice computes nothing twice
    and the joined file holds each row once, in the order of the corpus.
    """
    out = Path(bulk) / out
    out.parent.mkdir(parents=True, exist_ok=True)
    place = model if model.startswith("s3://") else Path(models) / model
    split = ["--join"] if shard is None else ["--shard", f"{shard[0]}/{shard[1]}"]
    arguments = ["embed", "--model", place, "--in", Path(bulk) / corpus, "--out", out, *options, *split]
    with tempfile.TemporaryDirectory() as folder:
        return run(tool, arguments, cpu, folder)
