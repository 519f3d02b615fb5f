"""AWS: which rights are too wide, how a function is to answer, and for how long."""

import re

# A wildcard may end a resource, as in "below this prefix" (parameters named so end in a slash, by their pattern); it may not
# stand for a bucket, a function or everything.
NARROW = re.compile(r"^[^*]+(/|:|Prefix\})\*$")

# The most that Lambda allows.
LONGEST_S = 900

WHOLE_BUCKET = re.compile(r":s3:::([^/]+/)?\*$")


def check_rights(actions: list[str] | str, resources: list[str] | str, where: str) -> list[str]:
    """Wildcards among actions, and resources that are everything."""
    problems = []
    for action in [actions] if isinstance(actions, str) else actions:
        if "*" in action:
            problems.append(f"{where}: action {action}: name the actions that are needed")
    for resource in [resources] if isinstance(resources, str) else resources:
        if WHOLE_BUCKET.search(resource) or "*" in resource and not NARROW.match(resource):
            problems.append(f"{where}: resource {resource}: name what it is for")
    return problems


def check_invoke_mode(url: str | None, setting: str | None) -> list[str]:
    """A URL's mode against the setting INVOKE_MODE, each with its default.

    A URL with RESPONSE_STREAM hands on the bytes of a function that streams; of any other mode it would show clients the
    envelope, or the prelude.
    """
    wanted = (setting or "buffered").upper()
    found = url or "BUFFERED"
    return [] if found == wanted else [f"InvokeMode {found}: INVOKE_MODE is {wanted.lower()}"]


def check_stream(timeout: str | None, setting: str | None) -> list[str]:
    """The time of a function that streams, and the setting REQUEST_TIMEOUT, which must end a reply before that."""
    problems = []
    if timeout != str(LONGEST_S):
        problems.append(f"Timeout of chat {timeout}: expected {LONGEST_S}, a reply is streamed for minutes")
    elif setting is None or not 0 < int(setting) < LONGEST_S:
        problems.append(f"REQUEST_TIMEOUT of chat {setting}: expected more than 0 and less than the {LONGEST_S} s after which Lambda cuts a stream")
    return problems
