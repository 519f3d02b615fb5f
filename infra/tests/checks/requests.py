"""The request collection in data/requests: Bruno's files, read as Bruno reads them.

A file is a list of blocks `name { ... }` whose closing brace stands alone at the start of a line; `meta`, the method and `body:json`
are what is used here. Addresses and keys are variables of environments/*.bru.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path("data") / "requests"
BLOCK = re.compile(r"^([a-z:-]+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
METHODS = {"get", "post"}


@dataclass
class Request:
    """One request of the collection."""

    where: str
    name: str
    order: int
    method: str
    # With the variable of the address in front: {{rerank}} or {{embed}}.
    url: str
    body: Any


def pairs(text: str) -> dict[str, str]:
    """`key: value` lines of a block."""
    return dict(re.findall(r"^  ([\w-]+): (.*)$", text, re.MULTILINE))


def variables(root: Path) -> set[str]:
    """Names that the environments define."""
    return {
        name
        for file in (root / FOLDER / "environments").glob("*.bru")
        for block, text in BLOCK.findall(file.read_text(encoding="utf-8"))
        if block == "vars"
        for name in pairs(text)
    } | {
        name
        for file in (root / FOLDER / "environments").glob("*.bru")
        for listed in re.findall(r"vars:secret \[\n(.*?)\]", file.read_text(encoding="utf-8"), re.DOTALL)
        for name in re.findall(r"\w+", listed)
    }


def load(root: Path) -> tuple[list[Request], list[str]]:
    """All requests in order; what is wrong with the files."""
    found, problems = [], []
    known = variables(root)
    for file in sorted((root / FOLDER).glob("*.bru")):
        where = file.relative_to(root).as_posix()
        text = file.read_text(encoding="utf-8")
        blocks = dict(BLOCK.findall(text))
        method = next((name for name in blocks if name in METHODS), None)
        if "meta" not in blocks or not method:
            problems.append(f"{where}: expected the blocks meta and get or post, found {', '.join(blocks) or 'none'}")
            continue
        for name in re.findall(r"\{\{(\w+)\}\}", text):
            if name not in known:
                problems.append(f"{where}: variable {name} is in no environment")
        meta, target = pairs(blocks["meta"]), pairs(blocks[method])
        body = None
        if "body:json" in blocks:
            try:
                body = json.loads(blocks["body:json"])
            except ValueError as error:
                problems.append(f"{where}: body: {error}")
        if (target.get("body") == "json") != ("body:json" in blocks):
            problems.append(f"{where}: says body: {target.get('body')}, and {'has' if body else 'lacks'} body:json")
        found.append(Request(where, meta["name"], int(meta["seq"]), method.upper(), target["url"], body))
    if [one.order for one in sorted(found, key=lambda one: one.order)] != list(range(1, len(found) + 1)):
        problems.append(f"{FOLDER}: seq is not 1, 2, 3, ...")
    return sorted(found, key=lambda one: one.order), problems
