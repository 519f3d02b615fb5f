"""What the checks of all clients share: the functions, the expected answers, the relay, the report.

A file `check_*.py` registers checks with `@check(...)` and ends with `main()`. `scripts/check/test_clients` runs it
with the Python of its virtual environment, once for each file, and reads one line of JSON for each check from `--out`.

Clients talk to a function through a relay in this process, which passes bytes on as they are and keeps them, so that a
failed check can show what was sent and what was answered. Expected values come from plain requests past the relay: a
client agrees with the function when it hands out what /v1/rerank or /v1/embeddings say for the same texts.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import http.client
import importlib.metadata
import inspect
import json
import math
import socket
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
REQUEST_SECONDS = 60
SHOWN_CHARS = 3000
# f32 scores have seven digits; a client may also have gone through its own float type.
TOLERANCE = 1e-6
CONCURRENCY = 16
WRONG_KEY = "wrong-key"
WRONG_KEY_MESSAGE = "the api key is not known here"

QUERY = "Who wrote 'To Kill a Mockingbird'?"
DOCUMENTS = [
    "The stock market closed higher on Friday.",
    "'To Kill a Mockingbird' is a novel by Harper Lee published in 1960.",
    "The novel 'Moby-Dick' was written by Herman Melville.",
    "Harper Lee was born in 1926 in Monroeville, Alabama.",
    "Übermäßig große Straßen; 3.520.031 Einwohner, schöne Häuser.",
]
TOP = 2

Ranking = list[tuple[int, float]]
Vectors = list[list[float]]


class Conversation:
    """The bytes of one connection, both ways."""

    def __init__(self) -> None:
        self.sent, self.answered = bytearray(), bytearray()


class Relay:
    """Passes connections on to a function's port, byte for byte, and keeps what went through."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.conversations: list[Conversation] = []
        self.listener = socket.create_server((HOST, 0), backlog=256)
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self) -> None:
        """Drops what was kept; connections that are still open go on being recorded."""
        for conversation in self.conversations:
            conversation.sent.clear()
            conversation.answered.clear()

    def shown(self) -> str:
        """What was sent and answered since `forget`, cut to a readable length."""
        lines = []
        for conversation in self.conversations:
            for way, data in (("sent", conversation.sent), ("answered", conversation.answered)):
                if data:
                    text = data.decode("utf-8", "backslashreplace")
                    cut = f" … {len(data)} bytes" if len(text) > SHOWN_CHARS else ""
                    lines.append(f"{way}:\n{text[:SHOWN_CHARS].strip()}{cut}")
        return "\n".join(lines)

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection((HOST, self.upstream))
            for end in (client, server):
                # Otherwise the second of two small writes would wait for the peer's delayed acknowledgement.
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conversation = Conversation()
            self.conversations.append(conversation)
            for source, target, kept in (
                (client, server, conversation.sent),
                (server, client, conversation.answered),
            ):
                threading.Thread(target=self._pass_on, args=(source, target, kept), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        # A reset on one side is a reset for the other: that is all a relay can say.
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                kept += data
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@dataclass
class Function:
    """A running function, as clients reach it."""

    name: str
    port: int
    key: str
    relay: Relay = field(init=False)

    def __post_init__(self) -> None:
        self.relay = Relay(self.port)

    @property
    def url(self) -> str:
        """The address for clients, which goes through the relay."""
        return f"http://{HOST}:{self.relay.port}"

    def plain(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], Any]:
        """Status, headers in lower case and parsed body of a plain request past the relay."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=REQUEST_SECONDS)
        headers = {"authorization": f"Bearer {self.key}"}
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, json.loads(text)
        finally:
            connection.close()

    def ranking(self, query: str = QUERY, documents: Sequence[str] = DOCUMENTS, **options: Any) -> Ranking:
        """The canonical ranking of the documents, best first."""
        body = {"query": query, "documents": list(documents), **options}
        status, _, answer = self.plain("POST", "/v1/rerank", body)
        assert status == 200, f"/v1/rerank answered {status}: {answer}"
        return [(result["index"], result["relevance_score"]) for result in answer["results"]]

    def vectors(self, texts: Sequence[str] = DOCUMENTS, **options: Any) -> Vectors:
        """The canonical embeddings of the texts, in their order."""
        status, _, answer = self.plain("POST", "/v1/embeddings", {"input": list(texts), **options})
        assert status == 200, f"/v1/embeddings answered {status}: {answer}"
        assert [one["index"] for one in answer["data"]] == list(range(len(texts))), "in the order of the input"
        return [one["embedding"] for one in answer["data"]]


@dataclass
class Check:
    """A registered check."""

    client: str
    package: str
    function: str
    name: str
    action: Callable[..., Any]


class CannotRun(Exception):
    """Raised by a check that lacks something other than the function; its reason goes into the report."""


CHECKS: list[Check] = []
# Every function by name; checks may need a second one.
RUNNING: dict[str, Function] = {}


def check(client: str, package: str, function: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a check of `client` (as the table names it) against the named function.

    `package` is the distribution whose version the table shows; the function's own name says what is checked.
    """

    def register(action: Callable[..., Any]) -> Callable[..., Any]:
        CHECKS.append(Check(client, package, function, action.__name__.replace("_", " "), action))
        return action

    return register


def same_ranking(found: Iterable[tuple[int, float]], expected: Ranking) -> None:
    """Same indices in the same order, same scores."""
    found = list(found)
    assert [index for index, _ in found] == [index for index, _ in expected], f"order: {found}, expected {expected}"
    for (index, score), (_, wanted) in zip(found, expected, strict=True):
        assert math.isclose(score, wanted, rel_tol=0, abs_tol=TOLERANCE), f"[{index}]: {score}, expected {wanted}"


def same_texts(found: Iterable[tuple[str, float]], expected: Ranking, documents: Sequence[str] = DOCUMENTS) -> None:
    """Compares as `same_ranking` does, for clients that hand out texts instead of indices."""
    same_ranking([(list(documents).index(text), score) for text, score in found], expected)


def same_vectors(found: Iterable[Sequence[float]], expected: Vectors, tolerance: float = TOLERANCE) -> None:
    """Same number of vectors, same dimensions, same values."""
    found = [list(vector) for vector in found]
    assert [len(vector) for vector in found] == [len(vector) for vector in expected], (
        f"dimensions: {[len(vector) for vector in found]}, expected {[len(vector) for vector in expected]}"
    )
    for number, (vector, wanted) in enumerate(zip(found, expected, strict=True)):
        worst = max(abs(a - b) for a, b in zip(vector, wanted, strict=True))
        assert worst <= tolerance, f"vector {number} differs by {worst}"


def is_unit(vector: Sequence[float]) -> None:
    """The vector must be of length one."""
    length = math.sqrt(sum(value * value for value in vector))
    assert abs(length - 1) < 1e-3, f"a vector of length {length}"


def same(found: Any, expected: Any) -> None:
    """The two must be equal; else both are shown."""
    assert found == expected, f"{found!r}, expected {expected!r}"


@contextlib.contextmanager
def raises(kinds: type[BaseException] | tuple[type[BaseException], ...], *fragments: str) -> Iterator[list[Any]]:
    """The body must raise one of `kinds`, and a program that prints the exception must show every fragment.

    Yields a list that holds the exception afterwards.
    """
    caught: list[Any] = []
    try:
        yield caught
    except kinds as error:
        text = f"{error!s} {error!r}"
        for fragment in fragments:
            assert fragment in text, f"{fragment!r} is not in {text!r}"
        caught.append(error)
        return
    raise AssertionError(f"expected {kinds}, nothing was raised")


def together(action: Callable[[int], Any]) -> list[Any]:
    """`action(0)` … `action(15)` in threads at once; their results in order, or the first exception."""
    with concurrent.futures.ThreadPoolExecutor(CONCURRENCY) as pool:
        return list(pool.map(action, range(CONCURRENCY)))


async def gathered(action: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """The same for coroutines."""
    return await asyncio.gather(*(action(number) for number in range(CONCURRENCY)))


def numbered(number: int) -> list[str]:
    """Documents that differ between concurrent requests, so that a mixed-up answer is seen."""
    return [f"{number}. {document}" for document in DOCUMENTS]


def version(package: str) -> str:
    """The version of an installed distribution."""
    return importlib.metadata.version(package)


def run(one: Check) -> dict[str, Any]:
    """Runs a check; its line of the report."""
    line: dict[str, Any] = {"client": f"{one.client} {version(one.package)}", "check": one.name}
    function = RUNNING.get(one.function)
    if function is None:
        return line | {"result": "skipped", "detail": f"no function {one.function!r} was started"}
    for other in RUNNING.values():
        other.relay.forget()
    begun = time.monotonic()
    try:
        outcome = one.action(function)
        if inspect.isawaitable(outcome):
            asyncio.run(asyncio.wait_for(_await(outcome), REQUEST_SECONDS))
    except CannotRun as reason:
        return line | {"result": "skipped", "detail": str(reason)}
    except Exception:  # Whatever a client raises is the check's result.
        shown = "\n".join(text for each in RUNNING.values() if (text := each.relay.shown()))
        detail = f"{traceback.format_exc(limit=-3).strip()}\n{shown or 'nothing was sent'}"
        return line | {"result": "failed", "detail": detail, "seconds": time.monotonic() - begun}
    return line | {"result": "ok", "seconds": time.monotonic() - begun}


async def _await(outcome: Awaitable[Any]) -> Any:
    return await outcome


def main() -> None:
    """Command line of every check_*.py."""
    parser = argparse.ArgumentParser(description="Run by scripts/check/test_clients.")
    parser.add_argument("--functions", type=Path, required=True, help="JSON: name -> {port, key}")
    parser.add_argument("--out", type=Path, required=True, help="where the report goes, a line of JSON for each check")
    arguments = parser.parse_args()
    described = json.loads(arguments.functions.read_text(encoding="utf-8"))
    RUNNING.update((name, Function(name, one["port"], one["key"])) for name, one in described.items())
    with arguments.out.open("a", encoding="utf-8") as out:
        for one in CHECKS:
            print(json.dumps(run(one)), file=out, flush=True)
    sys.stdout.flush()
