"""LangChain: document compressors of Cohere, Jina and Voyage; embeddings of OpenAI, Cohere, infinity and Voyage."""

import cohere
import openai
from harness import (
    DOCUMENTS,
    QUERY,
    TOP,
    WRONG_KEY,
    WRONG_KEY_MESSAGE,
    CannotRun,
    Function,
    check,
    main,
    raises,
    same,
    same_ranking,
    same_texts,
    same_vectors,
)
from huggingface_hub import try_to_load_from_cache
from langchain_cohere import CohereEmbeddings, CohereRerank
from langchain_community.document_compressors import JinaRerank, jina_rerank
from langchain_community.embeddings import InfinityEmbeddings
from langchain_core.documents import Document
from langchain_openai import OpenAIEmbeddings
from langchain_voyageai import VoyageAIEmbeddings, VoyageAIRerank
from voyageai import error

FOUND = [Document(page_content=text, metadata={"number": number}) for number, text in enumerate(DOCUMENTS)]


def texts(compressed: list[Document]) -> list[tuple[str, float]]:
    """Text and score of each document; what else is known of a document is kept."""
    for document in compressed:
        same(DOCUMENTS[document.metadata["number"]], document.page_content)
    return [(document.page_content, document.metadata["relevance_score"]) for document in compressed]


def cohere_rerank(function: Function, key: str = "any", top_n: int | None = None) -> CohereRerank:
    """Bound to the function."""
    return CohereRerank(model="rerank-v3.5", cohere_api_key=key, base_url=function.url, top_n=top_n)


def jina(function: Function, key: str = "any", top_n: int | None = None) -> JinaRerank:
    """Its address is a constant of the module."""
    jina_rerank.JINA_API_URL = f"{function.url}/v1/rerank"
    return JinaRerank(jina_api_key=key, top_n=top_n)


def voyage(function: Function, key: str = "any", top_k: int | None = None) -> VoyageAIRerank:
    """Bound to the function."""
    return VoyageAIRerank(model="rerank-2", api_key=key, base_url=f"{function.url}/v1", top_k=top_k)


@check("langchain CohereRerank", "langchain-cohere", "rerank")
def compress(function: Function) -> None:
    """All, and the best two; `max_tokens_per_doc: null` is sent."""
    same_texts(texts(cohere_rerank(function).compress_documents(FOUND, QUERY)), function.ranking())
    same_texts(texts(cohere_rerank(function, top_n=TOP).compress_documents(FOUND, QUERY)), function.ranking()[:TOP])


@check("langchain CohereRerank", "langchain-cohere", "rerank-keys")
def unknown_key_or_right_key(function: Function) -> None:
    """The SDK's own exception."""
    with raises(cohere.UnauthorizedError, WRONG_KEY_MESSAGE):
        cohere_rerank(function, WRONG_KEY).compress_documents(FOUND, QUERY)
    same_texts(texts(cohere_rerank(function, function.key).compress_documents(FOUND, QUERY)), function.ranking())


@check("langchain JinaRerank", "langchain-community", "rerank")
def compress_and_rerank(function: Function) -> None:
    """`top_n: null` is sent."""
    same_texts(texts(jina(function).compress_documents(FOUND, QUERY)), function.ranking())
    found = jina(function).rerank(DOCUMENTS, QUERY, top_n=TOP)
    same_ranking([(one["index"], one["relevance_score"]) for one in found], function.ranking()[:TOP])


@check("langchain JinaRerank", "langchain-community", "rerank-keys")
def unknown_key(function: Function) -> None:
    """It raises what `detail` says."""
    with raises(RuntimeError, WRONG_KEY_MESSAGE):
        jina(function, WRONG_KEY).compress_documents(FOUND, QUERY)


@check("langchain JinaRerank", "langchain-community", "rerank")
def bad_request(function: Function) -> None:
    """It raises what `detail` says."""
    with raises(RuntimeError, "query: expected a text"):
        jina(function).compress_documents(FOUND, " ")


@check("langchain VoyageAIRerank", "langchain-voyageai", "rerank")
def compress_with_usage(function: Function) -> None:
    """`top_k: null` is sent; it reads `data` and usage."""
    compressed = voyage(function).compress_documents(FOUND, QUERY)
    same_texts(texts(compressed), function.ranking())
    assert compressed[0].metadata["total_tokens"] > len(DOCUMENTS)


@check("langchain VoyageAIRerank", "langchain-voyageai", "rerank")
async def async_compress_top_k(function: Function) -> None:
    """The best two."""
    compressed = await voyage(function, top_k=TOP).acompress_documents(FOUND, QUERY)
    same_texts(texts(compressed), function.ranking()[:TOP])


@check("langchain VoyageAIRerank", "langchain-voyageai", "rerank-keys")
def voyage_unknown_key(function: Function) -> None:
    """The SDK's own exception."""
    with raises(error.AuthenticationError, WRONG_KEY_MESSAGE):
        voyage(function, WRONG_KEY).compress_documents(FOUND, QUERY)


def openai_embeddings(function: Function, key: str = "any", **options: int) -> OpenAIEmbeddings:
    """The check of lengths is off: it would fetch a tokenizer and send token ids of another model."""
    return OpenAIEmbeddings(
        base_url=f"{function.url}/v1",
        api_key=key,
        model="m",
        check_embedding_ctx_length=False,
        max_retries=0,
        **options,
    )


@check("langchain OpenAIEmbeddings", "langchain-openai", "embed")
def embed_documents_and_query(function: Function) -> None:
    """Both are plain texts to it."""
    same_vectors(openai_embeddings(function).embed_documents(DOCUMENTS), function.vectors())
    same_vectors([openai_embeddings(function).embed_query(QUERY)], function.vectors([QUERY]))


@check("langchain OpenAIEmbeddings", "langchain-openai", "embed")
async def async_embed_at_fewer_dimensions(function: Function) -> None:
    """Cut and normalised."""
    same_vectors(
        await openai_embeddings(function, dimensions=8).aembed_documents(DOCUMENTS), function.vectors(dimensions=8)
    )


@check("langchain OpenAIEmbeddings", "langchain-openai", "embed-keys")
def embedder_unknown_key(function: Function) -> None:
    """The SDK's own exception."""
    with raises(openai.AuthenticationError, WRONG_KEY_MESSAGE):
        openai_embeddings(function, WRONG_KEY).embed_query(QUERY)


@check("langchain CohereEmbeddings", "langchain-cohere", "embed")
def embed_documents_and_query_under_prompts(function: Function) -> None:
    """`truncate: null` is sent; queries get the model's prompt."""
    client = CohereEmbeddings(model="m", cohere_api_key="any", base_url=function.url)
    same_vectors(client.embed_documents(DOCUMENTS), function.vectors())
    same_vectors([client.embed_query(QUERY)], function.vectors([QUERY], input_type="query"))


@check("langchain InfinityEmbeddings", "langchain-community", "embed")
def embed_documents(function: Function) -> None:
    """The client asks `/embeddings`."""
    client = InfinityEmbeddings(model="m", infinity_api_url=function.url)
    same_vectors(client.embed_documents(DOCUMENTS), function.vectors())
    same_vectors([client.embed_query(QUERY)], function.vectors([QUERY]))


@check("langchain InfinityEmbeddings", "langchain-community", "embed")
async def async_embed_documents(function: Function) -> None:
    """Its async half is another HTTP client."""
    client = InfinityEmbeddings(model="m", infinity_api_url=function.url)
    same_vectors(await client.aembed_documents(DOCUMENTS), function.vectors())


@check("langchain VoyageAIEmbeddings", "langchain-voyageai", "embed")
def voyage_embed_documents_and_query(function: Function) -> None:
    """Queries get the model's prompt. It counts tokens with Voyage's tokenizer, which it fetches from the hub."""
    if not isinstance(try_to_load_from_cache("voyageai/voyage-3", "tokenizer.json"), str):
        raise CannotRun("VoyageAIEmbeddings needs Voyage's tokenizer: hf download voyageai/voyage-3 tokenizer.json")
    client = VoyageAIEmbeddings(model="voyage-3", api_key="any", base_url=f"{function.url}/v1")
    same_vectors(client.embed_documents(DOCUMENTS), function.vectors())
    same_vectors([client.embed_query(QUERY)], function.vectors([QUERY], input_type="query"))


if __name__ == "__main__":
    main()
