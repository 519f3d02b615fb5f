"""The voyageai SDK: rerank and embed."""

import voyageai
from harness import (
    CONCURRENCY,
    DOCUMENTS,
    QUERY,
    TOP,
    WRONG_KEY,
    WRONG_KEY_MESSAGE,
    Function,
    check,
    gathered,
    main,
    numbered,
    raises,
    same,
    same_ranking,
    same_vectors,
)
from voyageai import error


def client(function: Function, key: str = "any") -> voyageai.Client:
    """A client without retries."""
    return voyageai.Client(api_key=key, base_url=f"{function.url}/v1")


@check("voyageai", "voyageai", "rerank")
def rerank(function: Function) -> None:
    """`top_k` null is sent and means all; documents are the caller's own; usage is there."""
    answer = client(function).rerank(QUERY, DOCUMENTS, model="rerank-2")
    same_ranking([(one.index, one.relevance_score) for one in answer.results], function.ranking())
    same([one.document for one in answer.results], [DOCUMENTS[index] for index, _ in function.ranking()])
    assert answer.total_tokens > len(DOCUMENTS)


@check("voyageai", "voyageai", "rerank")
def rerank_with_top_k(function: Function) -> None:
    """The best two."""
    answer = client(function).rerank(QUERY, DOCUMENTS, model="rerank-2", top_k=TOP)
    same_ranking([(one.index, one.relevance_score) for one in answer.results], function.ranking()[:TOP])


@check("voyageai", "voyageai", "rerank")
async def sixteen_async_reranks_at_once(function: Function) -> None:
    """Each gets its own answer."""
    expected = [function.ranking(documents=numbered(number)) for number in range(CONCURRENCY)]
    sdk = voyageai.AsyncClient(api_key="any", base_url=f"{function.url}/v1")
    answers = await gathered(lambda number: sdk.rerank(QUERY, numbered(number), model="rerank-2"))
    for answer, wanted in zip(answers, expected, strict=True):
        same_ranking([(one.index, one.relevance_score) for one in answer.results], wanted)


@check("voyageai", "voyageai", "rerank")
def too_long_without_truncation(function: Function) -> None:
    """`truncation=False` refuses what does not fit."""
    with raises(error.InvalidRequestError, "maximum context length is", "documents"):
        client(function).rerank(QUERY, ["long " * 40_000], model="rerank-2", truncation=False)


@check("voyageai", "voyageai", "rerank")
def bad_request(function: Function) -> None:
    """The client raises InvalidRequestError with the server's words."""
    with raises(error.InvalidRequestError, "documents: expected at least one text"):
        client(function).rerank(QUERY, [], model="rerank-2")


@check("voyageai", "voyageai", "rerank-keys")
def unknown_key(function: Function) -> None:
    """The client raises its own error; the right key works."""
    with raises(error.AuthenticationError, WRONG_KEY_MESSAGE):
        client(function, WRONG_KEY).rerank(QUERY, DOCUMENTS, model="rerank-2")
    answer = client(function, function.key).rerank(QUERY, DOCUMENTS, model="rerank-2")
    same_ranking([(one.index, one.relevance_score) for one in answer.results], function.ranking())


@check("voyageai", "voyageai", "embed")
def embed_queries_and_documents(function: Function) -> None:
    """Each under the model's own prompt."""
    for kind in (None, "query", "document"):
        answer = client(function).embed(DOCUMENTS, model="voyage-3", input_type=kind)
        same_vectors(answer.embeddings, function.vectors(**({"input_type": kind} if kind else {})))
        assert answer.total_tokens > len(DOCUMENTS)


@check("voyageai", "voyageai", "embed")
def embed_small_numbers(function: Function) -> None:
    """int8 and packed bits, at fewer dimensions."""
    answer = client(function).embed(DOCUMENTS, model="voyage-3", output_dtype="int8", output_dimension=8)
    same_vectors(answer.embeddings, function.vectors(dimensions=8, output_dtype="int8"))
    assert all(isinstance(value, int) for vector in answer.embeddings for value in vector)
    answer = client(function).embed(DOCUMENTS, model="voyage-3", output_dtype="ubinary", output_dimension=8)
    same([len(vector) for vector in answer.embeddings], [1] * len(DOCUMENTS))


@check("voyageai", "voyageai", "embed-keys")
def unknown_key_of_an_embedder(function: Function) -> None:
    """The client raises its own error; the right key works."""
    with raises(error.AuthenticationError, WRONG_KEY_MESSAGE):
        client(function, WRONG_KEY).embed(DOCUMENTS, model="voyage-3")
    same_vectors(client(function, function.key).embed(DOCUMENTS, model="voyage-3").embeddings, function.vectors())


if __name__ == "__main__":
    main()
