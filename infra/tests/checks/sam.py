"""The SAM templates, as CloudFormation gets them.

cfn-lint lets most of a SAM resource pass unchecked, so the templates are expanded first, offline, by the translator that AWS
runs, and both forms are linted: the SAM one for what the expansion drops (rules, unused parameters), the other for all else. Then
come our own rules, on the expanded form.
"""

import json
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

from cfnlint.api import lint_file  # noqa: E402
from cfnlint.config import ManualArgs  # noqa: E402
from samtranslator.model.exceptions import InvalidDocumentException  # noqa: E402
from samtranslator.parser.parser import Parser  # noqa: E402
from samtranslator.translator.translator import Translator  # noqa: E402
from samtranslator.yaml_helper import yaml_parse  # noqa: E402

from . import iam, settings, states  # noqa: E402

TEMPLATES = ("template.yaml", "zip.yaml", "bulk.yaml")
FUNCTIONS = ("template.yaml", "zip.yaml")


class Session:
    """What the translator asks of boto: a region."""

    region_name = "us-east-1"


@cache
def _expand(text: str) -> str:
    document = yaml_parse(text)
    for resource in document.get("Resources", {}).values():
        properties = resource.get("Properties", {})
        # A local path is uploaded by `sam deploy`, which puts such an address here.
        if isinstance(properties.get("CodeUri"), str):
            properties["CodeUri"] = "s3://some-bucket/bootstrap.zip"
    return json.dumps(Translator({}, Parser(), boto_session=Session()).translate(document, {}), indent=1, default=str)


def expanded(root: Path, name: str) -> dict[str, Any]:
    """The template as CloudFormation."""
    return json.loads(_expand((root / "infra" / "lambda" / name).read_text(encoding="utf-8")))


def check_lint(root: Path) -> list[str]:
    """What cfn-lint and the translator say."""
    problems = []
    for name in TEMPLATES:
        text = (root / "infra" / "lambda" / name).read_text(encoding="utf-8")
        problems += [f"infra/lambda/{name}: {problem}" for problem in _lint(text, ".yaml")]
        try:
            whole = _expand(text)
        except InvalidDocumentException as error:
            problems += [f"infra/lambda/{name}: {cause.message}" for cause in error.causes]
            continue
        problems += [f"infra/lambda/{name}: expanded: {problem}" for problem in _lint(whole, ".json")]
    return problems


def check_rules(root: Path) -> list[str]:
    """Our own rules."""
    problems = []
    for name in TEMPLATES:
        document = expanded(root, name)
        found = _rights(document) + (_function(root, document) if name in FUNCTIONS else states.check(root, name))
        problems += [f"infra/lambda/{name}: {problem}" for problem in found]
    return problems


@cache
def _lint(text: str, suffix: str) -> tuple[str, ...]:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=suffix) as file:
        file.write(text)
        file.flush()
        matches = lint_file(Path(file.name), config=ManualArgs(regions=["us-east-1"]))
    return tuple(f"{match.rule.id} {match.message} (line {match.linenumber})" for match in matches)


def _resources(document: dict[str, Any], of: str) -> list[dict[str, Any]]:
    return [one["Properties"] for one in document["Resources"].values() if one["Type"] == of]


def _words(value: Any) -> str:
    """A resource of a policy as text, references as they are written."""
    if isinstance(value, dict) and "Fn::Sub" in value:
        return str(value["Fn::Sub"])
    return value if isinstance(value, str) else json.dumps(value)


def _statements(policies: Any) -> list[dict[str, Any]]:
    """Every statement anywhere below."""
    if isinstance(policies, list):
        return [statement for policy in policies for statement in _statements(policy)]
    if not isinstance(policies, dict):
        return []
    if "Effect" in policies:
        return [policies]
    return [statement for value in policies.values() for statement in _statements(value)]


def _rights(document: dict[str, Any]) -> list[str]:
    problems = []
    for role in _resources(document, "AWS::IAM::Role"):
        if role.get("ManagedPolicyArns"):
            problems.append(f"managed policies {role['ManagedPolicyArns']}: they reach further than one log group")
        for statement in _statements(role.get("Policies", [])):
            resources = statement.get("Resource", "*")
            resources = resources if isinstance(resources, list) else [resources]
            problems += iam.check_rights(statement["Action"], [_words(one) for one in resources], "role")
    for permission in _resources(document, "AWS::Lambda::Permission"):
        if permission.get("Principal") == "*" and permission.get("FunctionUrlAuthType") == "NONE":
            problems.append("the URL is open to everybody (AuthType NONE)")
    return problems


def _function(root: Path, document: dict[str, Any]) -> list[str]:
    problems = []
    function = _resources(document, "AWS::Lambda::Function")[0]
    for name, value in function["Environment"]["Variables"].items():
        problems += settings.check_variable(root, name, value if isinstance(value, str) else None)
    is_image = function.get("PackageType") == "Image"
    if is_image and function.get("SnapStart") != {"ApplyOn": "PublishedVersions"}:
        problems.append("SnapStart: expected ApplyOn PublishedVersions")
    if not is_image and "SnapStart" in function:
        problems.append("SnapStart on a zip of provided.al2023, which Lambda refuses")
    if is_image and function.get("EphemeralStorage", {}).get("Size") != 512:
        problems.append("EphemeralStorage: SnapStart allows 512 MB")
    if "ReservedConcurrentExecutions" not in function:
        problems.append("no ReservedConcurrentExecutions: abuse could cost anything")
    if function.get("MemorySize") != {"Ref": "MemorySize"}:
        problems.append("MemorySize: expected the parameter")
    boot = int(settings.settings(root)["BOOT_TIMEOUT"])
    if document["Parameters"]["Timeout"]["MinValue"] <= boot:
        problems.append(f"Timeout: expected more than BOOT_TIMEOUT ({boot} s) at least")
    problems += iam.check_stream(_of_chat(function.get("Timeout")), _of_chat(function["Environment"]["Variables"].get("REQUEST_TIMEOUT")))
    if not all("RetentionInDays" in group for group in _resources(document, "AWS::Logs::LogGroup")):
        problems.append("logs are kept for ever")
    return problems + _url(document)


def _of_chat(value: Any) -> str | None:
    """What `!If [Streams, …]` says of the function that streams."""
    condition, then, *_ = value.get("Fn::If", (None, None)) if isinstance(value, dict) else (None, None)
    return str(then) if condition == "Streams" else None


def _url(document: dict[str, Any]) -> list[str]:
    problems = []
    urls = _resources(document, "AWS::Lambda::Url")
    if not urls:
        return ["no function URL"]
    variables = _resources(document, "AWS::Lambda::Function")[0]["Environment"]["Variables"]
    problems += iam.check_invoke_mode(urls[0].get("InvokeMode"), variables.get("INVOKE_MODE"))
    if "Qualifier" not in urls[0] and not re.search(r"[Aa]lias", json.dumps(urls[0].get("TargetFunctionArn"))):
        problems.append("the URL must belong to the alias: SnapStart is for published versions")
    if document["Parameters"]["AuthType"]["Default"] != "AWS_IAM":
        problems.append("AuthType: expected AWS_IAM by default")
    rules = json.dumps(document.get("Rules", {}))
    if "NONE" not in rules or "ApiKeysSecret" not in rules:
        problems.append("Rules: AuthType NONE must need ApiKeysSecret")
    return problems
