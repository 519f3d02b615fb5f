"""Embeds a file on many containers at once.

  modal run modal/bulk.py --corpus corpus.jsonl --out vectors.parquet --model bge-m3-int8.snap [--shards 16]
      [--options "--dimensions 256"]

The corpus goes into a volume under the hash of its content; each container embeds one shard of it, finished parts stay in
the volume, and one more run joins them. Run again after a failure, it computes only what is missing. Every container reads
the whole corpus and embeds the texts whose keys are its own.
"""

import shlex

import modal
from defrost_modal import Settings, corpus as corpora, images, tool

# A shard may take hours; one that is stopped goes on from its last part, so the limit costs little.
settings = Settings.deployed(binary="defrost", name="defrost-bulk", timeout=4 * 3600)
app = modal.App(settings.name)
# Not the volume of the models: nobody who embeds may write there.
work = modal.Volume.from_name(f"{settings.volume}-bulk", create_if_missing=True, version=2)
container = {
    "image": images.image(settings, settings.binary),
    "volumes": {**images.snapshots(settings, read_only=True), tool.BULK: work},
    "secrets": images.secrets(*settings.secrets),
    "cpu": settings.cpu,
    "memory": settings.memory,
    "timeout": settings.timeout,
    "min_containers": 0,
    # A container that is lost, or out of time, is followed by one that goes on.
    "retries": modal.Retries(max_retries=3, initial_delay=1.0, backoff_coefficient=2.0),
}


@app.function(**container, max_containers=settings.max_containers)
def embed(corpus: str, out: str, model: str, options: list[str], index: int, count: int) -> str:
    """One shard, in a container of its own."""
    return _embed(corpus, out, model, options, (index, count))


@app.function(**container, max_containers=1)
def join(corpus: str, out: str, model: str, options: list[str]) -> str:
    """All shards into one file."""
    return _embed(corpus, out, model, options, None)


def _embed(corpus, out, model, options, shard):
    # What was sent, and what others finished, since this container started.
    work.reload()
    try:
        return tool.embed(corpus, out, model, options, settings.cpu, shard)
    finally:
        work.commit()


@app.local_entrypoint()
def main(corpus: str, out: str, model: str, shards: int = 16, options: str = ""):
    """From the command line."""
    words, stored = shlex.split(options), corpora.stored(corpus)
    vectors = corpora.output(stored, model, words, out)
    print(f"{corpus}: {'sent' if corpora.send(work, corpus, stored) else 'is there'} as {stored}")
    shares = [(stored, vectors, model, words, index, shards) for index in range(shards)]
    for done, report in enumerate(embed.starmap(shares, order_outputs=False), start=1):
        print(f"shard {done} of {shards}: {report}", end="")
    print(join.remote(stored, vectors, model, words), end="")
    corpora.fetch(work, vectors, out)
    print(out)
