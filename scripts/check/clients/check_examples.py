"""The programs of docs/examples, run as a reader would run them, on real weights.

PostgreSQL with pgvector comes through pip (pgserver), and lives in a folder of its own behind a socket of its own.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pgserver
from harness import REQUEST_SECONDS, RUNNING, CannotRun, Function, check, main, same

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"
NOVEL = "'To Kill a Mockingbird' was written by Harper Lee."
WHALE = "'Moby-Dick' is a novel by Herman Melville"


def printed(name: str, reranker: Function, question: str, **more: str) -> list[str]:
    """The lines that an example prints; of its passages the scores are those of the function."""
    if "embed-real" not in RUNNING:
        raise CannotRun("no function 'embed-real' was started")
    urls = {"EMBED_URL": RUNNING["embed-real"].url, "RERANK_URL": reranker.url}
    command = [sys.executable, EXAMPLES / f"{name}.py", question]
    done = subprocess.run(
        command, env=os.environ | urls | more, capture_output=True, text=True, timeout=REQUEST_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    passages = [line.split("  ", 1) for line in lines if line[:1].isdigit()]
    # The graph says first what it made of the question.
    asked = question if lines[0][0].isdigit() else lines[0].split(": ", 1)[1]
    ranking = reranker.ranking(asked, [text for _, text in passages])
    same([(float(score), text) for score, text in passages], [(round(s, 4), passages[i][1]) for i, s in ranking])
    return lines


@check("example rag_langchain", "langchain-core", "rerank-real")
def the_best_passage_is_first(reranker: Function) -> None:
    """The example prints the best of three passages first."""
    lines = printed("rag_langchain", reranker, "Who wrote 'To Kill a Mockingbird'?")
    same(len(lines), 3)
    assert NOVEL in lines[0], lines


@check("example rag_langgraph", "langgraph", "rerank-real")
def a_question_is_rewritten_where_nothing_is_relevant(reranker: Function) -> None:
    """Once, and only then."""
    lines = printed("rag_langgraph", reranker, "please tell me that novel of the whale")
    assert lines[0].startswith("asked: "), lines
    assert WHALE in lines[1], lines
    lines = printed("rag_langgraph", reranker, "tell me of the cheese")
    same(lines[0], "rewritten: cheese")


@check("example pgvector_hybrid", "pgserver", "rerank-real")
def words_and_vectors_find_the_passage(reranker: Function) -> None:
    """The example finds the passage in a database made for it."""
    with tempfile.TemporaryDirectory() as folder:
        database = pgserver.get_server(folder)
        try:
            lines = printed(
                "pgvector_hybrid", reranker, "Who wrote about the white whale?", DATABASE_URL=database.get_uri()
            )
        finally:
            database.cleanup()
    same(len(lines), 3)
    assert WHALE in lines[0], lines


if __name__ == "__main__":
    main()
