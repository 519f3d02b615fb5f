"""The tool's image as a job runs it: a file in, a file out, as a user without rights, on a root that is read-only."""

import json
from pathlib import Path

from image_checks.contents import check_common, expect
from image_checks.declared import link_or_copy
from lib.containers import LOCKED_DOWN, TOOL

TEXTS = 40


def check_contents(engine, image, archive):
    """The binary and certificates, no root, no port."""
    config = check_common(engine, TOOL, image, archive)["Config"]
    expect("ports", config.get("ExposedPorts") or {}, {})


def run(engine, image, mount, *arguments):
    """The tool in a container of its own, with a folder or file mounted; how it ended."""
    command = ["run", "--rm", *engine.run_flags, *LOCKED_DOWN, "-v", mount, image, *arguments]
    return engine.tried(*engine.globals, *command)


def check_job(engine, image, model, folder):
    """Bulk embedding of a file: every text once, again without work, and refused where it cannot write."""
    # The container's user is another one than this.
    folder.chmod(0o777)
    link_or_copy(Path(model), folder / "model.snap")
    texts = [{"id": f"text-{number}", "text": f"Text number {number} of a job."} for number in range(TEXTS)]
    (folder / "in.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    command = ["embed", "--model", "/data/model.snap", "--in", "/data/in.jsonl", "--out", "/data/out.jsonl"]
    job = lambda: run(engine, image, f"{folder}:/data", *command)
    done = job()
    if done.returncode:
        raise AssertionError(f"the job ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    out = folder / "out.jsonl"
    written = out.read_bytes()
    expect("ids", [json.loads(line)["id"] for line in written.splitlines()], [text["id"] for text in texts])
    # A task that the platform tries again.
    expect("exit code of a second run", job().returncode, 0)
    expect("output after it", out.read_bytes() == written, True)
    out.unlink()
    folder.chmod(0o755)
    refused = job()
    if refused.returncode == 0 or "/data" not in refused.stderr:
        raise AssertionError(f"expected an error that names /data, found {refused.returncode}: {refused.stderr}")
    return f"{TEXTS} texts, once; a folder that is not its own is told: {refused.stderr.strip().splitlines()[0][:90]}"


def check_verify(engine, image, model):
    """The snapshot, mounted for reading only, is verified by its hashes."""
    done = run(engine, image, f"{Path(model).resolve()}:/model.snap:ro", "verify", "/model.snap")
    if done.returncode:
        raise AssertionError(f"verify ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return done.stdout.strip().splitlines()[0][:100]
