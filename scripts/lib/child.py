"""Processes that a script starts and stops, with their output in files, and waiting for them under one deadline."""

import socket
import subprocess
import time

from lib import CannotCheck

STOP_SECONDS = 15
POLL_SECONDS = 0.02
SHOWN_CHARS = 4000


class Deadline:
    """One bound for everything that waits for it."""

    def __init__(self, seconds):
        self.seconds, self.end = seconds, time.monotonic() + seconds

    def left(self, doing):
        """Seconds left, more than none."""
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise self.missed(doing)
        return seconds

    def missed(self, doing):
        """The error of what was not done in time."""
        return CannotCheck(f"{doing}: not done within {self.seconds} s of the start")


class Child:
    """A process with its output in a file of `folder`, stopped on leaving."""

    def __init__(self, name, command, environment, folder):
        self.name, self.log = name, folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)

    def fail(self, what):
        """Raises CannotCheck with what happened and the end of the process's output."""
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-SHOWN_CHARS:].strip()
        raise CannotCheck(f"{self.name} {what}; its output ends:\n{tail}")

    def check_runs(self):
        """Fails when the process has ended."""
        code = self.process.poll()
        if code is not None:
            self.fail(f"ended with {code}")


def poll(deadline, doing, children, done):
    """Asks until `done` gives something, which it returns; fails when a child ends first."""
    while True:
        if found := done():
            return found
        for child in children:
            child.check_runs()
        try:
            deadline.left(doing)
        except CannotCheck as error:
            children[-1].fail(f"kept us waiting ({error})")
        time.sleep(POLL_SECONDS)


def free_port():
    """A port of loopback on which no process listens now, for programs that cannot pick one themselves."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
