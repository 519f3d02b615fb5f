"""From cases to requests, and from answers to scores and nDCG@10."""

import json
import math
import random
from dataclasses import dataclass

TOP = 10
# Words of a passage in the shape "5 short": a sentence.
SHORT_WORDS = 12


class Refused(Exception):
    """The cases cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Request:
    """One body, the case it belongs to, and where its documents begin in that case."""

    body: bytes
    case: int
    first: int
    documents: int


def read(path):
    """The cases of a file: a list, one object, or a list under `cases`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Refused(f"{path}: expected JSON, found {error}") from error
    if isinstance(value, dict):
        value = value.get("cases", [value])
    if not isinstance(value, list) or not value:
        raise Refused(f"{path}: expected a list of cases with query and documents, found {str(value)[:60]!r}")
    for number, case in enumerate(value):
        documents = case.get("documents") if isinstance(case, dict) else None
        if not isinstance(case, dict) or not isinstance(case.get("query"), str) or not documents:
            raise Refused(f"{path}: case {number}: expected query and documents, found {str(case)[:60]!r}")
        relevance = case.get("relevance")
        if relevance is not None and len(relevance) != len(documents):
            raise Refused(f"{path}: case {number}: expected {len(documents)} numbers in relevance, found {len(relevance)}")
    return value


def text_of(document):
    """A document as text, which the plain shape wants."""
    return document if isinstance(document, str) else str(document.get("text", ""))


class Kind:
    """How the service is asked: a reranker or an embedder, at which path, under which model name."""

    def __init__(self, embeds, path, model):
        self.embeds, self.path, self.model = embeds, path, model

    def body(self, query, documents):
        """Documents by their index, never echoed: their text would only cost the generator time."""
        if self.embeds:
            value = {"input": [text_of(one) for one in documents], "encoding_format": "base64", "truncate": True}
        else:
            value = {"query": query, "documents": documents}
        if self.model:
            value["model"] = self.model
        elif self.path.rstrip("/").endswith("/embeddings"):
            value["model"] = "default"
        return json.dumps(value, ensure_ascii=False).encode()


def requests_of(cases, kind, batch_size):
    """Each case once, in pieces of at most `batch_size` documents; 0: whole."""
    made = []
    for number, case in enumerate(cases):
        documents = case["documents"]
        step = batch_size or len(documents)
        for first in range(0, len(documents), step):
            piece = documents[first : first + step]
            made.append(Request(kind.body(case["query"], piece), number, first, len(piece)))
    return made


def of_size(cases, documents, seed, words=0):
    """Cases with exactly so many documents each, drawn from all of them; `words` cuts each document."""
    everything = sorted({text_of(one) for case in cases for one in case["documents"]})
    choose = random.Random(seed)
    made = []
    for case in cases:
        drawn = choose.sample(everything, min(documents, len(everything)))
        while len(drawn) < documents:
            # More than there are: numbered, so that no two are equal and none is computed once for both.
            drawn.append(f"{len(drawn)} {drawn[len(drawn) % len(everything)]}")
        made.append({"query": case["query"], "documents": [" ".join(one.split()[:words]) if words else one for one in drawn]})
    return made


def scores_of(body, documents, embeds=False):
    """Scores in the order of the documents, and tokens if the answer counts them; raises ValueError if it is no answer.

    Understands results (Cohere, Jina, vLLM), data (Voyage, OpenAI) and a bare list (TEI). Embeddings have no scores.
    """
    value = json.loads(body)
    rows = value if isinstance(value, list) else value.get("data" if embeds else "results") or value.get("data")
    if not isinstance(rows, list) or len(rows) != documents:
        found = f"{len(rows)} results" if isinstance(rows, list) else str(value)[:80]
        raise ValueError(f"expected {documents} results, found {found}")
    usage = value.get("usage") or {} if isinstance(value, dict) else {}
    tokens = usage.get("total_tokens")
    if embeds:
        return None, tokens
    scores = [math.nan] * documents
    for row in rows:
        scores[row["index"]] = float(row["relevance_score"] if "relevance_score" in row else row["score"])
    if any(map(math.isnan, scores)):
        raise ValueError("expected every index once, found one missing or a score that is no number")
    return scores, tokens


def ndcg(relevance, scores):
    """nDCG@10 of the documents of one case: the gains themselves, log2 discounts; equal scores keep their order."""

    def discounted(gains):
        return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains[:TOP]))

    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    ideal = discounted(sorted(relevance, reverse=True))
    return discounted([relevance[place] for place in order]) / ideal if ideal else None
