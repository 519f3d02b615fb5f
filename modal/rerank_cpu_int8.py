"""Reranker on CPUs: `modal deploy modal/rerank_cpu_int8.py`, after `modal/pack.py` has put its model into the volume."""

import modal
from defrost_modal import Settings, base, serve

service = Settings.deployed(binary="rerank-cpu-int8", model="bge-reranker-v2-m3-int8.snap")
app = modal.App(service.name)


@serve(app, service)
class Server(base(service)):
    """Cores, memory, containers and concurrency are the defaults of `Settings`, made for functions on CPUs."""

    settings = service
