"""Names of bulk work, made of content: the same corpus is sent once, the same work goes on where it stopped."""

import hashlib
from pathlib import Path, PurePosixPath

CORPORA = (".jsonl", ".parquet")
VECTORS = (".parquet", ".jsonl")
# Of a SHA-256; half of it still never meets another by chance, and paths stay readable.
NAME_DIGITS = 32


class CorpusError(ValueError):
    """Why the files cannot be worked with."""


def stored(path):
    """Where a corpus lies in the volume."""
    path = Path(path)
    if path.suffix not in CORPORA or not path.is_file():
        raise CorpusError(f"{path}: expected a file that ends in {' or '.join(CORPORA)}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return str(PurePosixPath("corpora", digest[:NAME_DIGITS] + path.suffix))


def output(corpus, model, options, out):
    """Where the vectors of such a run lie in the volume; `model` and `options` as they are given to the tool."""
    suffix = Path(out).suffix
    if suffix not in VECTORS:
        raise CorpusError(f"{out}: expected a name that ends in {' or '.join(VECTORS)}")
    digest = hashlib.sha256("\0".join([corpus, model, *options]).encode()).hexdigest()
    return str(PurePosixPath("vectors", digest[:NAME_DIGITS], "vectors" + suffix))


def send(volume, source, target):
    """Uploads the corpus unless the volume has it; whether it did."""
    folder = str(PurePosixPath(target).parent)
    try:
        there = {PurePosixPath(entry.path).name for entry in volume.listdir(folder)}
    except FileNotFoundError:
        there = set()
    if PurePosixPath(target).name in there:
        return False
    with volume.batch_upload() as batch:
        batch.put_file(source, target)
    return True


def fetch(volume, source, target):
    """Downloads the vectors; the file appears whole."""
    target = Path(target)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("wb") as file:
            for chunk in volume.read_file(source):
                file.write(chunk)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
