"""A graph in LangGraph: retrieve, rerank, and rewrite the question once where nothing relevant was found.

  pip install langgraph langchain-core langchain-openai cohere numpy
  EMBED_URL=http://127.0.0.1:8001 RERANK_URL=http://127.0.0.1:8000 python rag_langgraph.py "Who wrote the novel?"

A reranker's score is what makes such a graph possible: vectors always find something, a score in [0, 1] says whether it is
an answer. The threshold belongs to the model; look at the scores of some questions of your own first.

Rewriting is a language model's work. Here `rewrite` keeps the words that carry meaning, so that the example runs alone.
"""

import json
import os
import sys
from pathlib import Path
from typing import TypedDict

import cohere
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings
from langgraph.graph import END, START, StateGraph

EMBED_URL = os.environ.get("EMBED_URL", "http://127.0.0.1:8001")
RERANK_URL = os.environ.get("RERANK_URL", "http://127.0.0.1:8000")
API_KEY = os.environ.get("API_KEY", "none needed")
SAMPLE = json.loads((Path(__file__).parents[2] / "data" / "example_docs.json").read_text(encoding="utf-8"))
CANDIDATES = 6
KEPT = 3
# Of all-MiniLM-L6-v2, whose score is a cosine mapped to [0, 1]: half is no relation at all.
RELEVANT = float(os.environ.get("RELEVANT", "0.6"))
FILLERS = {"a", "an", "and", "did", "do", "does", "for", "i", "in", "is", "me", "of", "please", "tell", "that", "the", "to"}


class State(TypedDict):
    """What the nodes hand on."""

    question: str
    candidates: list[str]
    ranked: list[tuple[float, str]]
    rewritten: bool


def graph() -> StateGraph:
    """The nodes and the way between them."""
    embeddings = OpenAIEmbeddings(
        base_url=f"{EMBED_URL}/v1", api_key=API_KEY, model="any", check_embedding_ctx_length=False
    )
    store = InMemoryVectorStore.from_texts(SAMPLE["documents"], embeddings)
    reranker = cohere.ClientV2(api_key=API_KEY, base_url=RERANK_URL)

    def retrieve(state: State) -> dict:
        found = store.similarity_search(state["question"], k=CANDIDATES)
        return {"candidates": [document.page_content for document in found]}

    def rerank(state: State) -> dict:
        answer = reranker.rerank(
            model="any", query=state["question"], documents=state["candidates"], top_n=KEPT
        )
        return {"ranked": [(one.relevance_score, state["candidates"][one.index]) for one in answer.results]}

    def rewrite(state: State) -> dict:
        words = [word for word in state["question"].split() if word.strip("?,.!").lower() not in FILLERS]
        return {"question": " ".join(words), "rewritten": True}

    def next_step(state: State) -> str:
        relevant = state["ranked"] and state["ranked"][0][0] >= RELEVANT
        return END if relevant or state["rewritten"] else "rewrite"

    nodes = StateGraph(State)
    nodes.add_node("retrieve", retrieve)
    nodes.add_node("rerank", rerank)
    nodes.add_node("rewrite", rewrite)
    nodes.add_edge(START, "retrieve")
    nodes.add_edge("retrieve", "rerank")
    nodes.add_conditional_edges("rerank", next_step, ["rewrite", END])
    nodes.add_edge("rewrite", "retrieve")
    return nodes


def main() -> None:
    """Prints the question as it was asked in the end, and the passages."""
    question = sys.argv[1] if len(sys.argv) > 1 else SAMPLE["query"]
    begin = State(question=question, candidates=[], ranked=[], rewritten=False)
    state = graph().compile().invoke(begin)
    print(f"{'rewritten' if state['rewritten'] else 'asked'}: {state['question']}")
    for score, passage in state["ranked"]:
        print(f"{score:.4f}  {passage}")


if __name__ == "__main__":
    main()
