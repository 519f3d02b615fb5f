"""The tool's image as a job runs it: a file in, a file out, as nobody, on a root that nothing can write."""

import json
import os
import stat
from pathlib import Path

from containers import LOCKED_DOWN, TOOL
from image_checks.contents import CERTIFICATES, expect

TEXTS = 40
# What the image's user is, and anybody else who may write a folder shared in this way.
OPEN_FOLDER = 0o777


def check_contents(engine, image, archive):
    """The binary and certificates, no root, no port, nothing that only functions need."""
    found = {name for name, (_, data) in archive.files.items() if data is not None}
    expect("regular files", found, {TOOL, CERTIFICATES})
    config = engine.inspected("image", image)["Config"]
    expect("user", config["User"], "65532:65532")
    expect("entrypoint", config["Entrypoint"], [f"/{TOOL}"])
    expect("ports", config.get("ExposedPorts") or {}, {})


def run(engine, image, folder, *arguments):
    """The tool in a container of its own, with the folder as /data; how it ended."""
    mount = ["-v", f"{folder}:/data"]
    return engine.tried(*engine.globals, "run", "--rm", *engine.run_flags, *LOCKED_DOWN, *mount, image, *arguments)


def check_job(engine, image, model, folder):
    """Bulk embedding of a file: every text once, again without work, and refused where it cannot write."""
    folder.chmod(OPEN_FOLDER)
    try:
        os.link(model, folder / "model.snap")
    except OSError:
        (folder / "model.snap").write_bytes(Path(model).read_bytes())
    texts = [{"id": f"text-{number}", "text": f"Text number {number} of a job."} for number in range(TEXTS)]
    (folder / "in.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    command = ["embed", "--model", "/data/model.snap", "--in", "/data/in.jsonl", "--out", "/data/out.jsonl"]
    done = run(engine, image, folder, *command)
    if done.returncode:
        raise AssertionError(f"the job ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    out = folder / "out.jsonl"
    written = out.read_bytes()
    expect("ids", [json.loads(line)["id"] for line in written.splitlines()], [text["id"] for text in texts])
    # A task that the platform tries again.
    again = run(engine, image, folder, *command)
    expect("exit code of a second run", again.returncode, 0)
    expect("output after it", out.read_bytes() == written, True)
    out.unlink()
    folder.chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    refused = run(engine, image, folder, *command)
    if refused.returncode == 0 or "/data" not in refused.stderr:
        raise AssertionError(f"expected an error that names /data, found {refused.returncode}: {refused.stderr}")
    return f"{TEXTS} texts, once; a folder that is not its own is told: {refused.stderr.strip().splitlines()[0][:90]}"


def check_verify(engine, image, model):
    """The snapshot, mounted for reading only, is verified by its hashes."""
    mount = ["-v", f"{Path(model).resolve()}:/model.snap:ro"]
    done = engine.tried(
        *engine.globals, "run", "--rm", *engine.run_flags, *LOCKED_DOWN, *mount, image, "verify", "/model.snap"
    )
    if done.returncode:
        raise AssertionError(f"verify ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return done.stdout.strip().splitlines()[0][:100]
