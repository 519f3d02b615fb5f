"""The cohere SDK, major versions 5 and 7: rerank and embed of both its APIs, errors, async."""

import cohere
from cohere.core.api_error import ApiError
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
    together,
)

MODEL = "rerank-v3.5"


def v1(function: Function, key: str = "any") -> cohere.Client:
    """The first API."""
    return cohere.Client(api_key=key, base_url=function.url)


def v2(function: Function, key: str = "any") -> cohere.ClientV2:
    """The second API."""
    return cohere.ClientV2(api_key=key, base_url=function.url)


def ranking(answer: object) -> list[tuple[int, float]]:
    """Index and score."""
    return [(one.index, one.relevance_score) for one in answer.results]


@check("cohere", "cohere", "rerank")
def v1_rerank(function: Function) -> None:
    """Order, scores, billed units; no documents."""
    answer = v1(function).rerank(query=QUERY, documents=DOCUMENTS, model=MODEL)
    same_ranking(ranking(answer), function.ranking())
    same((answer.meta.billed_units.search_units, answer.results[0].document), (1, None))
    assert answer.id and answer.meta.tokens.input_tokens > len(DOCUMENTS)


@check("cohere", "cohere", "rerank")
def v1_rerank_top_n_with_documents(function: Function) -> None:
    """The best two, with their texts."""
    answer = v1(function).rerank(query=QUERY, documents=DOCUMENTS, model=MODEL, top_n=TOP, return_documents=True)
    same_ranking(ranking(answer), function.ranking()[:TOP])
    same([one.document.text for one in answer.results], [DOCUMENTS[one.index] for one in answer.results])


@check("cohere", "cohere", "rerank")
def v1_rerank_objects_by_fields(function: Function) -> None:
    """Objects with `text`, and `rank_fields`."""
    answer = v1(function).rerank(query=QUERY, documents=[{"text": text} for text in DOCUMENTS], model=MODEL)
    same_ranking(ranking(answer), function.ranking())
    objects = [{"title": "t", "body": text} for text in DOCUMENTS]
    answer = v1(function).rerank(query=QUERY, documents=objects, model=MODEL, rank_fields=["title", "body"])
    same_ranking(ranking(answer), function.ranking(documents=[f"t\n{text}" for text in DOCUMENTS]))


@check("cohere", "cohere", "rerank")
def v2_rerank(function: Function) -> None:
    """Order, scores, top_n, limits on documents."""
    answer = v2(function).rerank(model=MODEL, query=QUERY, documents=DOCUMENTS)
    same_ranking(ranking(answer), function.ranking())
    answer = v2(function).rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, top_n=TOP, max_tokens_per_doc=4)
    same_ranking(ranking(answer), function.ranking(max_tokens_per_doc=4)[:TOP])


@check("cohere", "cohere", "rerank")
def sixteen_reranks_at_once(function: Function) -> None:
    """Sixteen threads ask; each gets its own answer."""
    expected = [function.ranking(documents=numbered(number)) for number in range(CONCURRENCY)]
    sdk = v2(function)

    def ask(number: int) -> None:
        same_ranking(ranking(sdk.rerank(model=MODEL, query=QUERY, documents=numbered(number))), expected[number])

    together(ask)


@check("cohere", "cohere", "rerank")
async def sixteen_async_reranks_at_once(function: Function) -> None:
    """Sixteen tasks of one loop ask; each gets its own answer."""
    expected = [function.ranking(documents=numbered(number)) for number in range(CONCURRENCY)]
    async with cohere.AsyncClientV2(api_key="any", base_url=function.url) as sdk:
        answers = await gathered(lambda number: sdk.rerank(model=MODEL, query=QUERY, documents=numbered(number)))
    for answer, wanted in zip(answers, expected, strict=True):
        same_ranking(ranking(answer), wanted)


@check("cohere", "cohere", "rerank")
def bad_request(function: Function) -> None:
    """Both APIs raise BadRequestError with the server's words."""
    for client in (v1(function), v2(function)):
        with raises(cohere.BadRequestError, "documents: expected at least one text") as caught:
            client.rerank(model=MODEL, query=QUERY, documents=[])
        same((caught[0].status_code, caught[0].body["message"]), (400, caught[0].body["error"]["message"]))


@check("cohere", "cohere", "rerank-keys")
def unknown_key(function: Function) -> None:
    """The client raises UnauthorizedError; the right key works."""
    with raises(cohere.UnauthorizedError, WRONG_KEY_MESSAGE):
        v2(function, WRONG_KEY).rerank(model=MODEL, query=QUERY, documents=DOCUMENTS)
    answer = v2(function, function.key).rerank(model=MODEL, query=QUERY, documents=DOCUMENTS)
    same_ranking(ranking(answer), function.ranking())


@check("cohere", "cohere", "rerank")
def unknown_route_is_an_error(function: Function) -> None:
    """A reranker does not embed."""
    with raises(ApiError, "404", "is not answered here"):
        v2(function).embed(model="m", texts=["a"], input_type="search_query", embedding_types=["float"])


@check("cohere", "cohere", "embed")
def v1_embed_floats(function: Function) -> None:
    """A plain list unless types are named; usage in meta. The client sends 96 texts a request."""
    texts = [f"{number}. {DOCUMENTS[number % len(DOCUMENTS)]}" for number in range(100)]
    answer = v1(function).embed(texts=texts, model="m", input_type="search_document")
    same_vectors(answer.embeddings, function.vectors(texts))
    assert answer.meta.billed_units.input_tokens > len(texts)


@check("cohere", "cohere", "embed")
def v1_embed_by_type(function: Function) -> None:
    """Several types of number at once."""
    types = ["float", "int8", "ubinary"]
    answer = v1(function).embed(texts=DOCUMENTS, model="m", input_type="search_document", embedding_types=types)
    same_vectors(answer.embeddings.float_, function.vectors())
    same_vectors(answer.embeddings.int8, function.vectors(output_dtype="int8"))
    same_vectors(answer.embeddings.ubinary, function.vectors(output_dtype="ubinary"))


@check("cohere", "cohere", "embed")
def v2_embed(function: Function) -> None:
    """Queries under the model's prompt, fewer dimensions, `inputs` of content."""
    for kind in ("query", "document"):
        answer = v2(function).embed(model="m", texts=DOCUMENTS, input_type=f"search_{kind}", embedding_types=["float"])
        same_vectors(answer.embeddings.float_, function.vectors(input_type=kind))
    inputs = [{"content": [{"type": "text", "text": text}]} for text in DOCUMENTS]
    answer = v2(function).embed(
        model="m", inputs=inputs, input_type="search_document", embedding_types=["float"], output_dimension=8
    )
    same_vectors(answer.embeddings.float_, function.vectors(dimensions=8))


@check("cohere", "cohere", "embed")
async def sixteen_async_embeds_at_once(function: Function) -> None:
    """Each gets its own answer."""
    expected = [function.vectors(numbered(number)) for number in range(CONCURRENCY)]
    async with cohere.AsyncClientV2(api_key="any", base_url=function.url) as sdk:
        answers = await gathered(
            lambda number: sdk.embed(
                model="m", texts=numbered(number), input_type="search_document", embedding_types=["float"]
            )
        )
    for answer, wanted in zip(answers, expected, strict=True):
        same_vectors(answer.embeddings.float_, wanted)


@check("cohere", "cohere", "embed")
def embed_too_long_without_truncation(function: Function) -> None:
    """`truncate="NONE"` refuses what does not fit."""
    with raises(cohere.BadRequestError, "texts[0]", "maximum context length"):
        v2(function).embed(
            model="m",
            texts=["too long " * 60_000],
            input_type="search_document",
            embedding_types=["float"],
            truncate="NONE",
        )


@check("cohere", "cohere", "embed-keys")
def unknown_key_of_an_embedder(function: Function) -> None:
    """The client raises UnauthorizedError."""
    with raises(cohere.UnauthorizedError, WRONG_KEY_MESSAGE):
        v2(function, WRONG_KEY).embed(model="m", texts=["a"], input_type="search_document", embedding_types=["float"])


if __name__ == "__main__":
    main()
