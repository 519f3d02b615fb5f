"""HTTP/1.1 on asyncio streams with keep-alive: just what a load generator needs, so that the generator stays cheap.

A failure is told apart by its kind, since a report that only says "failed" cannot be acted on: `refused`, `closed`
(hung up in the middle), `timeout`, `malformed`. A connection that was kept and has been closed by the server while idle
is no failure: such a request, of which the server sent nothing back, goes once more on a new connection.
"""

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

# Longest head of an answer; servers cap theirs at 8 to 64 KiB.
HEAD_BYTES = 1 << 20


class Failure(Exception):
    """No answer; `kind` says why."""

    def __init__(self, kind, detail):
        super().__init__(detail)
        self.kind = kind


@dataclass
class Answer:
    """What the server said."""

    status: int
    headers: dict
    body: bytes


class Connection:
    """One connection, opened when first needed and again after it was closed."""

    def __init__(self, url):
        parts = urlsplit(url)
        self.secure, self.host = parts.scheme == "https", parts.hostname
        self.port = parts.port or (443 if self.secure else 80)
        self.authority = parts.netloc.rpartition("@")[2]
        self.streams = None

    async def send(self, method, path, body=b"", headers=None, timeout=60.0):
        """The answer, or a Failure, within `timeout` seconds."""
        head = {"host": self.authority, "content-length": str(len(body)), **(headers or {})}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        request = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
        deadline = time.monotonic() + timeout
        for attempt in (1, 2):
            kept = self.streams is not None
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    return await self._exchange(request)
            except Silent as error:
                self.close()
                if not kept or attempt == 2:
                    raise Failure("closed", "the server closed the connection without an answer") from error
            except Failure:
                self.close()
                raise
            except TimeoutError as error:
                self.close()
                raise Failure("timeout", f"no answer within {timeout:g} s") from error
            except (ValueError, IndexError, asyncio.LimitOverrunError) as error:
                self.close()
                raise Failure("malformed", f"not an HTTP answer: {error}") from error
            except (OSError, asyncio.IncompleteReadError) as error:
                self.close()
                raise Failure("closed", f"the connection ended in the middle: {error!r}") from error
            except asyncio.CancelledError:
                # The answer may still come; the next request must not read it.
                self.close()
                raise
        raise AssertionError("unreachable")

    async def _exchange(self, request):
        if self.streams is None:
            try:
                context = ssl.create_default_context() if self.secure else None
                self.streams = await asyncio.open_connection(self.host, self.port, ssl=context, limit=HEAD_BYTES)
            except ssl.SSLError as error:
                raise Failure("tls", str(error)) from error
            except OSError as error:
                raise Failure("refused", str(error)) from error
        reader, writer = self.streams
        try:
            writer.write(request)
            await writer.drain()
        except OSError:
            # A server may answer and hang up before it has read everything (413); its answer comes first.
            pass
        try:
            first = await reader.readexactly(1)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Silent from error
        lines = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status = lines[0].split()[:2]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        body = await self._body(reader, headers)
        if headers.get("connection", "").lower() == "close" or version == "HTTP/1.0":
            self.close()
        return Answer(int(status), headers, body)

    @staticmethod
    async def _body(reader, headers):
        if headers.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                parts.append(await reader.readexactly(size))
                await reader.readexactly(2)
            while (await reader.readuntil(b"\r\n")) != b"\r\n":
                pass
            return b"".join(parts)
        if "content-length" in headers:
            return await reader.readexactly(int(headers["content-length"]))
        return await reader.read()

    def close(self):
        """Forgets the connection; the next request opens another."""
        if self.streams is not None:
            with contextlib.suppress(Exception):
                self.streams[1].close()
            self.streams = None


class Silent(Exception):
    """The connection ended before the first byte of an answer."""
