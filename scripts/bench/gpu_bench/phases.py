"""Phases under one bound of time, of which none loses what the others found.

Each phase has a budget, and gets what is left of the whole if that is less. When its time is over it is interrupted
wherever it is (SIGALRM, so only in the main thread), its children are stopped on the way out, and the figures that it
had filled in until then stay. Everything found is written after every phase: whoever ends the command from outside, at
the limit of a lent machine say, loses the phase that ran and no other.
"""

import contextlib
import json
import signal
import subprocess
import sys
import time

from lib import CannotCheck

# A phase that would get less is not begun: a start of a function and one answer take as long.
LEAST_SECONDS = 2
# What an answer of a form that nobody expected ends in.
BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError)


class OutOfTime(Exception):
    """The budget of a phase is spent. No OSError, so that nothing that suppresses those suppresses it."""


class Skipped(Exception):
    """A phase, or a part of one, that this machine or this binary cannot do; the message says why."""


class Failed(Exception):
    """What was found is wrong."""


@contextlib.contextmanager
def bounded(seconds):
    """Raises OutOfTime in the block after `seconds`."""

    def ring(*_):
        raise OutOfTime(f"not done within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Run:
    """All phases of one run: `results` by name, each with its state, seconds, what it says and its figures."""

    def __init__(self, seconds, out=None, facts=None):
        self.begun = time.monotonic()
        self.end = self.begun + seconds
        self.phase_end = self.end
        self.out, self.facts, self.results = out, facts or {}, {}

    def say(self, text):
        """A line of progress."""
        print(f"[{time.monotonic() - self.begun:6.1f} s] {text}", file=sys.stderr, flush=True)

    def left(self):
        """Seconds that the phase which runs has left."""
        return self.phase_end - time.monotonic()

    def phase(self, name, budget, work, needs=()):
        """Runs `work(figures)`, which fills in what it finds; returns whether it passed.

        `needs` are phases without which it makes no sense.
        """
        figures, began = {}, time.monotonic()
        left = min(budget, self.end - began)
        missing = [one for one in needs if self.results.get(one, {}).get("state") != "passed"]
        if missing:
            state, said = "skipped", f"needs {', '.join(missing)}"
        elif left < LEAST_SECONDS:
            state, said = "skipped", "no time left"
        else:
            self.say(f"{name}: at most {left:.0f} s")
            self.phase_end = began + left
            try:
                with bounded(left):
                    said = work(figures) or ""
                state = "passed"
            except Skipped as error:
                state, said = "skipped", str(error)
            except (OutOfTime, Failed, CannotCheck, subprocess.SubprocessError, *BROKEN) as error:
                state, said = "failed", f"{type(error).__name__}: {error}"
        took = round(time.monotonic() - began, 3)
        self.results[name] = {"state": state, "seconds": took, "said": said, "figures": figures}
        self.say(f"{name}: {state} after {took:.1f} s{': ' + said if said else ''}")
        self.write()
        return state == "passed"

    def figures(self, name):
        """What a phase found, empty where it did not run."""
        return self.results.get(name, {}).get("figures", {})

    def write(self, **more):
        """The JSON as far as it is."""
        seconds = round(time.monotonic() - self.begun, 1)
        found = {"made_by": "gpu_check", **self.facts, "seconds": seconds, "phases": self.results, **more}
        if self.out:
            part = self.out.with_name(self.out.name + ".part")
            part.write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")
            part.replace(self.out)
        return found
