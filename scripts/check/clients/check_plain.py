"""Requests as the documentation of four existing services shows them, and an example of every shape.

The services: an mxbai reranker (vLLM and ONNX), a BAAI reranker and embedder, an OpenAI-compatible service with its own
client, and a Qwen3 embedding server (MLX).
"""

import math
from typing import Any

import requests
from harness import (
    CONCURRENCY,
    DOCUMENTS,
    QUERY,
    TOLERANCE,
    TOP,
    Function,
    check,
    is_unit,
    main,
    numbered,
    same,
    same_ranking,
    same_texts,
    same_vectors,
    together,
)

SECONDS = 60


def post(function: Function, path: str, body: Any, status: int = 200, **options: Any) -> Any:
    """The parsed answer, which must have the status."""
    response = requests.post(function.url + path, json=body, timeout=SECONDS, **options)
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    return response.json()


def get(function: Function, path: str) -> Any:
    """The parsed answer, which must be a success."""
    response = requests.get(function.url + path, timeout=SECONDS)
    assert response.status_code == 200, f"{response.status_code}: {response.text}"
    return response.json()


def pairs(results: list[dict[str, Any]], score: str = "relevance_score") -> list[tuple[int, float]]:
    """Index and score of each result."""
    return [(result["index"], result[score]) for result in results]


# --- the mxbai reranker ---


@check("mxbai service, requests", "requests", "rerank")
def a1_v1_rerank_with_top_n(function: Function) -> None:
    """The body is as vLLM's client script posts it."""
    answer = post(function, "/v1/rerank", {"model": "mxbai", "query": QUERY, "documents": DOCUMENTS, "top_n": TOP})
    same_ranking(pairs(answer["results"]), function.ranking()[:TOP])
    assert answer["usage"]["total_tokens"] > 0 and answer["id"] and answer["model"] == "tiny/qwen2-mxbai"


@check("mxbai service, requests", "requests", "rerank")
def a3_a4_models_and_health(function: Function) -> None:
    """Both are used as probes."""
    same([model["id"] for model in get(function, "/v1/models")["data"]], ["tiny/qwen2-mxbai"])
    same(get(function, "/health")["status"], "ok")


@check("mxbai service, requests", "requests", "rerank")
def a5_instruction_changes_scores(function: Function) -> None:
    """The answer equals that to the canonical request with the same instruction."""
    instruction = "Find texts about fish."
    body = {"query": QUERY, "documents": DOCUMENTS, "top_n": 5, "instruction": instruction}
    found = pairs(post(function, "/rerank", body)["results"])
    same_ranking(found, function.ranking(instruction=instruction))
    assert dict(found) != dict(function.ranking()), "the instruction was not read"


@check("mxbai service, requests", "requests", "rerank")
def a7_raw_scores_are_logits(function: Function) -> None:
    """The sigmoid of a raw score is the default score."""
    answer = post(function, "/rerank", {"query": QUERY, "documents": DOCUMENTS, "raw_scores": True})
    same(answer["score_type"], "logit")
    same_ranking([(index, 1 / (1 + math.exp(-raw))) for index, raw in pairs(answer["results"])], function.ranking())


@check("mxbai service, requests", "requests", "rerank")
def a29_sixteen_at_once(function: Function) -> None:
    """Sixteen threads ask, as the async benchmark of the service does; each gets the answer to its own texts."""
    expected = [function.ranking(documents=numbered(number)) for number in range(CONCURRENCY)]

    def ask(number: int) -> None:
        answer = post(function, "/v1/rerank", {"query": QUERY, "documents": numbered(number)})
        same_ranking(pairs(answer["results"]), expected[number])

    together(ask)


@check("mxbai service, requests", "requests", "rerank-real")
def a_real_model_puts_the_answer_first(function: Function) -> None:
    """all-MiniLM-L6-v2 knows who wrote the book."""
    answer = post(function, "/v1/rerank", {"query": QUERY, "documents": DOCUMENTS})
    same(answer["results"][0]["index"], 1)


# --- the BAAI reranker and embedder ---


@check("BAAI service, requests", "requests", "rerank")
def b1_b2_root_and_health(function: Function) -> None:
    """Both have the keys that the service's client prints."""
    assert {"service", "model", "version", "backend", "endpoints"} <= get(function, "/").keys()
    health = get(function, "/health")
    assert {"status", "model_loaded", "model_name", "device", "version"} <= health.keys() and health["model_loaded"]


@check("BAAI service, requests", "requests", "rerank")
def b3_b6_one_passage_raw_and_normalized(function: Function) -> None:
    """Lengths are characters; normalised unless asked otherwise."""
    expected = function.ranking(documents=DOCUMENTS[4:])[0][1]
    raw = post(function, "/rerank", {"query": QUERY, "passage": DOCUMENTS[4], "normalize": False})
    normalized = post(function, "/rerank", {"query": QUERY, "passage": DOCUMENTS[4]})
    same((raw["normalized"], normalized["normalized"]), (False, True))
    same((raw["query_length"], raw["passage_length"]), (len(QUERY), len(DOCUMENTS[4])))
    for score in (1 / (1 + math.exp(-raw["score"])), normalized["score"]):
        assert abs(score - expected) < TOLERANCE, (score, expected)


@check("BAAI service, requests", "requests", "rerank")
def b4_batch_in_input_order(function: Function) -> None:
    """Pairs of two queries, mixed."""
    queries = [QUERY, "where is the sea?", QUERY]
    body = {
        "pairs": [{"query": query, "passage": text} for query, text in zip(queries, DOCUMENTS, strict=False)],
        "normalize": True,
    }
    answer = post(function, "/rerank/batch", body)
    same((answer["pairs_count"], answer["normalized"]), (3, True))
    expected = [function.ranking(query, [text])[0][1] for query, text in zip(queries, DOCUMENTS, strict=False)]
    same_ranking(enumerate(answer["scores"]), list(enumerate(expected)))


@check("BAAI service, requests", "requests", "rerank")
def b5_query_with_passages_sorted(function: Function) -> None:
    """Normalised by default."""
    answer = post(function, "/rerank/query", {"query": QUERY, "passages": DOCUMENTS})
    same_texts([(one["passage"], one["score"]) for one in answer["re_ranked"]], function.ranking())


@check("BAAI service, requests", "requests", "rerank")
def b7_blank_passage_is_422_with_a_location(function: Function) -> None:
    """The error is in FastAPI's form."""
    answer = post(function, "/rerank", {"query": QUERY, "passage": " "}, 422)
    same(answer["detail"][0]["loc"], ["body", "passage"])


@check("BAAI service, requests", "requests", "embed")
def b22_embed_texts(function: Function) -> None:
    """Vectors, their dimensions, their number."""
    answer = post(function, "/embed", {"texts": DOCUMENTS})
    same_vectors(answer["embeddings"], function.vectors())
    same((answer["texts_count"], answer["dimensions"]), (len(DOCUMENTS), len(answer["embeddings"][0])))
    assert answer["model"]


@check("BAAI service, requests", "requests", "embed")
def b22_no_texts_is_422(function: Function) -> None:
    """The error is in FastAPI's form."""
    assert post(function, "/embed", {"texts": []}, 422)["detail"]


# --- the OpenAI-compatible service ---


@check("LLM service, requests", "requests", "rerank-data")
def c28_client_reads_data(function: Function) -> None:
    """Its client sends the name of an enum and top_n, and reads `data`; the server is set to RETURN_DATA=always."""
    body = {"model": "ModelTier.RERANKER", "query": QUERY, "documents": DOCUMENTS, "top_n": TOP}
    answer = post(function, "/v1/rerank", body)
    same_ranking(pairs(answer["data"], "score"), function.ranking()[:TOP])


@check("LLM service, requests", "requests", "rerank")
def c6_top_k_and_documents(function: Function) -> None:
    """The server's own fields."""
    body = {"query": QUERY, "documents": DOCUMENTS, "top_k": TOP, "return_documents": True}
    answer = post(function, "/v1/rerank", body)
    same_texts([(one["document"], one["score"]) for one in answer["data"]], function.ranking()[:TOP])
    assert answer["usage"]["total_tokens"] > len(DOCUMENTS), "tokens, not texts"


@check("LLM service, requests", "requests", "embed")
def c5_embeddings(function: Function) -> None:
    """One text, many texts, usage in tokens."""
    answer = post(function, "/v1/embeddings", {"model": "EMBEDDING", "input": DOCUMENTS[0]})
    same_vectors([answer["data"][0]["embedding"]], function.vectors(DOCUMENTS[:1]))
    answer = post(function, "/v1/embeddings", {"model": "EMBEDDING", "input": DOCUMENTS, "encoding_format": "float"})
    same_vectors([one["embedding"] for one in answer["data"]], function.vectors())
    assert answer["usage"]["prompt_tokens"] > len(DOCUMENTS), "tokens, not texts"


@check("LLM service, requests", "requests", "embed")
def c16_fewer_dimensions_are_normalised(function: Function) -> None:
    """The first numbers of the whole vector, of length one again."""
    answer = post(function, "/v1/embeddings", {"input": DOCUMENTS, "dimensions": 8})
    expected = []
    for whole in function.vectors():
        length = math.sqrt(sum(value * value for value in whole[:8]))
        expected.append([value / length for value in whole[:8]])
    same_vectors([one["embedding"] for one in answer["data"]], expected)


@check("LLM service, requests", "requests", "embed-m3")
def c13_c14_c15_sparse_and_colbert(function: Function) -> None:
    """Weights by token id, and a vector for each token, beside the dense one; the same on TEI's route."""
    body = {"input": DOCUMENTS, "return_sparse": True, "return_colbert": True}
    data = post(function, "/v1/embeddings", body)["data"]
    same_vectors([one["embedding"] for one in data], function.vectors())
    tei = post(function, "/embed_sparse", {"inputs": DOCUMENTS})
    for one, listed in zip(data, tei, strict=True):
        assert one["sparse_embedding"] and all(weight > 0 for weight in one["sparse_embedding"].values())
        same({str(entry["index"]): entry["value"] for entry in listed}, one["sparse_embedding"])
        assert len(one["colbert_embedding"]) > 1
        is_unit(one["colbert_embedding"][0])


@check("LLM service, requests", "requests", "embed")
def c13_sparse_of_a_dense_model_is_refused(function: Function) -> None:
    """The error names what is refused."""
    answer = post(function, "/v1/embeddings", {"input": "a", "embedding_type": "sparse"}, 400)
    assert "sparse" in answer["error"]["message"], answer


# --- the Qwen3 embedding server ---


@check("Qwen3 service, requests", "requests", "embed")
def d2_embed_text(function: Function) -> None:
    """One vector with what is known of it."""
    answer = post(function, "/embed", {"text": DOCUMENTS[0], "model": "small", "normalize": True})
    same_vectors([answer["embedding"]], function.vectors(DOCUMENTS[:1]))
    same((answer["dim"], answer["normalized"]), (len(answer["embedding"]), True))
    assert answer["model"] and answer["processing_time_ms"] >= 0


@check("Qwen3 service, requests", "requests", "embed")
def d3_embed_batch(function: Function) -> None:
    """Many vectors with what is known of them."""
    answer = post(function, "/embed_batch", {"texts": DOCUMENTS, "model": "default"})
    same_vectors(answer["embeddings"], function.vectors())
    same((answer["count"], answer["dim"]), (len(DOCUMENTS), len(answer["embeddings"][0])))


@check("Qwen3 service, requests", "requests", "embed")
def d4_d6_health_and_models(function: Function) -> None:
    """Both have the keys that the service's client prints."""
    health = get(function, "/health")
    keys = {"status", "model_status", "model_name", "embedding_dim", "memory_usage_mb", "uptime_seconds"}
    assert keys <= health.keys(), health.keys()
    same(health["embedding_dim"], len(function.vectors(DOCUMENTS[:1])[0]))
    keys = {"loaded_models", "default_model", "max_batch_size", "max_text_length", "models"}
    assert keys <= get(function, "/models").keys()


@check("Qwen3 service, requests", "requests", "embed")
def d13_process_time_header(function: Function) -> None:
    """The header counts seconds."""
    response = requests.post(f"{function.url}/embed", json={"text": "a"}, timeout=SECONDS)
    assert float(response.headers["x-process-time"]) > 0


@check("Qwen3 service, requests", "requests", "embed")
def d14_empty_text_is_422(function: Function) -> None:
    """Both of the service's routes refuse it."""
    assert post(function, "/embed", {"text": ""}, 422)["detail"]
    assert post(function, "/embed_batch", {"texts": ["a", ""]}, 422)["detail"]


# --- an example of every shape ---


@check("TEI, requests", "requests", "rerank")
def example_3_texts(function: Function) -> None:
    """A bare array with every result, texts on request."""
    body = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": False, "return_text": True, "truncate": True}
    answer = post(function, "/rerank", body)
    same_ranking(pairs(answer, "score"), function.ranking())
    same([one["text"] for one in answer], [DOCUMENTS[index] for index, _ in function.ranking()])


@check("TEI, requests", "requests", "rerank")
def errors_are_a_string_and_a_type(function: Function) -> None:
    """TEI's own form."""
    answer = post(function, "/rerank", {"query": QUERY, "texts": []}, 400)
    assert isinstance(answer["error"], str) and answer["error_type"] in ("Validation", "Empty"), answer


@check("TEI, requests", "requests", "embed")
def embed_inputs(function: Function) -> None:
    """One or many, in a list either way."""
    same_vectors(post(function, "/embed", {"inputs": DOCUMENTS, "truncate": True}), function.vectors())
    same_vectors(post(function, "/embed", {"inputs": DOCUMENTS[0]}), function.vectors(DOCUMENTS[:1]))


@check("TEI, requests", "requests", "embed")
def embed_all_has_a_vector_for_each_token(function: Function) -> None:
    """Each vector is as wide as the pooled one."""
    width = len(function.vectors(DOCUMENTS[:1])[0])
    (rows,) = post(function, "/embed_all", {"inputs": DOCUMENTS[0]})
    assert len(rows) > 1 and {len(row) for row in rows} == {width}


@check("TEI, requests", "requests", "embed")
def tokenize_counts_what_usage_counts(function: Function) -> None:
    """The ids that are embedded."""
    (tokens,) = post(function, "/tokenize", {"inputs": DOCUMENTS[0]})
    _, _, answer = function.plain("POST", "/v1/embeddings", {"input": DOCUMENTS[0]})
    same(len(tokens), answer["usage"]["prompt_tokens"])


@check("vLLM, requests", "requests", "rerank")
def score_under_three_names(function: Function) -> None:
    """One text against many, and pairs, in input order."""
    expected = sorted(function.ranking())
    for left, right in (("queries", "documents"), ("text_1", "text_2"), ("data_1", "data_2")):
        answer = post(function, "/v1/score", {"model": "m", left: QUERY, right: DOCUMENTS})
        same_ranking(pairs(answer["data"], "score"), expected)
        answer = post(function, "/score", {"model": "m", left: [QUERY] * len(DOCUMENTS), right: DOCUMENTS})
        same_ranking(pairs(answer["data"], "score"), expected)
    assert answer["usage"]["total_tokens"] > len(DOCUMENTS)


@check("mixedbread, requests", "requests", "rerank")
def example_7_input(function: Function) -> None:
    """`data`, with the inputs."""
    body = {"model": "m", "query": QUERY, "input": DOCUMENTS, "top_k": TOP, "return_input": True}
    answer = post(function, "/v1/reranking", body)
    same_texts([(one["input"], one["score"]) for one in answer["data"]], function.ranking()[:TOP])


@check("Dify, requests", "requests", "rerank")
def example_9_top_n_0_and_an_empty_authorization(function: Function) -> None:
    """Everything is returned."""
    body = {"model": "m", "query": QUERY, "documents": DOCUMENTS, "top_n": 0}
    answer = post(function, "/rerank", body, headers={"Authorization": ""})
    same_ranking(pairs(answer["results"]), function.ranking())


@check("RAGFlow, requests", "requests", "rerank")
def example_8_booleans_as_strings(function: Function) -> None:
    """Booleans come as strings and documents as objects."""
    documents = [{"text": text} for text in DOCUMENTS]
    body = {"model": "m", "query": QUERY, "documents": documents, "return_documents": "true", "return_len": "true"}
    answer = post(function, "/v1/rerank", body)
    same_ranking(pairs(answer["results"]), function.ranking())
    same(answer["results"][0]["document"]["text"], DOCUMENTS[answer["results"][0]["index"]])
    assert answer["meta"]["tokens"]["input_tokens"] == answer["usage"]["total_tokens"] > 0


@check("Open WebUI, requests", "requests", "rerank")
def every_index_is_returned(function: Function) -> None:
    """The request has Open WebUI's headers about the user."""
    body = {"model": "m", "query": QUERY, "documents": DOCUMENTS, "top_n": len(DOCUMENTS)}
    headers = {"Authorization": "Bearer x", "X-OpenWebUI-User-Name": "%C3%9C"}
    same_ranking(pairs(post(function, "/v1/rerank", body, headers=headers)["results"]), function.ranking())


@check("plain, requests", "requests", "rerank")
def example_10_chunked_and_expect_continue(function: Function) -> None:
    """A body without a length, and one that is announced first."""
    body = requests.compat.json.dumps({"query": QUERY, "documents": DOCUMENTS}).encode()
    headers = {"content-type": "application/json"}
    chunks = (body[start : start + 7] for start in range(0, len(body), 7))
    for data, extra in ((chunks, {}), (body, {"expect": "100-continue"})):
        response = requests.post(f"{function.url}/v1/rerank", data=data, headers=headers | extra, timeout=SECONDS)
        same_ranking(pairs(response.json()["results"]), function.ranking())


@check("plain, requests", "requests", "rerank")
def example_11_documents_that_are_none(function: Function) -> None:
    """400 with every form of the message."""
    for documents in ([], None, 123, [1, 2, 3]):
        answer = post(function, "/v1/rerank", {"query": QUERY, "documents": documents}, 400)
        assert answer["error"]["param"].startswith("documents"), answer
        same((answer["message"], answer["detail"]), (answer["error"]["message"],) * 2)


@check("plain, requests", "requests", "rerank-keys")
def keys_in_three_forms(function: Function) -> None:
    """Bearer, bare, x-api-key; none and a wrong one are 401; probes need none."""
    body = {"query": QUERY, "documents": DOCUMENTS}
    for headers in (
        {"authorization": f"Bearer {function.key}"},
        {"authorization": function.key},
        {"x-api-key": function.key},
    ):
        post(function, "/v1/rerank", body, headers=headers)
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": ""}):
        answer = post(function, "/v1/rerank", body, 401, headers=headers)
        same(answer["error"]["type"], "authentication_error")
    same(get(function, "/health")["status"], "ok")


if __name__ == "__main__":
    main()
