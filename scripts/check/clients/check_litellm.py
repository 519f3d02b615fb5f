"""LiteLLM: one call, six providers for reranking, one for embeddings."""

from typing import Any

import litellm
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

litellm.suppress_debug_info = True


def rerank(function: Function, provider: str, path: str = "", key: str = "any", **options: Any) -> Any:
    """Reranks without retries."""
    return litellm.rerank(
        model=f"{provider}/m",
        query=QUERY,
        documents=DOCUMENTS,
        api_base=function.url + path,
        api_key=key,
        max_retries=0,
        **options,
    )


def ranking(answer: Any) -> list[tuple[int, float]]:
    """Index and score."""
    return [(one["index"], one["relevance_score"]) for one in answer.results]


def texts_are_there(answer: Any) -> None:
    """Every result carries the text of its index."""
    same([one["document"]["text"] for one in answer.results], [DOCUMENTS[one["index"]] for one in answer.results])


def all_and_top(function: Function, provider: str, path: str = "", **options: Any) -> None:
    """All, then the best two."""
    same_ranking(ranking(rerank(function, provider, path, **options)), function.ranking())
    same_ranking(ranking(rerank(function, provider, path, top_n=TOP, **options)), function.ranking()[:TOP])


@check("litellm hosted_vllm/", "litellm", "rerank")
def vllm_with_and_without_documents(function: Function) -> None:
    """Documents are objects or absent."""
    for wanted in (True, False):
        all_and_top(function, "hosted_vllm", return_documents=wanted)
    texts_are_there(rerank(function, "hosted_vllm"))


@check("litellm jina_ai/", "litellm", "rerank")
def jina_with_and_without_documents(function: Function) -> None:
    """It asks for documents unless told otherwise."""
    for wanted in (True, False):
        all_and_top(function, "jina_ai", return_documents=wanted)
    answer = rerank(function, "jina_ai")
    texts_are_there(answer)
    assert answer.meta["billed_units"]["total_tokens"] > len(DOCUMENTS), "what it makes of usage"


@check("litellm cohere/", "litellm", "rerank")
def cohere_with_and_without_documents(function: Function) -> None:
    """The client asks `/v2/rerank`."""
    for wanted in (True, False):
        all_and_top(function, "cohere", "/v2/rerank", return_documents=wanted)


@check("litellm infinity/", "litellm", "rerank")
def infinity_without_documents(function: Function) -> None:
    """It wants documents as strings where all others want objects, so it must not ask for them."""
    all_and_top(function, "infinity", return_documents=False)
    assert rerank(function, "infinity", return_documents=False).meta["tokens"]["input_tokens"] > len(DOCUMENTS)


@check("litellm huggingface/", "litellm", "rerank")
def tei_with_top_n(function: Function) -> None:
    """TEI's shape with `top_n` and `truncate: false`; texts are there."""
    all_and_top(function, "huggingface")
    texts_are_there(rerank(function, "huggingface"))


@check("litellm voyage/", "litellm", "rerank")
def voyage_with_top_n(function: Function) -> None:
    """`top_k` is sent, so `data` is there."""
    answer = rerank(function, "voyage", top_n=TOP)
    same_ranking(ranking(answer), function.ranking()[:TOP])
    texts_are_there(answer)


@check("litellm voyage/", "litellm", "rerank-data")
def voyage_without_top_n(function: Function) -> None:
    """Nothing in the request tells it from Jina's; the server is set to RETURN_DATA=always."""
    answer = rerank(function, "voyage")
    same_ranking(ranking(answer), function.ranking())
    texts_are_there(answer)


@check("litellm hosted_vllm/", "litellm", "rerank")
async def sixteen_async_reranks_at_once(function: Function) -> None:
    """Each gets its own answer."""
    expected = [function.ranking(documents=numbered(number)) for number in range(CONCURRENCY)]
    answers = await gathered(
        lambda number: litellm.arerank(
            model="hosted_vllm/m", query=QUERY, documents=numbered(number), api_base=function.url, api_key="any"
        )
    )
    for answer, wanted in zip(answers, expected, strict=True):
        same_ranking(ranking(answer), wanted)


@check("litellm, six providers", "litellm", "rerank-keys")
def unknown_key_and_right_key(function: Function) -> None:
    """Its exception, whichever it makes of the status, shows the server's words."""
    for provider, path, options in (
        ("hosted_vllm", "", {}),
        ("jina_ai", "", {}),
        ("cohere", "/v2/rerank", {}),
        ("infinity", "", {"return_documents": False}),
        ("huggingface", "", {}),
        ("voyage", "", {"top_n": TOP}),
    ):
        with raises(Exception, WRONG_KEY_MESSAGE):
            rerank(function, provider, path, WRONG_KEY, **options)
        right = rerank(function, provider, path, function.key, **options)
        same_ranking(ranking(right), function.ranking()[: options.get("top_n")])


@check("litellm openai/", "litellm", "embed")
def embedding(function: Function) -> None:
    """`encoding_format: null` is sent; usage is there."""
    answer = litellm.embedding(model="openai/m", input=DOCUMENTS, api_base=f"{function.url}/v1", api_key="any")
    same_vectors([one["embedding"] for one in answer.data], function.vectors())
    assert answer.usage.prompt_tokens > len(DOCUMENTS)


@check("litellm openai/", "litellm", "embed")
async def async_embedding_at_fewer_dimensions(function: Function) -> None:
    """Cut and normalised."""
    answer = await litellm.aembedding(
        model="openai/text-embedding-3-small",
        input=DOCUMENTS,
        dimensions=8,
        api_base=f"{function.url}/v1",
        api_key="any",
    )
    same_vectors([one["embedding"] for one in answer.data], function.vectors(dimensions=8))


@check("litellm openai/", "litellm", "embed")
def an_input_that_is_too_long(function: Function) -> None:
    """Recognised as such by a phrase of the message."""
    with raises(litellm.ContextWindowExceededError, "maximum context length is"):
        litellm.embedding(
            model="openai/m",
            input=["too long " * 60_000],
            api_base=f"{function.url}/v1",
            api_key="any",
            max_retries=0,
        )


@check("litellm openai/", "litellm", "embed-keys")
def unknown_key_of_an_embedder(function: Function) -> None:
    """The client raises AuthenticationError."""
    with raises(litellm.AuthenticationError, WRONG_KEY_MESSAGE):
        litellm.embedding(
            model="openai/m", input=DOCUMENTS, api_base=f"{function.url}/v1", api_key=WRONG_KEY, max_retries=0
        )


if __name__ == "__main__":
    main()
