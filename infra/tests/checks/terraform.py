"""Terraform without its providers: syntax, names, arguments.

schemas/terraform.json (written by make_terraform_schema) has the arguments of every resource used. What is checked: the files
parse; every argument exists and none that is required is missing, blocks within blocks included; every var, local, data and resource that
is named exists and every variable is used, typed and described; and `terraform fmt` has nothing to say, where terraform is installed.
"""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
from hcl2.utils import SerializationOptions

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas" / "terraform.json"
FOLDERS = ("infra/lambda/terraform", "infra/cloudrun/terraform", "infra/azure")
# What every resource takes, whatever its provider.
META = {"count", "for_each", "depends_on", "provider"}
BLOCKS_OF_META = {"lifecycle", "dynamic"}
REFERENCE = re.compile(r"(?<![\w.])(var|local|data|(?:aws|google|azurerm)_\w+)\.([a-z0-9_]+)(?:\.([a-z0-9_]+))?")
COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
OPTIONS = SerializationOptions(strip_string_quotes=True, explicit_blocks=False, with_comments=False)


@cache
def _parse(text: str) -> dict[str, Any]:
    return hcl2.loads(text, serialization_options=OPTIONS)


def module(root: Path, folder: str) -> tuple[dict[str, list[Any]], list[str]]:
    """All blocks of the folder's files by kind; what does not parse."""
    blocks: dict[str, list[Any]] = {}
    problems = []
    for file in sorted((root / folder).glob("*.tf")):
        try:
            parsed = _parse(file.read_text(encoding="utf-8"))
        except Exception as error:  # noqa: BLE001 (the parser raises what its own parser raises)
            problems.append(f"{file.relative_to(root)}: does not parse: {str(error).splitlines()[0]}")
            continue
        for kind, found in parsed.items():
            blocks.setdefault(kind, []).extend(found)
    return blocks, problems


def resources(blocks: dict[str, list[Any]], kind: str = "resource") -> dict[tuple[str, str], dict[str, Any]]:
    """(type, name) -> body."""
    return {
        (of, name): body for block in blocks.get(kind, []) for of, named in block.items() for name, body in named.items()
    }


def check(root: Path) -> list[str]:
    """Everything above, for all folders."""
    schema = json.loads(SCHEMAS.read_text(encoding="utf-8"))
    problems = []
    for folder in FOLDERS:
        blocks, unparsed = module(root, folder)
        problems += unparsed or [f"{folder}: {problem}" for problem in _module(root, folder, blocks, schema)]
    return problems


def _module(root: Path, folder: str, blocks: dict[str, list[Any]], schema: dict[str, Any]) -> list[str]:
    problems = []
    for kind in ("resource", "data"):
        for (of, name), body in resources(blocks, kind).items():
            if known := schema[kind].get(of):
                problems += [f"{of}.{name}: {problem}" for problem in _block(body, known)]
            else:
                problems.append(f"{of}.{name}: no schema of this kind; run infra/tests/make_terraform_schema")
    return problems + _names(root, folder, blocks)


def _block(body: dict[str, Any], known: dict[str, Any], path: str = "") -> list[str]:
    given = {key: value for key, value in body.items() if not key.startswith("__")}
    dynamic = {
        name: content["content"]
        for block in given.pop("dynamic", [])
        for name, content in block.items()
        if not name.startswith("__")
    }
    problems = []
    for key, value in given.items():
        if not path and (key in META or key in BLOCKS_OF_META):
            continue
        if key not in known:
            problems.append(f"unknown argument {path}{key}")
            continue
        inner = known[key].get("block")
        # An argument that is computed as a whole has its form from elsewhere.
        for one in value if isinstance(value, list) else [value]:
            if inner and isinstance(one, dict):
                problems += _block(one, inner, f"{path}{key}.")
    for key, contents in dynamic.items():
        if key not in known:
            problems.append(f"unknown block {path}{key}")
        else:
            for one in contents:
                problems += _block(one, known[key]["block"], f"{path}{key}.")
    missing = [key for key, entry in known.items() if entry["required"] and key not in given and key not in dynamic]
    return problems + [f"argument {path}{key} is required and missing" for key in sorted(missing)]


def _names(root: Path, folder: str, blocks: dict[str, list[Any]]) -> list[str]:
    variables = {name: body for block in blocks.get("variable", []) for name, body in block.items()}
    known = {("var", name) for name in variables}
    known |= {("local", name) for block in blocks.get("locals", []) for name in block if not name.startswith("__")}
    known |= set(resources(blocks))
    data = set(resources(blocks, "data"))
    text = "\n".join(COMMENT.sub("", file.read_text(encoding="utf-8")) for file in sorted((root / folder).glob("*.tf")))
    text = re.sub(r'(description|error_message)\s*=\s*"[^"]*"', "", text)
    used, problems = set(), []
    for scope, name, more in REFERENCE.findall(text):
        if scope == "data":
            if (name, more) not in data:
                problems.append(f"data.{name}.{more} is named and not declared")
            continue
        used.add((scope, name))
        if (scope, name) not in known:
            problems.append(f"{scope}.{name} is named and not declared")
    outside = re.sub(r'^variable "(\w+)" \{.*?^\}', "", text, flags=re.MULTILINE | re.DOTALL)
    for name, body in variables.items():
        if not re.search(rf"\bvar\.{name}\b", outside):
            problems.append(f"variable {name} is declared and not used")
        problems += [f"variable {name} has no {key}" for key in ("type", "description") if key not in body]
    outputs = {name: body for block in blocks.get("output", []) for name, body in block.items()}
    problems += [f"output {name} has no description" for name, body in outputs.items() if "description" not in body]
    return sorted(set(problems))


def check_format(root: Path) -> list[str]:
    """What `terraform fmt` would change; nothing where terraform is not installed."""
    terraform = shutil.which("terraform")
    if not terraform:
        return []
    done = subprocess.run(
        [terraform, "fmt", "-check", "-recursive", "infra"], cwd=root, capture_output=True, text=True, check=False
    )
    return [f"{line}: not as terraform fmt writes it" for line in done.stdout.splitlines() if line.strip()]
