"""transformers on a GPU as a competent user would run it: bf16, sdpa attention, the best of several sizes of batch.

Prints JSON: documents and wall seconds at the best size, the bf16 rate of one large product (`matmul_tflops`),
versions. Run by gpu_check in the interpreter that has torch; sequences are random ids of one length, so no time goes
into padding.
"""

import argparse
import json
import sys
import time

BATCHES = (16, 32, 64, 100)
# Large enough to reach the card's rate, small enough to fit beside a model on 24 GB.
WIDTH = 8192
PRODUCTS = 20


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--documents", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    try:
        import torch
        import transformers
    except ImportError as error:
        sys.exit(f"no torch or transformers in {sys.executable}: {error}")
    if not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} finds no GPU")
    config = transformers.AutoConfig.from_pretrained(args.checkpoint)
    causal = config.architectures[0].endswith("ForCausalLM")
    kind = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(args.checkpoint, dtype=torch.bfloat16, attn_implementation="sdpa").cuda().eval()
    # Only the last position is read for an answer.
    more = {"logits_to_keep": 1} if causal else {}

    def run(batch):
        ids = torch.randint(10, config.vocab_size - 10, (batch, args.tokens), device="cuda")
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits

    with torch.inference_mode():
        best = max((timed(torch, run, batch, args.seconds / len(BATCHES)) for batch in BATCHES), key=lambda one: one[1] / one[2])
        tflops = product(torch)
    print(json.dumps({
        "batch": best[0], "documents": best[1], "wall": best[2], "matmul_tflops": round(tflops, 2),
        "torch": torch.__version__, "transformers": transformers.__version__, "card": torch.cuda.get_device_name(),
    }))  # fmt: skip


def timed(torch, run, batch, seconds):
    """(batch, documents, wall) after one run that does not count."""
    run(batch)
    torch.cuda.synchronize()
    begun, runs = time.perf_counter(), 0
    while not runs or time.perf_counter() - begun < seconds:
        run(batch)
        torch.cuda.synchronize()
        runs += 1
    return batch, batch * runs, time.perf_counter() - begun


def product(torch):
    """TFLOP/s of bf16 products."""
    a = torch.randn(WIDTH, WIDTH, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(PRODUCTS):
        a @ a
    torch.cuda.synchronize()
    return 2 * WIDTH**3 * PRODUCTS / (time.perf_counter() - begun) / 1e12


if __name__ == "__main__":
    main()
