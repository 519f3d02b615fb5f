"""Retrieval in LangChain: `embed` finds candidates, `rerank-cpu-int8` puts them in order.

  pip install langchain-core langchain-openai langchain-cohere numpy
  EMBED_URL=http://127.0.0.1:8001 RERANK_URL=http://127.0.0.1:8000 python rag_langchain.py "Who wrote the novel?"

Both are LangChain's own classes, pointed at other addresses: `OpenAIEmbeddings` and `CohereRerank`. Nothing is installed
for defrost. The store is LangChain's in memory; any other one takes its place.
"""

import json
import os
import sys
from pathlib import Path

from langchain_cohere import CohereRerank
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings

EMBED_URL = os.environ.get("EMBED_URL", "http://127.0.0.1:8001")
RERANK_URL = os.environ.get("RERANK_URL", "http://127.0.0.1:8000")
API_KEY = os.environ.get("API_KEY", "none needed")
SAMPLE = json.loads((Path(__file__).parents[2] / "data" / "example_docs.json").read_text(encoding="utf-8"))
CANDIDATES = 6
KEPT = 3


def main() -> None:
    """Prints the best passages for a question, best first."""
    question = sys.argv[1] if len(sys.argv) > 1 else SAMPLE["query"]
    embeddings = OpenAIEmbeddings(
        base_url=f"{EMBED_URL}/v1",
        api_key=API_KEY,
        model="any",
        # Or LangChain cuts texts into token ids of OpenAI's tokenizer before it sends them.
        check_embedding_ctx_length=False,
    )
    reranker = CohereRerank(base_url=RERANK_URL, cohere_api_key=API_KEY, model="any", top_n=KEPT)
    store = InMemoryVectorStore.from_texts(SAMPLE["documents"], embeddings)
    retriever = store.as_retriever(search_kwargs={"k": CANDIDATES})
    chain = RunnableLambda(lambda text: reranker.compress_documents(retriever.invoke(text), text))
    for passage in chain.invoke(question):
        print(f"{passage.metadata['relevance_score']:.4f}  {passage.page_content}")


if __name__ == "__main__":
    main()
