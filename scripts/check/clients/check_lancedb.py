"""LanceDB's rerankers. Their addresses are fixed: `CO_API_URL` moves Cohere's, its constant is patched for Jina's."""

import os
from types import ModuleType
from typing import Any

import pyarrow
from harness import DOCUMENTS, QUERY, TOP, WRONG_KEY, WRONG_KEY_MESSAGE, Function, check, main, raises, same_texts


def found(count: int = len(DOCUMENTS)) -> pyarrow.Table:
    """What a vector search would have found, best first."""
    return pyarrow.table(
        {
            "text": DOCUMENTS[:count],
            "_rowid": pyarrow.array(range(count), pyarrow.uint64()),
            "_distance": pyarrow.array([float(number) for number in range(count)], pyarrow.float32()),
        }
    )


def texts(table: pyarrow.Table) -> list[tuple[str, float]]:
    """Text and score of each row."""
    return list(zip(table["text"].to_pylist(), table["_relevance_score"].to_pylist(), strict=True))


def cohere_reranker(function: Function, **options: Any) -> Any:
    """Bound to the function: the SDK reads `CO_API_URL` when it is imported, which the reranker does at first use."""
    os.environ["CO_API_URL"] = function.url
    from lancedb.rerankers import CohereReranker

    return CohereReranker(**{"api_key": "any"} | options)


def jina(function: Function) -> ModuleType:
    """The module, with its address patched."""
    from lancedb.rerankers import jinaai

    jinaai.API_URL = f"{function.url}/v1/rerank"
    return jinaai


@check("lancedb CohereReranker", "lancedb", "rerank")
def rerank(function: Function) -> None:
    """Order and scores; top_n."""
    same_texts(texts(cohere_reranker(function).rerank_vector(QUERY, found())), function.ranking())
    same_texts(texts(cohere_reranker(function, top_n=TOP).rerank_vector(QUERY, found())), function.ranking()[:TOP])


@check("lancedb JinaReranker", "lancedb", "rerank")
def rerank_vector_and_hybrid(function: Function) -> None:
    """`top_n: null` is sent; a hybrid search merges two tables first."""
    reranker = jina(function).JinaReranker(api_key="any")
    same_texts(texts(reranker.rerank_vector(QUERY, found())), function.ranking())
    words = found(TOP).drop_columns(["_distance"]).append_column("_score", pyarrow.array([2.0, 1.0], pyarrow.float32()))
    same_texts(texts(reranker.rerank_hybrid(QUERY, found(), words)), function.ranking())


@check("lancedb JinaReranker", "lancedb", "rerank-keys")
def unknown_key(function: Function) -> None:
    """It raises what `detail` says."""
    with raises(RuntimeError, WRONG_KEY_MESSAGE):
        jina(function).JinaReranker(api_key=WRONG_KEY).rerank_vector(QUERY, found())
    same_texts(
        texts(jina(function).JinaReranker(api_key=function.key).rerank_vector(QUERY, found())), function.ranking()
    )


if __name__ == "__main__":
    main()
