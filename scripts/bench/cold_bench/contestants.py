"""A contestant: its name, how it is started, and with what.

A command line may begin with assignments, as in a shell: `MODEL=x.snap PORT={port} target/quick/embed`. `{port}` is a
free port; PORT is set to it as well. No shell reads the line. Of the environment only PATH, HOME and a few more are
passed on, so that a variable left in a shell does not configure one contestant and not another.
"""

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("exec", "podman", "lambda", "url")
PASSED_ON = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "XDG_RUNTIME_DIR")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


class Refused(Exception):
    """An argument cannot be used; the message says what to do."""


@dataclass
class Contestant:
    """One row of the report."""

    name: str
    kind: str
    command: list = field(default_factory=list)
    environment: dict = field(default_factory=dict)
    url: str = ""
    path: str = "/v1/rerank"
    ours: bool = False
    # Its scores are told, not judged: those of int8 differ from those of f32 by design.
    approximate: bool = False
    # Files that are put out of the page cache before each start, if asked for.
    files: list = field(default_factory=list)


def parse(kind, text, path):
    """A contestant from `NAME=COMMAND LINE` or `NAME=URL`."""
    name, equals, rest = text.partition("=")
    if not equals or not name.strip() or not rest.strip():
        what = "URL" if kind == "url" else "COMMAND LINE"
        raise Refused(f"--{kind}: expected NAME={what}, found {text!r}")
    name = name.strip()
    ours = "defrost" in name.lower()
    if kind == "url":
        if not re.match(r"https?://[^/]", rest):
            raise Refused(f"--url: expected NAME=http(s)://HOST/PATH, found {text!r}")
        return Contestant(name, kind, url=rest.strip(), path=path, ours=ours)
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise Refused(f"--{kind}: {text!r}: {error}") from error
    environment = {}
    while words and ASSIGNMENT.match(words[0]):
        variable, _, value = words.pop(0).partition("=")
        environment[variable] = value
    if not words:
        raise Refused(f"--{kind}: expected a command behind the assignments, found none in {text!r}")
    if kind == "podman":
        if environment:
            raise Refused(f"--podman: give variables to the container with -e, found {sorted(environment)} before the command")
        words = words[2:] if words[:2] == ["podman", "run"] else words
    return Contestant(name, kind, words, environment, path=path, ours=ours)


def filled(contestant, port):
    """Command and environment for a start on this port."""
    put = lambda text: str(text).replace("{port}", str(port))  # noqa: E731
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    own = {name: put(value) for name, value in contestant.environment.items()}
    return [put(word) for word in contestant.command], kept | {"PORT": str(port)} | own


def evict(paths):
    """Puts files, and all files of folders, out of the page cache; returns how many bytes were asked to go."""
    total = 0
    for path in paths:
        for file in [path] if path.is_file() else sorted(one for one in Path(path).rglob("*") if one.is_file()):
            descriptor = os.open(file, os.O_RDONLY)
            try:
                total += os.fstat(descriptor).st_size
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
    return total
