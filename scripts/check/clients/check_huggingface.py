"""huggingface_hub's InferenceClient against TEI's routes."""

from harness import DOCUMENTS, QUERY, Function, check, main, raises, same_ranking, same_vectors
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError


@check("huggingface_hub", "huggingface-hub", "embed")
def feature_extraction(function: Function) -> None:
    """The client asks `/embed` and the bare address, for one text and for many."""
    for path in ("/embed", ""):
        client = InferenceClient(model=function.url + path, token="any")
        same_vectors(client.feature_extraction(DOCUMENTS[0]).tolist(), function.vectors(DOCUMENTS[:1]))
        same_vectors(client.feature_extraction(DOCUMENTS).tolist(), function.vectors())


@check("huggingface_hub", "huggingface-hub", "embed")
def feature_extraction_options(function: Function) -> None:
    """A named prompt, truncation."""
    client = InferenceClient(model=f"{function.url}/embed", token="any")
    found = client.feature_extraction(DOCUMENTS[0], prompt_name="query", truncate=True, truncation_direction="right")
    same_vectors(found.tolist(), function.vectors(DOCUMENTS[:1], input_type="query"))


@check("huggingface_hub", "huggingface-hub", "embed")
async def async_feature_extraction(function: Function) -> None:
    """The same answer."""
    async with AsyncInferenceClient(model=f"{function.url}/embed", token="any") as client:
        found = await client.feature_extraction(DOCUMENTS[0])
    same_vectors(found.tolist(), function.vectors(DOCUMENTS[:1]))


@check("huggingface_hub", "huggingface-hub", "embed")
def sentence_similarity(function: Function) -> None:
    """Cosines in input order."""
    query, *documents = function.vectors([QUERY, *DOCUMENTS])
    cosines = [sum(a * b for a, b in zip(query, document, strict=True)) for document in documents]
    found = InferenceClient(model=f"{function.url}/similarity", token="any").sentence_similarity(QUERY, DOCUMENTS)
    same_ranking(enumerate(found), list(enumerate(cosines)))


@check("huggingface_hub", "huggingface-hub", "embed")
def bad_request(function: Function) -> None:
    """The client raises HfHubHTTPError with the server's words."""
    with raises(HfHubHTTPError, "inputs"):
        InferenceClient(model=f"{function.url}/embed", token="any").feature_extraction("")


@check("huggingface_hub", "huggingface-hub", "embed-keys")
def unknown_key(function: Function) -> None:
    """The client raises its own error; the right key works."""
    with raises(HfHubHTTPError, "401"):
        InferenceClient(model=f"{function.url}/embed", token="wrong-key").feature_extraction(DOCUMENTS[0])
    found = InferenceClient(model=f"{function.url}/embed", token=function.key).feature_extraction(DOCUMENTS[0])
    same_vectors(found.tolist(), function.vectors(DOCUMENTS[:1]))


if __name__ == "__main__":
    main()
