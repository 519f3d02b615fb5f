"""The mixedbread SDK: rerank and embed."""

import mixedbread
from harness import (
    DOCUMENTS,
    QUERY,
    TOP,
    WRONG_KEY,
    WRONG_KEY_MESSAGE,
    Function,
    check,
    main,
    raises,
    same,
    same_ranking,
    same_vectors,
)


def client(function: Function, key: str = "any") -> mixedbread.Mixedbread:
    """A client without retries."""
    return mixedbread.Mixedbread(api_key=key, base_url=function.url, max_retries=0)


def ranking(answer: mixedbread.types.RerankResponse) -> list[tuple[int, float]]:
    """Index and score."""
    return [(one.index, one.score) for one in answer.data]


@check("mixedbread", "mixedbread", "rerank")
def rerank(function: Function) -> None:
    """Order, scores, the fields of the answer."""
    answer = client(function).rerank(model="m", query=QUERY, input=DOCUMENTS)
    same_ranking(ranking(answer), function.ranking())
    same((answer.object, answer.top_k, answer.return_input), ("list", len(DOCUMENTS), False))
    assert answer.usage.prompt_tokens > len(DOCUMENTS)


@check("mixedbread", "mixedbread", "rerank")
def rerank_with_top_k_and_input(function: Function) -> None:
    """The best two, with their texts."""
    answer = client(function).rerank(model="m", query=QUERY, input=DOCUMENTS, top_k=TOP, return_input=True)
    same_ranking(ranking(answer), function.ranking()[:TOP])
    same([one.input for one in answer.data], [DOCUMENTS[one.index] for one in answer.data])


@check("mixedbread", "mixedbread", "rerank")
def rerank_objects_by_fields(function: Function) -> None:
    """`rank_fields` are joined by line breaks."""
    objects = [{"title": "t", "body": text} for text in DOCUMENTS]
    answer = client(function).rerank(model="m", query=QUERY, input=objects, rank_fields=["title", "body"])
    same_ranking(ranking(answer), function.ranking(documents=[f"t\n{text}" for text in DOCUMENTS]))


@check("mixedbread", "mixedbread", "rerank")
async def async_rerank(function: Function) -> None:
    """The same answer."""
    async with mixedbread.AsyncMixedbread(api_key="any", base_url=function.url, max_retries=0) as sdk:
        answer = await sdk.rerank(model="m", query=QUERY, input=DOCUMENTS)
    same_ranking(ranking(answer), function.ranking())


@check("mixedbread", "mixedbread", "rerank")
def bad_request(function: Function) -> None:
    """The client raises BadRequestError with the server's words."""
    with raises(mixedbread.BadRequestError, "input: expected at least one text"):
        client(function).rerank(model="m", query=QUERY, input=[])


@check("mixedbread", "mixedbread", "rerank-keys")
def unknown_key(function: Function) -> None:
    """The client raises its own error; the right key works."""
    with raises(mixedbread.AuthenticationError, WRONG_KEY_MESSAGE):
        client(function, WRONG_KEY).rerank(model="m", query=QUERY, input=DOCUMENTS)
    answer = client(function, function.key).rerank(model="m", query=QUERY, input=DOCUMENTS)
    same_ranking(ranking(answer), function.ranking())


@check("mixedbread", "mixedbread", "embed")
def embed(function: Function) -> None:
    """Vectors, usage."""
    answer = client(function).embed(model="m", input=DOCUMENTS)
    same_vectors([one.embedding for one in answer.data], function.vectors())
    assert answer.usage.prompt_tokens > len(DOCUMENTS)


@check("mixedbread", "mixedbread", "embed")
def embed_fewer_dimensions(function: Function) -> None:
    """Cut and normalised."""
    answer = client(function).embed(model="m", input=DOCUMENTS, dimensions=8, normalized=True, encoding_format="float")
    same_vectors([one.embedding for one in answer.data], function.vectors(dimensions=8))


@check("mixedbread", "mixedbread", "embed")
def embed_small_numbers(function: Function) -> None:
    """`encoding_format` names a number type here."""
    answer = client(function).embed(model="m", input=DOCUMENTS, encoding_format="int8")
    same_vectors([one.embedding for one in answer.data], function.vectors(output_dtype="int8"))


if __name__ == "__main__":
    main()
