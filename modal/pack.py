"""Packs a model of the hub into the volume that the apps read.

  modal run modal/pack.py --source hf://BAAI/bge-m3 [--file bge-m3-int8.snap] [--options "--precision f32"]

Gated models need `DEPLOY_HF_SECRET`, the name of a Modal secret with HF_TOKEN. A snapshot that is there already is
replaced when the new one is whole; running servers keep what they have.
"""

import shlex

import modal
from defrost_modal import Settings, images, tool

# The checkpoint is mapped, the outlier treatment keeps activations beside it; an hour is for slow downloads.
settings = Settings.deployed(binary="defrost", name="defrost-pack", memory=8192, timeout=3600)
app = modal.App(settings.name)
mounts = images.snapshots(settings, read_only=False)


@app.function(
    image=images.image(settings, settings.binary),
    volumes=mounts,
    secrets=images.secrets(settings.hf_secret),
    cpu=settings.cpu,
    memory=settings.memory,
    timeout=settings.timeout,
    min_containers=0,
    max_containers=1,
)
def pack(source: str, file: str, options: list[str]) -> str:
    """In a container; what `defrost pack` reports."""
    report = tool.pack(source, file, options, settings.cpu)
    for volume in mounts.values():
        volume.commit()
    return report


@app.local_entrypoint()
def main(source: str, file: str = "", options: str = ""):
    """From the command line."""
    print(pack.remote(source, file, shlex.split(options)), end="")
