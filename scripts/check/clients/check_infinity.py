"""infinity_client: rerank, embeddings, models, health."""

from harness import (
    DOCUMENTS,
    QUERY,
    TOP,
    WRONG_KEY,
    Function,
    check,
    main,
    raises,
    same,
    same_ranking,
    same_texts,
    same_vectors,
)
from infinity_client import AuthenticatedClient, Client
from infinity_client.api.default import embeddings, health, models, rerank
from infinity_client.errors import UnexpectedStatus
from infinity_client.models import OpenAIEmbeddingInputText, RerankInput, ReRankResult


def client(function: Function) -> Client:
    """One that raises when the answer is not documented."""
    return Client(base_url=function.url, raise_on_unexpected_status=True)


def ranking(answer: ReRankResult) -> list[tuple[int, float]]:
    """Index and score."""
    return [(one.index, one.relevance_score) for one in answer.results]


@check("infinity_client", "infinity-client", "rerank")
def rerank_all(function: Function) -> None:
    """Order, scores, usage, model."""
    answer = rerank.sync(client=client(function), body=RerankInput(query=QUERY, documents=DOCUMENTS))
    same_ranking(ranking(answer), function.ranking())
    assert answer.usage.total_tokens > len(DOCUMENTS) and answer.model == "tiny/qwen2-mxbai"


@check("infinity_client", "infinity-client", "rerank")
def rerank_top_n_with_documents(function: Function) -> None:
    """The best two. Documents come as Cohere's objects, which this client hands out as they are."""
    body = RerankInput(query=QUERY, documents=DOCUMENTS, top_n=TOP, return_documents=True)
    answer = rerank.sync(client=client(function), body=body)
    same_ranking(ranking(answer), function.ranking()[:TOP])
    same_texts([(one.document["text"], one.relevance_score) for one in answer.results], function.ranking()[:TOP])


@check("infinity_client", "infinity-client", "rerank")
async def async_raw_scores(function: Function) -> None:
    """Logits."""
    body = RerankInput(query=QUERY, documents=DOCUMENTS, raw_scores=True)
    answer = await rerank.asyncio(client=client(function), body=body)
    same_ranking(ranking(answer), function.ranking(raw_scores=True))


@check("infinity_client", "infinity-client", "rerank")
def models_and_health(function: Function) -> None:
    """Models need `stats` and infinity's name as their owner."""
    same([model.id for model in models.sync(client=client(function)).data], ["tiny/qwen2-mxbai"])
    assert health.sync(client=client(function))["unix"] > 0


@check("infinity_client", "infinity-client", "rerank")
def bad_request(function: Function) -> None:
    """The client raises UnexpectedStatus with the server's words."""
    with raises(UnexpectedStatus, "400", "documents: expected at least one text"):
        rerank.sync(client=client(function), body=RerankInput(query=QUERY, documents=[]))


@check("infinity_client", "infinity-client", "rerank-keys")
def unknown_key(function: Function) -> None:
    """The client raises UnexpectedStatus; the right key works."""
    body = RerankInput(query=QUERY, documents=DOCUMENTS)
    wrong = AuthenticatedClient(base_url=function.url, token=WRONG_KEY, raise_on_unexpected_status=True)
    with raises(UnexpectedStatus, "401"):
        rerank.sync(client=wrong, body=body)
    right = AuthenticatedClient(base_url=function.url, token=function.key, raise_on_unexpected_status=True)
    same_ranking(ranking(rerank.sync(client=right, body=body)), function.ranking())


@check("infinity_client", "infinity-client", "embed")
def embed(function: Function) -> None:
    """It sends `dimensions: 0` and `modality: text`."""
    answer = embeddings.sync(client=client(function), body=OpenAIEmbeddingInputText(input_=DOCUMENTS))
    same_vectors([one.embedding for one in answer.data], function.vectors())
    assert answer.usage.prompt_tokens > len(DOCUMENTS)


@check("infinity_client", "infinity-client", "embed")
def embedding_models(function: Function) -> None:
    """The models of an embedder are listed as those of rerankers are."""
    assert models.sync(client=client(function)).data[0].stats is not None


if __name__ == "__main__":
    main()
