"""A stub of Lambda's runtime API, and a function behind it: events go in, what the function posts comes out."""

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# Nothing takes this long; a test that hangs ends.
PATIENCE_SECONDS = 120
DOMAIN = "abc.lambda-url.eu-central-1.on.aws"
NEXT = "/2018-06-01/runtime/invocation/next"


class Stub(ThreadingHTTPServer):
    """One function's events and answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.answers: queue.Queue[Any] = queue.Queue()


class Handler(BaseHTTPRequestHandler):
    """`next`, `response` and `error`."""

    protocol_version = "HTTP/1.1"
    server: Stub

    def do_GET(self) -> None:
        event = self.server.events.get()
        if self.path != NEXT or event is None:
            return self.send_error(410)
        body = json.dumps(event).encode()
        self.send_response(200)
        for name, value in {
            "lambda-runtime-aws-request-id": "request-1",
            "lambda-runtime-deadline-ms": "4102444800000",
            "lambda-runtime-invoked-function-arn": "arn:aws:lambda:eu-central-1:123456789012:function:embed:live",
            "content-type": "application/json",
            "content-length": str(len(body)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        return None

    def do_POST(self) -> None:
        size = self.headers.get("content-length")
        body = self.rfile.read(int(size)) if size else self._chunks()
        self.server.answers.put((self.path.rsplit("/", 1)[1], posted(body)))
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def posted(body: bytes) -> dict[str, Any]:
    """An answer: whole in its envelope, or a prelude and the bytes behind it, which then are the body."""
    prelude, zeros, rest = body.partition(bytes(8))
    return json.loads(prelude) | ({"body": rest.decode(), "streamed": True} if zeros else {})


def request(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A function URL's event."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": DOMAIN},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "domainName": DOMAIN,
            "domainPrefix": "abc",
            "http": {"method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4", "userAgent": "test"},
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }


@contextlib.contextmanager
def on_lambda(function: Path, model: Path, log: Path, **settings: str) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """The function as Lambda starts it; the value sends it an event and gives its answer."""
    stub = Stub()
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    environment = {
        "PATH": os.environ["PATH"],
        "MODEL": str(model),
        # As the templates have it: an event that names no domain is answered whole nevertheless.
        "INVOKE_MODE": "response_stream",
        "AWS_LAMBDA_FUNCTION_NAME": "embed",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3538",
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{stub.server_port}",
    } | settings
    with log.open("wb") as output:
        process = subprocess.Popen([function], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def ask(event: dict[str, Any]) -> dict[str, Any]:
        stub.events.put(event)
        try:
            kind, answer = stub.answers.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            raise AssertionError(f"no answer; the function wrote:\n{log.read_text()[-4000:]}") from None
        assert kind == "response", answer
        return answer

    try:
        yield ask
    finally:
        process.kill()
        process.wait()
        stub.events.put(None)
        stub.shutdown()
        stub.server_close()
