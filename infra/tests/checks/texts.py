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
    candidates = [*(root / "infra").rglob("*"), root / "scripts" / "check" / "check_infra", root / "scripts" / "ops" / "deploy_azure"]
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


def check_shell(root: Path) -> list[str]:
    """What shellcheck says."""
    command = [BIN / "shellcheck", "--format", "gcc", *scripts(root)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return [line.replace(f"{root}/", "") for line in (done.stdout + done.stderr).splitlines()]


def check_yaml(root: Path) -> list[str]:
    """What yamllint says."""
    yamls = [file for file in files(root) if file.suffix in {".yaml", ".yml"}]
    command = [BIN / "yamllint", "--strict", "--format", "parsable", "--config-data", YAMLLINT, *yamls]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line.replace(f"{root}/", "") for line in (done.stdout + done.stderr).splitlines()]


def check_secrets(root: Path) -> list[str]:
    """What looks like a key in any file."""
    return [
        f"{file.relative_to(root)}: looks like a secret: {found[:12]}..."
        for file in files(root)
        for found in SECRETS.findall(file.read_text(encoding="utf-8"))
    ]


def check_links(root: Path) -> list[str]:
    """Relative links of our Markdown that lead nowhere."""
    problems = []
    pages = [file for file in files(root) if file.suffix == ".md"]
    for page in [*pages, root / "SECURITY.md", root / "docs" / "deploy-rows.md"]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                problems.append(f"{page.relative_to(root)}: link to {target}, which is not there")
    return problems
