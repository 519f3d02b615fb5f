"""Shell scripts, YAML, Makefiles and text: shellcheck, yamllint, and what must stand in no committed file here."""

import re
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
YAMLLINT = """extends: default
rules:
  document-start: disable
  line-length: {max: 130, allow-non-breakable-inline-mappings: true}
  braces: {max-spaces-inside: 0}
  comments: {min-spaces-from-content: 1}
  truthy: {check-keys: false}
"""
# Numbers that look like an account or a key, and keys themselves.
SECRETS = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|\bsk-[A-Za-z0-9]{20}|AccountKey=[A-Za-z0-9+/]{20}|ghp_[A-Za-z0-9]{30}"
)
TEXT = {".yaml", ".yml", ".tf", ".md", ".py", ".json", ".http", ".bru", ""}


def scripts(root: Path) -> list[Path]:
    """Shell scripts of infra/ and of its deployment."""
    candidates = [*(root / "infra").rglob("*"), root / "scripts" / "check_infra", root / "scripts" / "deploy_azure"]
    return sorted(file for file in candidates if file.is_file() and _shebang(file).endswith(("bash", "/sh")))


def _shebang(file: Path) -> str:
    with file.open("rb") as handle:
        first = handle.readline(80)
    return first.decode("utf-8", "replace").strip() if first.startswith(b"#!") else ""


def files(root: Path) -> list[Path]:
    """Files of infra/ that people wrote."""
    return sorted(
        file
        for file in (root / "infra").rglob("*")
        if file.is_file() and file.suffix in TEXT and not {"__pycache__", ".terraform"} & set(file.parts)
    )


def check(root: Path) -> list[str]:
    """Everything above."""
    problems = []
    for file in scripts(root):
        done = subprocess.run(
            [BIN / "shellcheck", "--format", "gcc", file], cwd=root, capture_output=True, text=True, check=False
        )
        problems += [line.replace(f"{root}/", "") for line in done.stdout.splitlines()]
    yamls = [file for file in files(root) if file.suffix in {".yaml", ".yml"}]
    done = subprocess.run(
        [BIN / "yamllint", "--strict", "--format", "parsable", "--config-data", YAMLLINT, *yamls],
        capture_output=True,
        text=True,
        check=False,
    )
    problems += [line.replace(f"{root}/", "") for line in (done.stdout + done.stderr).splitlines()]
    for file in files(root):
        where = file.relative_to(root).as_posix()
        text = file.read_text(encoding="utf-8")
        problems += [f"{where}: looks like a secret: {found[:12]}..." for found in SECRETS.findall(text)]
    return problems + links(root)


def links(root: Path) -> list[str]:
    """Relative links of our Markdown that lead nowhere."""
    problems = []
    pages = [file for file in files(root) if file.suffix == ".md"]
    for page in [*pages, root / "SECURITY.md", root / "docs" / "deploy-rows.md"]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                problems.append(f"{page.relative_to(root)}: link to {target}, which is not there")
    return problems
