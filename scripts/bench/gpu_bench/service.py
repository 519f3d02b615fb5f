"""A running function: from before its start to its first answer, then whatever is asked of it."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import subprocess
import time

from lib import CannotCheck

# Finer than any phase of a boot that is measured.
POLL_SECONDS = 0.0005
STOP_SECONDS = 15
SHOWN_CHARS = 1500
# What the driver and its tools need of the shell's environment; everything else is a setting and given here.
INHERITED = ("PATH", "HOME", "LD_LIBRARY_PATH", "CUDA_", "NVIDIA_", "TMPDIR")
PAIR = {"query": "who wrote it?", "documents": ["Harper Lee wrote it in 1960."]}


class Service:
    """The function with these settings, stopped on leaving. `boot` has its first answer."""

    def __init__(self, function, model, folder, seconds, **settings):
        self.seconds = seconds
        port_file, self.log = folder / "port", folder / "log"
        port_file.unlink(missing_ok=True)
        environment = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
        environment |= {"MODEL": str(model), "PORT": "0", "PORT_FILE": str(port_file), "LOG_LEVEL": "warn"}
        environment |= {"CACHE_DIR": str(folder / "cache"), **{name: str(value) for name, value in settings.items()}}
        self.begun = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([function], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + seconds
            while not (port_file.is_file() and (text := port_file.read_text().strip())):
                self.check_runs()
                if time.monotonic() > deadline:
                    self.fail(f"did not listen within {seconds:.0f} s")
                time.sleep(POLL_SECONDS)
            self.port = int(text)
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Ends the process; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        return self.process.returncode

    def said(self):
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace").strip()[-SHOWN_CHARS:]

    def fail(self, what):
        """Raises with what happened and the end of its log."""
        raise CannotCheck(f"{self.process.args[0].name} {what}; its log ends: {self.said() or '(nothing)'}")

    def check_runs(self):
        """Raises when the process has ended."""
        if (code := self.process.poll()) is not None:
            self.fail(f"ended with {code}")

    def ask(self, method, path, body=None):
        """Status, headers and parsed body; where no answer comes, it raises with the process's end if that is why."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.seconds)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"content-type": "application/json", "accept": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(data or b"null")
        except (OSError, http.client.HTTPException) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            self.check_runs()
            self.fail(f"gave no answer to {method} {path}: {error!r}")
        finally:
            connection.close()

    def good(self, path, body):
        """The body of an answer that must be good."""
        status, _, answer = self.ask("POST", path, body)
        if status != 200:
            self.fail(f"answered {status} on {path}: {str(answer)[:SHOWN_CHARS]}")
        return answer

    def first_score(self, body=None):
        """Milliseconds from before exec to the first score, the phases that it tells, and the scores.

        The request goes out as soon as the port is bound, and waits there for the model.
        """
        status, headers, answer = self.ask("POST", "/v1/rerank", body or PAIR)
        took = (time.perf_counter() - self.begun) * 1e3
        if status != 200:
            self.fail(f"answered {status} to its first request: {str(answer)[:SHOWN_CHARS]}")
        return round(took, 3), boot_phases(headers.get("server-timing", "")), scores(answer)

    def health(self):
        """What it says of itself."""
        return self.ask("GET", "/health")[2]

    def ready(self):
        """Returns when it is ready for requests."""
        deadline = time.monotonic() + self.seconds
        while self.ask("GET", "/ready")[0] != 200:
            self.check_runs()
            if time.monotonic() > deadline:
                self.fail(f"was not ready within {self.seconds:.0f} s")
            time.sleep(0.01)


def together(service, work, items, clients):
    """`work(item)` for all items by so many threads, in order.

    Whatever ends it, the end of a phase's time included, ends the function first: threads that wait for its answers are
    then not waited for in vain.
    """
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        try:
            return list(pool.map(work, items))
        except BaseException:
            service.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def boot_phases(timing):
    """The `boot_…` parts of a Server-Timing header, in milliseconds by name."""
    return {name: float(ms) for name, ms in re.findall(r"\bboot_([\w-]+);dur=([\d.]+)", timing)}


def scores(answer):
    """In the order of the documents."""
    found = {one["index"]: float(one["relevance_score"]) for one in answer["results"]}
    return [found[place] for place in sorted(found)]
