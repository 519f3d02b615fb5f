"""Reranker on a GPU: `make modal-deploy APP=rerank_gpu`, after `modal/pack.py` has put its model into the volume."""

import modal
from defrost_modal import Settings, base, serve

service = Settings.deployed(
    binary="rerank-gpu", model="bge-reranker-v2-m3-bf16.snap", gpu="L4", target_concurrency=16, max_containers=5
)
app = modal.App(service.name)


@serve(app, service)
class Server(base(service)):
    """One card a container; README.md says why memory snapshots are off unless the GPU's memory is in them."""

    settings = service
