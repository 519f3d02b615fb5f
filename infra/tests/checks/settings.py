"""What the functions accept, read from docs/: settings with defaults, routes of probes.

The tables of docs/settings.md and docs/api.md are held to the binaries by their own tests, so they stand for them here; with a built binary at hand
test_settings.py compares its --help too.
"""

import re
from functools import cache
from pathlib import Path

ROW = re.compile(r"^\| `([A-Z_]+)` \| (?:`([^`]*)`)?(?:, gpu: `[^`]*`)? ?\| (.*) \|$", re.MULTILINE)
# Variables of the AWS SDK and of the loader's S3 source that docs/operations.md and the loader document.
STORE_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "AWS_S3_ADDRESSING_STYLE",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SKIP_SIGNATURE",
    }
)
BOOL = re.compile(r"^(true|false)$")
NUMBER = re.compile(r"^[0-9]+$")
# Settings whose values are words of the sentence in docs/settings.md.
WORDS = {
    "INVOKE_MODE": {"buffered", "response_stream"},
    "LOG_FORMAT": {"text", "json"},
    "VERIFY": {"stamped", "on-the-fly", "eager"},
    "RETURN_DATA": {"auto", "always"},
    "NORMALIZATION": {"sigmoid", "raw", "mxbai"},
    "BACKEND": {"engine", "ort"},
    "DTYPE": {"auto", "int8", "bf16", "f16", "f32"},
}
# Settings that functions on a GPU read beside, with the form of their values.
GPU_SETTINGS = {
    "DEVICE": re.compile(r"auto|cuda(:\d+)?"),
    "GPU_MEMORY_FRACTION": re.compile(r"0\.\d+|1(\.0+)?"),
    "USE_FP16": re.compile(r"true|false"),
}


@cache
def settings(root: Path) -> dict[str, str]:
    """Name -> default, as docs/settings.md has them."""
    text = (root / "docs" / "settings.md").read_text(encoding="utf-8")
    table = text[text.index("<!-- settings -->") : text.index("<!-- /settings -->")]
    return {name: default for name, default, _ in ROW.findall(table)}


def settings_of(root: Path, kind: str) -> set[str]:
    """Names of the settings that functions of `kind` list: those whose row names no other kind."""
    text = (root / "docs" / "settings.md").read_text(encoding="utf-8")
    table = text[text.index("<!-- settings -->") : text.index("<!-- /settings -->")]
    kinds = {name: re.match(r"(\w+): ", meaning) for name, _, meaning in ROW.findall(table)}
    return {name for name, of in kinds.items() if of is None or of[1] == kind}


@cache
def probes(root: Path) -> set[str]:
    """Paths that answer GET without a key: the row of docs/api.md that says 503 while loading."""
    text = (root / "docs" / "api.md").read_text(encoding="utf-8")
    row = re.search(r"\| `GET ([^`]+)` \| 503 while loading", text)
    if not row:
        raise LookupError("docs/api.md: expected the row of GET /health and its like, found none")
    return set(row[1].split())


def port(root: Path) -> int:
    """What the functions listen on unless told otherwise."""
    return int(settings(root)["PORT"])


def check_variable(root: Path, name: str, value: str | None, gpu: bool = False) -> list[str]:
    """What is wrong with a variable of a function, `gpu` one on a GPU; `value` is None where only the deployment knows it."""
    known = settings(root)
    if name in STORE_VARIABLES:
        return []
    if name in GPU_SETTINGS:
        if not gpu:
            return [f"{name} is a setting of functions on a GPU"]
        if value is not None and "${" not in value and not GPU_SETTINGS[name].fullmatch(value):
            return [f"{name}={value}: expected {GPU_SETTINGS[name].pattern}"]
        return []
    if name not in known:
        return [f"unknown setting {name}: the functions do not read it (docs/settings.md)"]
    if value is None or "${" in value:
        return []
    default = known[name]
    if name in WORDS and value not in WORDS[name]:
        return [f"{name}={value}: expected one of {', '.join(sorted(WORDS[name]))}"]
    if BOOL.match(default) and not BOOL.match(value):
        return [f"{name}={value}: expected true or false"]
    if NUMBER.match(default) and not NUMBER.match(value):
        return [f"{name}={value}: expected a number"]
    if name == "API_KEYS":
        return ["API_KEYS has a value in the file: keys come from a secret"]
    return []
