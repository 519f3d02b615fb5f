"""Language models on CPUs: `make modal-deploy APP=chat`, after `modal/pack.py` has put its model into the volume."""

import modal
from defrost_modal import Settings, base, serve

service = Settings.deployed(
    binary="chat", model="Qwen2.5-1.5B-Instruct-q8_0.snap", memory=6144, target_concurrency=8, timeout=900
)
app = modal.App(service.name)


@serve(app, service)
class Server(base(service)):
    """Replies are streamed through; README.md says where the numbers are from."""

    settings = service
