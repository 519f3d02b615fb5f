#!/usr/bin/env python3
"""Token ids for `defrost bench throughput --ids` and `bench_ort.py`: real texts, for three shapes of model.

    scripts/bench/make_bench_ids.py --beir DIR --tokenizers DIR --minilm DIR/tokenizer.json --out-dir DIR

Writes JSON lists of lists of token ids:
  bge.json            one query with the first 32 abstracts of the data set, XLM-RoBERTa pairs, cut at 512 tokens
  mxbai.json          one query with 16 passages in the whole prompt of mxbai-rerank-v2, 128 tokens each
  mxbai_distinct.json 16 sequences of 128 tokens that have no beginning in common
  minilm.json         32 sequences of 128 tokens

DIR of --beir has corpus.jsonl and queries.jsonl; DIR of --tokenizers has xlm-roberta/ and qwen2.5/tokenizer.json. Needs
the package tokenizers.
"""

import argparse
import itertools
import json
import os

PREFIX = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document pair, "
    "carefully analyze the semantic relationship between them, then provide your binary relevance judgment (0 for not "
    "relevant, 1 for relevant).\nRelevance:"
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n"


def load(path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beir", required=True)
    parser.add_argument("--tokenizers", required=True)
    parser.add_argument("--minilm", required=True, help="tokenizer.json of all-MiniLM-L6-v2")
    parser.add_argument("--out-dir", required=True)
    args = parser.parse_args()
    os.makedirs(args.out_dir, exist_ok=True)
    with open(os.path.join(args.beir, "corpus.jsonl"), encoding="utf-8") as lines:
        documents = [json.loads(line) for line in itertools.islice(lines, 200)]
    with open(os.path.join(args.beir, "queries.jsonl"), encoding="utf-8") as lines:
        query = json.loads(next(lines))["text"]
    texts = [document["text"] for document in documents]

    def write(name, rows):
        with open(os.path.join(args.out_dir, name), "w", encoding="utf-8") as file:
            json.dump(rows, file)
        print(f"{name}: {len(rows)} sequences, {sum(map(len, rows))} tokens")

    encode = load(os.path.join(args.tokenizers, "xlm-roberta", "tokenizer.json"))
    head = [0, *encode(query), 2, 2]
    write("bge.json", [head + encode(text)[: 511 - len(head)] + [2] for text in texts[:32]])

    encode = load(os.path.join(args.tokenizers, "qwen2.5", "tokenizer.json"))
    head = encode(PREFIX) + encode(f"query: {query}") + encode("\n")
    tail = encode("\n") + encode(TASK) + encode(SUFFIX)
    room = 128 - len(head) - len(tail)
    passages = [encode(f"document: {text}")[:room] for text in texts]
    write("mxbai.json", [head + ids + tail for ids in passages if len(ids) == room][:16])
    stream = [token for text in texts for token in encode(text)]
    write("mxbai_distinct.json", [stream[at * 128 : (at + 1) * 128] for at in range(16)])

    encode = load(args.minilm)
    stream = [token for text in texts for token in encode(text)]
    write("minilm.json", [[101, *stream[at * 126 : (at + 1) * 126], 102] for at in range(32)])


if __name__ == "__main__":
    main()
