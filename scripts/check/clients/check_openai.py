"""The openai SDK: embeddings, models, errors, async, and its untyped `post` for reranking."""

import asyncio

import openai
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
    is_unit,
    main,
    numbered,
    raises,
    same,
    same_ranking,
    same_vectors,
    together,
)


def client(function: Function, key: str = "any") -> openai.OpenAI:
    """A client without retries, so that an error is seen at once."""
    return openai.OpenAI(base_url=f"{function.url}/v1", api_key=key, max_retries=0)


def async_client(function: Function) -> openai.AsyncOpenAI:
    """The same, async."""
    return openai.AsyncOpenAI(base_url=f"{function.url}/v1", api_key="any", max_retries=0)


def rerank_body(documents: list[str] = DOCUMENTS, **options: object) -> dict[str, object]:
    """A body for `post`, which the SDK offers for routes that it has no method for."""
    return {"query": QUERY, "documents": documents, **options}


def ranking(answer: object) -> list[tuple[int, float]]:
    """Index and score."""
    return [(one["index"], one["relevance_score"]) for one in answer["results"]]


@check("openai", "openai", "rerank")
def rerank_by_post(function: Function) -> None:
    """Order, scores, top_n, usage."""
    answer = client(function).post("/rerank", body=rerank_body(top_n=TOP), cast_to=object)
    same_ranking(ranking(answer), function.ranking()[:TOP])
    assert answer["usage"]["prompt_tokens"] > 0


@check("openai", "openai", "rerank")
def sixteen_reranks_at_once(function: Function) -> None:
    """Sixteen threads ask; each gets its own answer."""
    expected = [function.ranking(documents=numbered(number)) for number in range(CONCURRENCY)]
    sdk = client(function)

    def ask(number: int) -> None:
        answer = sdk.post("/rerank", body=rerank_body(numbered(number)), cast_to=object)
        same_ranking(ranking(answer), expected[number])

    together(ask)


@check("openai", "openai", "rerank")
async def sixteen_async_reranks_at_once(function: Function) -> None:
    """Sixteen tasks of one loop ask; each gets its own answer."""
    expected = [function.ranking(documents=numbered(number)) for number in range(CONCURRENCY)]
    async with async_client(function) as sdk:
        answers = await gathered(lambda number: sdk.post("/rerank", body=rerank_body(numbered(number)), cast_to=object))
    for answer, wanted in zip(answers, expected, strict=True):
        same_ranking(ranking(answer), wanted)


@check("openai", "openai", "rerank")
def models_are_listed(function: Function) -> None:
    """Models are listed with their fields."""
    (model,) = client(function).models.list().data
    same((model.id, model.object), ("tiny/qwen2-mxbai", "model"))
    assert model.created > 0 and model.owned_by


@check("openai", "openai", "rerank")
def bad_request_has_code_and_param(function: Function) -> None:
    """The client raises BadRequestError with code and param."""
    with raises(openai.BadRequestError, "documents: expected at least one text") as caught:
        client(function).post("/rerank", body=rerank_body([]), cast_to=object)
    same((caught[0].param, caught[0].type), ("documents", "invalid_request_error"))
    assert caught[0].code and caught[0].request_id, "the id of the request is kept"


@check("openai", "openai", "rerank")
def unknown_route_is_not_found(function: Function) -> None:
    """A reranker does not embed."""
    with raises(openai.NotFoundError, "is not answered here"):
        client(function).embeddings.create(model="m", input="a")


@check("openai", "openai", "rerank-keys")
def unknown_key_is_an_authentication_error(function: Function) -> None:
    """The client raises AuthenticationError; the right key works."""
    with raises(openai.AuthenticationError, WRONG_KEY_MESSAGE):
        client(function, WRONG_KEY).models.list()
    answer = client(function, function.key).post("/rerank", body=rerank_body(), cast_to=object)
    same_ranking(ranking(answer), function.ranking())


@check("openai", "openai", "embed")
def embeddings_as_base64_and_as_floats(function: Function) -> None:
    """The SDK asks for base64 unless told otherwise."""
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = client(function).embeddings.create(model="m", input=DOCUMENTS, **options)
        found = [one.embedding for one in answer.data]
        if options.get("encoding_format") == "base64":
            assert all(isinstance(one, str) for one in found), "left encoded when asked for explicitly"
        else:
            same_vectors(found, function.vectors())
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0 and answer.model


@check("openai", "openai", "embed")
def one_text(function: Function) -> None:
    """Not in a list."""
    (one,) = client(function).embeddings.create(model="m", input=DOCUMENTS[0]).data
    same_vectors([one.embedding], function.vectors(DOCUMENTS[:1]))


@check("openai", "openai", "embed")
def token_ids(function: Function) -> None:
    """The ids of a text embed as the text."""
    _, _, (tokens,) = function.plain("POST", "/tokenize", {"inputs": DOCUMENTS[0]})
    ids = [token["id"] for token in tokens]
    answer = client(function).embeddings.create(model="m", input=[ids, ids])
    same_vectors([one.embedding for one in answer.data], function.vectors(DOCUMENTS[:1]) * 2)


@check("openai", "openai", "embed")
def dimensions(function: Function) -> None:
    """Cut and normalised."""
    answer = client(function).embeddings.create(model="m", input=DOCUMENTS, dimensions=8)
    same_vectors([one.embedding for one in answer.data], function.vectors(dimensions=8))
    is_unit(answer.data[0].embedding)


@check("openai", "openai", "embed")
def sixteen_embeddings_at_once(function: Function) -> None:
    """Sixteen threads ask; each gets its own answer."""
    expected = [function.vectors(numbered(number)) for number in range(CONCURRENCY)]
    sdk = client(function)

    def ask(number: int) -> None:
        answer = sdk.embeddings.create(model="m", input=numbered(number))
        same_vectors([one.embedding for one in answer.data], expected[number])

    together(ask)


@check("openai", "openai", "embed")
async def sixteen_async_embeddings_at_once(function: Function) -> None:
    """Sixteen tasks of one loop ask; each gets its own answer."""
    expected = [await asyncio.to_thread(function.vectors, numbered(number)) for number in range(CONCURRENCY)]
    async with async_client(function) as sdk:
        answers = await gathered(lambda number: sdk.embeddings.create(model="m", input=numbered(number)))
    for answer, wanted in zip(answers, expected, strict=True):
        same_vectors([one.embedding for one in answer.data], wanted)


@check("openai", "openai", "embed")
def nothing_to_embed_is_a_bad_request(function: Function) -> None:
    """The client raises BadRequestError with code and param."""
    with raises(openai.BadRequestError, "input") as caught:
        client(function).embeddings.create(model="m", input=[])
    same((caught[0].code, caught[0].param), ("empty_input", "input"))


@check("openai", "openai", "embed")
def an_input_that_is_too_long_is_a_bad_request(function: Function) -> None:
    """The error has the phrases that callers look for."""
    with raises(openai.BadRequestError, "maximum context length is", "input[1]") as caught:
        client(function).embeddings.create(model="m", input=["a", "too long " * 60_000])
    same(caught[0].code, "context_length_exceeded")


@check("openai", "openai", "embed-keys")
def unknown_key_of_an_embedder(function: Function) -> None:
    """The client raises AuthenticationError; the right key works."""
    with raises(openai.AuthenticationError, WRONG_KEY_MESSAGE):
        client(function, WRONG_KEY).embeddings.create(model="m", input="a")
    (one,) = client(function, function.key).embeddings.create(model="m", input=DOCUMENTS[:1]).data
    same_vectors([one.embedding], function.vectors(DOCUMENTS[:1]))


@check("openai", "openai", "embed-real")
def a_real_model_knows_what_is_near(function: Function) -> None:
    """all-MiniLM-L6-v2 puts the answer nearest to the question."""
    answer = client(function).embeddings.create(model="m", input=[QUERY, *DOCUMENTS])
    query, *documents = [one.embedding for one in answer.data]
    cosines = [sum(a * b for a, b in zip(query, document, strict=True)) for document in documents]
    same(cosines.index(max(cosines)), 1)


if __name__ == "__main__":
    main()
