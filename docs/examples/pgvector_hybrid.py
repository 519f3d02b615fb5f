"""Hybrid search in PostgreSQL: words and vectors find candidates in one query, `rerank-cpu-int8` puts them in order.

  pip install "psycopg[binary]" pgvector openai cohere numpy        a server with the extension vector
  DATABASE_URL=postgresql://… EMBED_URL=http://127.0.0.1:8001 RERANK_URL=http://127.0.0.1:8000 python pgvector_hybrid.py "Who wrote it?"

The query asks both indexes and joins their two rankings by reciprocal rank fusion (Cormack, Clarke, Büttcher 2009): a passage
gets 1 / (60 + rank) from each list it is in. Ranks need no common scale, which cosines and `ts_rank` do not have. The
reranker then reads question and passage together.

The table is `passages`, made anew. With `halfvec(…)` in place of `vector(…)` a vector takes half the space.
"""

import json
import os
import sys
from pathlib import Path

import cohere
import numpy as np
import openai
import psycopg
from pgvector.psycopg import register_vector

EMBED_URL = os.environ.get("EMBED_URL", "http://127.0.0.1:8001")
RERANK_URL = os.environ.get("RERANK_URL", "http://127.0.0.1:8000")
API_KEY = os.environ.get("API_KEY", "none needed")
SAMPLE = json.loads((Path(__file__).parents[2] / "data" / "example_docs.json").read_text(encoding="utf-8"))
CANDIDATES = 6
KEPT = 3

TABLE = """
CREATE EXTENSION IF NOT EXISTS vector;
DROP TABLE IF EXISTS passages;
CREATE TABLE passages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text text NOT NULL,
    words tsvector GENERATED ALWAYS AS (to_tsvector('english', text)) STORED,
    embedding vector({width}) NOT NULL
);
CREATE INDEX ON passages USING gin (words);
CREATE INDEX ON passages USING hnsw (embedding vector_ip_ops);
"""

# Vectors have length one, so the inner product is the cosine, and the cheapest of pgvector's distances. Words of the question
# are joined by OR: a passage that lacks one of them may still be the answer.
HYBRID = """
WITH asked AS (SELECT replace(plainto_tsquery('english', %(question)s)::text, '&', '|')::tsquery AS words),
by_words AS (
    SELECT id, row_number() OVER (ORDER BY ts_rank_cd(passages.words, asked.words) DESC) AS rank
    FROM passages, asked WHERE passages.words @@ asked.words ORDER BY rank LIMIT %(candidates)s
),
by_vector AS (
    SELECT id, row_number() OVER (ORDER BY embedding <#> %(vector)s) AS rank
    FROM passages ORDER BY embedding <#> %(vector)s LIMIT %(candidates)s
)
SELECT passages.text
FROM passages
LEFT JOIN by_words USING (id)
LEFT JOIN by_vector USING (id)
WHERE by_words.id IS NOT NULL OR by_vector.id IS NOT NULL
ORDER BY coalesce(1.0 / (60 + by_words.rank), 0) + coalesce(1.0 / (60 + by_vector.rank), 0) DESC
LIMIT %(candidates)s
"""


def main() -> None:
    """Fills the table, asks it, and prints the best passages."""
    question = sys.argv[1] if len(sys.argv) > 1 else SAMPLE["query"]
    embedder = openai.OpenAI(base_url=f"{EMBED_URL}/v1", api_key=API_KEY)
    reranker = cohere.ClientV2(api_key=API_KEY, base_url=RERANK_URL)

    def vectors(texts: list[str], role: str) -> list[np.ndarray]:
        # Models that were trained with prompts put the one for this role before each text; others ignore it.
        answer = embedder.embeddings.create(model="any", input=texts, extra_body={"input_type": role})
        return [np.array(one.embedding) for one in answer.data]

    embeddings = vectors(SAMPLE["documents"], "document")
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        database.execute(TABLE.format(width=len(embeddings[0])))
        register_vector(database)
        with database.cursor() as cursor:
            rows = list(zip(SAMPLE["documents"], embeddings, strict=True))
            cursor.executemany("INSERT INTO passages (text, embedding) VALUES (%s, %s)", rows)
            asked = {"question": question, "vector": vectors([question], "query")[0], "candidates": CANDIDATES}
            candidates = [text for (text,) in cursor.execute(HYBRID, asked)]
    answer = reranker.rerank(model="any", query=question, documents=candidates, top_n=KEPT)
    for one in answer.results:
        print(f"{one.relevance_score:.4f}  {candidates[one.index]}")


if __name__ == "__main__":
    main()
