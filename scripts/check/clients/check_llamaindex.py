"""LlamaIndex: rerankers as node postprocessors, embeddings."""

import cohere
import openai
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
    same_texts,
    same_vectors,
)
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.cohere import CohereEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

ALL = len(DOCUMENTS)


def found() -> list[NodeWithScore]:
    """Nodes as a retriever hands them over."""
    return [NodeWithScore(node=TextNode(text=text), score=0.0) for text in DOCUMENTS]


def texts(nodes: list[NodeWithScore]) -> list[tuple[str, float]]:
    """Text and score of each node."""
    return [(node.text, node.score) for node in nodes]


@check("llama-index TEI rerank", "llama-index-postprocessor-tei-rerank", "rerank")
def tei_rerank(function: Function) -> None:
    """It needs every result, whatever its top_n."""
    for top in (ALL, TOP):
        reranker = TextEmbeddingInference(base_url=function.url, top_n=top)
        same_texts(texts(reranker.postprocess_nodes(found(), query_str=QUERY)), function.ranking()[:top])


@check("llama-index TEI rerank", "llama-index-postprocessor-tei-rerank", "rerank-keys")
def tei_rerank_with_a_bare_key(function: Function) -> None:
    """The key is sent without `Bearer`; a wrong one shows as an assertion, whatever the answer."""
    reranker = TextEmbeddingInference(base_url=function.url, top_n=ALL, auth_token=function.key)
    same_texts(texts(reranker.postprocess_nodes(found(), query_str=QUERY)), function.ranking())
    with raises(AssertionError):
        TextEmbeddingInference(base_url=function.url, auth_token=WRONG_KEY).postprocess_nodes(found(), query_str=QUERY)


@check("llama-index JinaRerank", "llama-index-postprocessor-jinaai-rerank", "rerank")
def jina_rerank(function: Function) -> None:
    """All, and the best two."""
    for top in (ALL, TOP):
        reranker = JinaRerank(base_url=f"{function.url}/v1", api_key="any", top_n=top)
        same_texts(texts(reranker.postprocess_nodes(found(), query_str=QUERY)), function.ranking()[:top])


@check("llama-index JinaRerank", "llama-index-postprocessor-jinaai-rerank", "rerank-keys")
def jina_rerank_unknown_key(function: Function) -> None:
    """It raises what `detail` says."""
    with raises(RuntimeError, WRONG_KEY_MESSAGE):
        JinaRerank(base_url=f"{function.url}/v1", api_key=WRONG_KEY).postprocess_nodes(found(), query_str=QUERY)


@check("llama-index CohereRerank", "llama-index-postprocessor-cohere-rerank", "rerank")
def cohere_rerank(function: Function) -> None:
    """All, and the best two."""
    for top in (ALL, TOP):
        reranker = CohereRerank(base_url=function.url, api_key="any", top_n=top)
        same_texts(texts(reranker.postprocess_nodes(found(), query_str=QUERY)), function.ranking()[:top])


@check("llama-index CohereRerank", "llama-index-postprocessor-cohere-rerank", "rerank-keys")
def cohere_rerank_unknown_key(function: Function) -> None:
    """The SDK's own exception."""
    with raises(cohere.UnauthorizedError, WRONG_KEY_MESSAGE):
        CohereRerank(base_url=function.url, api_key=WRONG_KEY, max_retries=1).postprocess_nodes(
            found(), query_str=QUERY
        )


@check("llama-index TEI embed", "llama-index-embeddings-text-embeddings-inference", "embed")
def tei_embed(function: Function) -> None:
    """`inputs` and `truncate`; it puts its own instructions before texts, none for an unknown model."""
    client = TextEmbeddingsInference(model_name="m", base_url=function.url)
    same_vectors(client.get_text_embedding_batch(DOCUMENTS), function.vectors())


@check("llama-index TEI embed", "llama-index-embeddings-text-embeddings-inference", "embed")
async def async_tei_embed(function: Function) -> None:
    """The same answer."""
    client = TextEmbeddingsInference(model_name="m", base_url=function.url)
    same_vectors(await client.aget_text_embedding_batch(DOCUMENTS), function.vectors())


@check("llama-index OpenAILike", "llama-index-embeddings-openai-like", "embed")
def openai_like(function: Function) -> None:
    """The client embeds in batches of its own, at fewer dimensions too."""
    client = OpenAILikeEmbedding(model_name="m", api_base=f"{function.url}/v1", embed_batch_size=2)
    same_vectors(client.get_text_embedding_batch(DOCUMENTS), function.vectors())
    client = OpenAILikeEmbedding(model_name="m", api_base=f"{function.url}/v1", dimensions=8)
    same_vectors([client.get_query_embedding(QUERY)], function.vectors([QUERY], dimensions=8))


@check("llama-index OpenAILike", "llama-index-embeddings-openai-like", "embed-keys")
def openai_like_unknown_key(function: Function) -> None:
    """The SDK's own exception."""
    client = OpenAILikeEmbedding(model_name="m", api_base=f"{function.url}/v1", api_key=WRONG_KEY, max_retries=0)
    with raises(openai.AuthenticationError, WRONG_KEY_MESSAGE):
        client.get_text_embedding(QUERY)


@check("llama-index CohereEmbedding", "llama-index-embeddings-cohere", "embed")
def cohere_embed(function: Function) -> None:
    """Queries get the model's prompt."""
    client = CohereEmbedding(base_url=function.url, api_key="any", model_name="embed-english-v3.0")
    same_vectors(client.get_text_embedding_batch(DOCUMENTS), function.vectors())
    same_vectors([client.get_query_embedding(QUERY)], function.vectors([QUERY], input_type="query"))


if __name__ == "__main__":
    main()
