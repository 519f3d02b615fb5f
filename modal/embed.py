"""Embeddings on CPUs: `modal deploy modal/embed.py`, after `modal/pack.py` has put its model into the volume."""

import modal
from defrost_modal import Settings, base, serve

service = Settings.deployed(binary="embed", model="bge-m3-int8.snap")
app = modal.App(service.name)


@serve(app, service)
class Server(base(service)):
    """Cores, memory, containers and concurrency are the defaults of `Settings`, made for functions on CPUs."""

    settings = service
