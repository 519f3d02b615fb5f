"""Haystack: rankers of Jina, Cohere, vLLM and TEI, embedders of OpenAI, Jina, vLLM, Cohere and TEI."""

from collections.abc import Sequence
from typing import Any

import cohere
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
    same_texts,
    same_vectors,
)
from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret
from haystack_integrations.components.embedders.cohere import CohereTextEmbedder
from haystack_integrations.components.embedders.huggingface_api import HuggingFaceAPITextEmbedder
from haystack_integrations.components.embedders.jina import JinaTextEmbedder
from haystack_integrations.components.embedders.vllm import VLLMTextEmbedder
from haystack_integrations.components.rankers.cohere import CohereRanker
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from haystack_integrations.components.rankers.jina import JinaRanker
from haystack_integrations.components.rankers.vllm import VLLMRanker


def key(text: str = "any") -> Secret:
    """Haystack wraps keys."""
    return Secret.from_token(text)


def found() -> list[Document]:
    """Documents as a retriever hands them over."""
    return [Document(content=text) for text in DOCUMENTS]


def texts(answer: dict[str, Any]) -> list[tuple[str, float]]:
    """Text and score of each document."""
    return [(document.content, document.score) for document in answer["documents"]]


@check("haystack JinaRanker", "jina-haystack", "rerank")
def jina_run(function: Function) -> None:
    """All, and the best two; it needs `model` and `usage`."""
    ranker = JinaRanker(api_key=key(), base_url=f"{function.url}/v1/rerank")
    answer = ranker.run(query=QUERY, documents=found())
    same_texts(texts(answer), function.ranking())
    same(answer["meta"]["model"], "tiny/qwen2-mxbai")
    assert answer["meta"]["usage"]["total_tokens"] > len(DOCUMENTS)
    same_texts(texts(ranker.run(query=QUERY, documents=found(), top_k=TOP)), function.ranking()[:TOP])


@check("haystack JinaRanker", "jina-haystack", "rerank-keys")
async def jina_run_async_and_unknown_key(function: Function) -> None:
    """It raises what `detail` says."""
    url = f"{function.url}/v1/rerank"
    answer = await JinaRanker(api_key=key(function.key), base_url=url).run_async(query=QUERY, documents=found())
    same_texts(texts(answer), function.ranking())
    with raises(RuntimeError, WRONG_KEY_MESSAGE):
        await JinaRanker(api_key=key(WRONG_KEY), base_url=url).run_async(query=QUERY, documents=found())


@check("haystack CohereRanker", "cohere-haystack", "rerank")
def cohere_run(function: Function) -> None:
    """All, and the best two; `max_tokens_per_doc: 4096` is sent."""
    ranker = CohereRanker(api_key=key(), api_base_url=function.url)
    same_texts(texts(ranker.run(query=QUERY, documents=found())), function.ranking())
    same_texts(texts(ranker.run(query=QUERY, documents=found(), top_k=TOP)), function.ranking()[:TOP])


@check("haystack CohereRanker", "cohere-haystack", "rerank-keys")
def cohere_unknown_key(function: Function) -> None:
    """The SDK's own exception."""
    with raises(cohere.UnauthorizedError, WRONG_KEY_MESSAGE):
        CohereRanker(api_key=key(WRONG_KEY), api_base_url=function.url).run(query=QUERY, documents=found())


@check("haystack VLLMRanker", "vllm-haystack", "rerank")
def vllm_run(function: Function) -> None:
    """All, the best two, and further fields."""
    ranker = VLLMRanker(model="m", api_base_url=f"{function.url}/v1")
    same_texts(texts(ranker.run(query=QUERY, documents=found())), function.ranking())
    same_texts(texts(ranker.run(query=QUERY, documents=found(), top_k=TOP)), function.ranking()[:TOP])
    options = {"instruction": "Find texts about fish."}
    ranker = VLLMRanker(model="m", api_base_url=f"{function.url}/v1", extra_parameters=options)
    same_texts(texts(ranker.run(query=QUERY, documents=found())), function.ranking(**options))


@check("haystack VLLMRanker", "vllm-haystack", "rerank-keys")
def vllm_unknown_key(function: Function) -> None:
    """It raises what `detail` says."""
    with raises(RuntimeError, WRONG_KEY_MESSAGE):
        VLLMRanker(model="m", api_key=key(WRONG_KEY), api_base_url=f"{function.url}/v1").run(
            query=QUERY, documents=found()
        )


@check("haystack TEIRanker", "huggingface-api-haystack", "rerank")
def tei_run(function: Function) -> None:
    """All, the best two, raw scores."""
    ranker = HuggingFaceTEIRanker(url=function.url, token=None)
    same_texts(texts(ranker.run(query=QUERY, documents=found())), function.ranking())
    same_texts(texts(ranker.run(query=QUERY, documents=found(), top_k=TOP)), function.ranking()[:TOP])
    ranker = HuggingFaceTEIRanker(url=function.url, token=None, raw_scores=True)
    same_texts(texts(ranker.run(query=QUERY, documents=found())), function.ranking(raw_scores=True))


@check("haystack TEIRanker", "huggingface-api-haystack", "rerank-keys")
def tei_unknown_key(function: Function) -> None:
    """It raises with the body of the answer."""
    with raises(RuntimeError, "401", WRONG_KEY_MESSAGE):
        HuggingFaceTEIRanker(url=function.url, token=key(WRONG_KEY), max_retries=1).run(query=QUERY, documents=found())


def embedded(embedder: Any) -> list[Sequence[float]]:
    """The embedding of the query."""
    return [embedder.run(text=QUERY)["embedding"]]


@check("haystack OpenAI embedders", "haystack-ai", "embed")
def openai_embedders(function: Function) -> None:
    """A text, many documents, usage."""
    options = {"api_key": key(), "api_base_url": f"{function.url}/v1", "model": "m"}
    same_vectors(embedded(OpenAITextEmbedder(**options)), function.vectors([QUERY]))
    answer = OpenAIDocumentEmbedder(**options, progress_bar=False).run(documents=found())
    same_vectors([document.embedding for document in answer["documents"]], function.vectors())
    assert answer["meta"]["usage"]["prompt_tokens"] > len(DOCUMENTS)


@check("haystack JinaTextEmbedder", "jina-haystack", "embed")
def jina_embedder(function: Function) -> None:
    """Its task `retrieval.query` is the model's query prompt."""
    embedder = JinaTextEmbedder(api_key=key(), task="retrieval.query", base_url=f"{function.url}/v1/embeddings")
    same_vectors(embedded(embedder), function.vectors([QUERY], input_type="query"))


@check("haystack VLLMTextEmbedder", "vllm-haystack", "embed")
def vllm_embedder(function: Function) -> None:
    """The embedder asks for fewer dimensions."""
    embedder = VLLMTextEmbedder(model="m", api_base_url=f"{function.url}/v1", dimensions=8)
    same_vectors(embedded(embedder), function.vectors([QUERY], dimensions=8))


@check("haystack CohereTextEmbedder", "cohere-haystack", "embed")
def cohere_embedder(function: Function) -> None:
    """Queries get the model's prompt."""
    embedder = CohereTextEmbedder(api_key=key(), api_base_url=function.url)
    same_vectors(embedded(embedder), function.vectors([QUERY], input_type="query"))


@check("haystack TEI embedder", "huggingface-api-haystack", "embed")
def tei_embedder(function: Function) -> None:
    """`normalize: false` is sent: the direction is the same, the length is the model's."""
    embedder = HuggingFaceAPITextEmbedder(
        api_type="text_embeddings_inference", api_params={"url": f"{function.url}/embed"}, token=key(), normalize=True
    )
    same_vectors(embedded(embedder), function.vectors([QUERY]))


@check("haystack JinaRanker", "jina-haystack", "rerank")
def jina_score_threshold(function: Function) -> None:
    """Scores lie in [0, 1], so that a threshold means something."""
    threshold = function.ranking()[1][1]
    ranker = JinaRanker(api_key=key(), base_url=f"{function.url}/v1/rerank", score_threshold=threshold)
    kept = [(DOCUMENTS.index(text), score) for text, score in texts(ranker.run(query=QUERY, documents=found()))]
    same_ranking(kept, function.ranking()[:2])
    assert all(0 <= score <= 1 for _, score in function.ranking())


if __name__ == "__main__":
    main()
