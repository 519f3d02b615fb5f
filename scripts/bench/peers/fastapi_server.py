#!/usr/bin/env python3
"""A reranker as most are written: FastAPI, uvicorn, transformers, torch in f32 on the CPU. A yardstick for cold starts.

  MODEL=models/all-MiniLM-L6-v2 PORT=8000 python scripts/bench/peers/fastapi_server.py

MODEL is the checkpoint's folder; nothing is asked of the hub. The port opens when the model is loaded.
"""

from pooling import MAX_TOKENS, Phases, answer, seconds_since_exec

phases = Phases(seconds_since_exec())

import os  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

phases.done("boot_import_torch")

from transformers import AutoModel, AutoTokenizer  # noqa: E402

phases.done("boot_import_transformers")

import uvicorn  # noqa: E402
from fastapi import FastAPI, Response  # noqa: E402
from pydantic import BaseModel  # noqa: E402

phases.done("boot_import_fastapi")

FOLDER = Path(os.environ["MODEL"])
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
phases.done("boot_tokenizer")
model = AutoModel.from_pretrained(FOLDER, dtype=torch.float32).eval()
phases.done("boot_model")

app = FastAPI()


class Request(BaseModel):
    """What is asked."""

    query: str
    documents: list[str]


@torch.inference_mode()
def embed(texts):
    """Normalised vectors of texts."""
    encoded = tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    hidden = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


@app.post("/v1/rerank")
def rerank(request: Request, response: Response):
    """Scores, best first."""
    begun = time.perf_counter()
    vectors = embed([request.query, *request.documents])
    scores = ((1 + vectors[1:] @ vectors[0]) / 2).tolist()
    spent = (time.perf_counter() - begun) * 1e3
    phases.ms.setdefault("boot_first_score", spent)
    response.headers["server-timing"] = f"inference;dur={spent:.3f}, {phases.header()}"
    return answer(FOLDER.name, scores)


@app.get("/health")
def health():
    """Runs."""
    return {"status": "ok"}


phases.done("boot_routes")
uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")), log_level="warning")
