"""Image, volumes and secrets of an app.

The image is Debian with Python, which Modal's own code needs, and the binaries; no weights and no packages. Binaries come
after everything that seldom changes. `bake` copies them into a layer, which starts quicker; without it they are mounted.
"""

import modal

from . import binaries
from .settings import MODELS

# Debian 13: its glibc (`binaries.GLIBC`) runs what Debian 12 and 13 and Ubuntu up to 25.04 build. Named, since the release
# behind `debian_slim` varies with the workspace's image builder.
BASE = "python:3.12-slim-trixie"
BIN = "/usr/local/bin"
ORT_LIBRARY = "/usr/local/lib/libonnxruntime.so"


def image(settings, *names):
    """With these binaries."""
    files = {binaries.path(settings.bin_dir, name): f"{BIN}/{name}" for name in names}
    if modal.is_local():
        for file in files:
            # What another image has, its user must know.
            binaries.check(file, None if settings.base_image else binaries.GLIBC)
    if settings.ort_library:
        library = binaries.path(settings.ort_library, "")
        if modal.is_local() and not library.is_file():
            raise binaries.BinaryError(f"DEPLOY_ORT_LIBRARY: {library}: no such file; scripts/ops/fetch_onnxruntime prints one")
        files[library] = ORT_LIBRARY
    built = modal.Image.from_registry(settings.base_image or BASE, add_python=settings.add_python or None)
    if settings.base_image:
        # Images of CUDA print a banner and start a shell.
        built = built.entrypoint([])
    built = built.env(settings.carried())
    for file, place in files.items():
        built = built.add_local_file(file, place, copy=settings.bake)
    return built.add_local_python_source("defrost_modal")


def snapshots(settings, *, read_only):
    """The volume with the snapshots, where it is mounted. Version 2 takes large files and many readers."""
    volume = modal.Volume.from_name(settings.volume, create_if_missing=True, version=2)
    return {MODELS: volume.with_mount_options(read_only=True) if read_only else volume}


def secrets(*names):
    """Modal secrets by name."""
    return [modal.Secret.from_name(name) for name in names if name]
