"""The client: asks until the contestant answers, and says when it was connected and when first and last byte came."""

import contextlib
import http.client
import re
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

# Between attempts passes this share of the time so far: what polling adds to a figure is bounded by it, and it leaves
# the cores to a contestant that takes seconds. The least is what a refused connection on loopback costs anyway.
POLL_SHARE = 1 / 200
LEAST_POLL_SECONDS = 50e-6
NOT_YET = {502, 503, 504}
TIMING = re.compile(r"([\w-]+);dur=([\d.]+)")


class NoAnswer(Exception):
    """The contestant gave no usable answer; the message says what happened."""


@dataclass
class First:
    """The first good answer, in milliseconds since the clock was started."""

    connected_ms: float
    first_byte_ms: float
    first_answer_ms: float
    attempts: int
    body: bytes
    timing: dict
    second_answer_ms: float | None = None


def connection_to(url, timeout):
    """An HTTP connection, not yet open, and the path with query."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return kind(parts.hostname, parts.port, timeout=timeout), path


def first_answer(url, body, headers, begun, patience, alive=lambda: None):
    """Asks again and again until `patience` seconds have passed; `alive` raises when the contestant has ended.

    Refused and dropped connections and 502, 503, 504 mean: not yet. Any other status than 200 is an error.
    """
    attempts, last = 0, "nothing"
    while (spent := time.perf_counter() - begun) < patience:
        attempts += 1
        connection, path = connection_to(url, patience - spent)
        try:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected = time.perf_counter()
            found = exchange(connection, path, body, headers)
            status, first_byte, done, answer, timing = found
            if status == 200:
                ms = [round((at - begun) * 1e3, 3) for at in (connected, first_byte, done)]
                return First(*ms, attempts, answer, timing, again(connection, path, body, headers))
            last = f"status {status}: {answer[:200].decode('utf-8', 'replace')}"
            if status not in NOT_YET:
                raise NoAnswer(f"expected status 200, found {last}")
        except (OSError, http.client.HTTPException) as error:
            last = repr(error)
        finally:
            connection.close()
        alive()
        time.sleep(max(LEAST_POLL_SECONDS, (time.perf_counter() - begun) * POLL_SHARE))
    raise NoAnswer(f"expected an answer within {patience:g} s, found {last} ({attempts} attempts)")


def exchange(connection, path, body, headers):
    """One request: status, times of first and last byte, body, Server-Timing."""
    connection.request("POST", path, body, {"content-type": "application/json", **headers})
    response = connection.getresponse()
    first_byte = time.perf_counter()
    answer = response.read()
    timing = {name: float(ms) for name, ms in TIMING.findall(response.getheader("server-timing") or "")}
    return response.status, first_byte, time.perf_counter(), answer, timing


def again(connection, path, body, headers):
    """The same request once more, warm: milliseconds, or nothing if it fails."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        begun = time.perf_counter()
        status, _, done, _, _ = exchange(connection, path, body, headers)
        if status == 200:
            return round((done - begun) * 1e3, 3)
    return None
