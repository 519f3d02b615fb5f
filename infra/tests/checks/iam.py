"""AWS: which rights are too wide, and how the binary answers Lambda."""

import re
from pathlib import Path

# A wildcard may end a resource, as in "below this prefix" (parameters named so end in a slash, by their pattern); it may not
# stand for a bucket, a function or everything.
NARROW = re.compile(r"^[^*]+(/|:|Prefix\})\*$")

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


def invoke_mode(root: Path) -> str:
    """What a function URL must be set to.

    A URL with RESPONSE_STREAM hands on the bytes of a function that streams; one that posts its answer whole, as
    `lambda_http`'s `Adapter` does, would show clients its envelope. The source says which one the binary is.
    """
    source = (root / "shared" / "server" / "src" / "lambda.rs").read_text(encoding="utf-8")
    code = re.sub(r"//.*", "", source)
    return "RESPONSE_STREAM" if re.search(r"StreamAdapter|streaming_response", code) else "BUFFERED"
