#!/usr/bin/env python3
"""A reranker as a lean Python service: ONNX Runtime, the tokenizers package, http.server. A yardstick for cold starts.

  MODEL=models/minilm-onnx PORT=8000 python scripts/bench/peers/onnx_server.py

MODEL is a folder with model.onnx and tokenizer.json. No framework and no torch: about as little as Python can import.
The port opens when the model is loaded.
"""

from pooling import MAX_TOKENS, Phases, answer, seconds_since_exec

phases = Phases(seconds_since_exec())

import json  # noqa: E402
import os  # noqa: E402
import time  # noqa: E402
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

phases.done("boot_imports")

FOLDER = Path(os.environ["MODEL"])
tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
tokenizer.enable_truncation(MAX_TOKENS)
tokenizer.enable_padding()
phases.done("boot_tokenizer")
session = ort.InferenceSession(str(FOLDER / "model.onnx"), providers=["CPUExecutionProvider"])
names = {one.name for one in session.get_inputs()}
phases.done("boot_model")


def embed(texts):
    """Normalised vectors of texts."""
    encoded = tokenizer.encode_batch(texts)
    feeds = {
        "input_ids": np.array([one.ids for one in encoded], np.int64),
        "attention_mask": np.array([one.attention_mask for one in encoded], np.int64),
        "token_type_ids": np.array([one.type_ids for one in encoded], np.int64),
    }
    hidden = session.run(None, {name: feeds[name] for name in names})[0]
    mask = feeds["attention_mask"][:, :, None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


class Handler(BaseHTTPRequestHandler):
    """POST /v1/rerank; anything else is the health check."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        begun = time.perf_counter()
        vectors = embed([request["query"], *request["documents"]])
        scores = (1 + vectors[1:] @ vectors[0]) / 2
        spent = (time.perf_counter() - begun) * 1e3
        phases.ms.setdefault("boot_first_score", spent)
        self.reply(answer(FOLDER.name, scores), f"inference;dur={spent:.3f}, {phases.header()}")

    def do_GET(self):
        self.reply({"status": "ok"}, phases.header())

    def reply(self, value, timing):
        """JSON with the times."""
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("server-timing", timing)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Logs nothing."""


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Handler)
phases.done("boot_listen")
server.serve_forever()
