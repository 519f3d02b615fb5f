"""What is in an image and what it says of itself, read from the archive that the engine saves."""

import gzip
import json
import tarfile
import tempfile
from pathlib import Path

from lib.containers import PORT, Failed

CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
SNAPSTART = "com.amazonaws.lambda.feature.snapstart"
# `docker push` packs the layers so; it is the default of zlib and of both engines.
GZIP_LEVEL = 6


class Archive:
    """An image as an archive: its layers' files and their compressed size."""

    def __init__(self, engine, image, folder):
        self.files, self.compressed = {}, 0
        path = Path(folder) / "image.tar"
        flags = ["--format", "docker-archive"] if engine.is_podman else []
        engine.call("save", *flags, "-o", path, image)
        with tarfile.open(path) as archive:
            manifest = json.load(archive.extractfile("manifest.json"))[0]
            for name in manifest["Layers"]:
                layer = archive.extractfile(name).read()
                layer = gzip.decompress(layer) if layer[:2] == b"\x1f\x8b" else layer
                self.compressed += len(gzip.compress(layer, GZIP_LEVEL))
                self._take(layer)
        path.unlink()

    def _take(self, layer):
        with tempfile.TemporaryFile() as file:
            file.write(layer)
            file.seek(0)
            with tarfile.open(fileobj=file) as members:
                for member in members:
                    data = members.extractfile(member).read() if member.isfile() else None
                    self.files[member.name.strip("/")] = (member, data)


def check_common(engine, name, image, archive, libraries=frozenset(), title=None):
    """What every image has: one binary, certificates, a /tmp, no root, OCI's labels. Returns what the engine knows."""
    found = {path for path, (_, data) in archive.files.items() if data is not None}
    expect("regular files", found, {name, CERTIFICATES, *libraries})
    expect("mode of /tmp", archive.files["tmp"][0].mode & 0o7777, 0o1777)
    expect(
        "files that others than root may write",
        [path for path, (member, _) in archive.files.items() if member.mode & 0o002 and path != "tmp"],
        [],
    )
    inspected = engine.inspected("image", image)
    config = inspected["Config"]
    expect("user", config["User"], "65532:65532")
    expect("entrypoint", config["Entrypoint"], [f"/{name}"])
    expect("stop signal", config["StopSignal"], "SIGTERM")
    missing = [
        label
        for label in ("title", "description", "licenses", "version", "revision")
        if not config["Labels"].get(f"org.opencontainers.image.{label}")
    ]
    expect("missing OCI labels", missing, [])
    expect("title", config["Labels"]["org.opencontainers.image.title"], title or name)
    return inspected


def check_contents(engine, function, image, archive):
    """Files, user, port, variables, health check and labels are those that infra/images/README.md promises."""
    inspected = check_common(engine, function, image, archive)
    check_service(inspected, f"/{function}", {})
    expect("SnapStart label", inspected["Config"]["Labels"].get(SNAPSTART), "Allow")


def check_service(inspected, binary, more):
    """Port, variables and health check of an image that serves."""
    config = inspected["Config"]
    expect("ports", list(config["ExposedPorts"]), [f"{PORT}/tcp"])
    variables = dict(one.split("=", 1) for one in config["Env"])
    variables.pop("PATH", None)
    expect(
        "variables",
        variables,
        {"MODEL": "/models/model.snap", "HOST": "0.0.0.0", "PORT": str(PORT), "CACHE_DIR": "/tmp/defrost"} | more,
    )
    # docker's place, then podman's.
    health = config.get("Healthcheck") or inspected.get("Healthcheck") or {"Test": None}
    expect("health check", health["Test"], ["CMD", binary, "healthcheck"])


def check_size(engine, image, archive, limit):
    """The image is within its budget."""
    size = engine.inspected("image", image)["Size"]
    if size > limit:
        raise AssertionError(f"{size / 1e6:.2f} MB, budget {limit / 1e6:.2f} MB (data/budgets.toml)")
    return f"{size / 1e6:.2f} MB, {archive.compressed / 1e6:.2f} MB as gzip, budget {limit / 1e6:.2f} MB"


def expect(what, found, wanted):
    """Fails with both if they differ."""
    if found != wanted:
        raise AssertionError(f"{what}: expected {wanted}, found {found}")


def extract(archive, function, folder):
    """Puts the function's binary into a folder."""
    if function not in archive.files:
        raise Failed(f"expected /{function} in the image, found {sorted(archive.files)}")
    path = Path(folder) / function
    path.write_bytes(archive.files[function][1])
    path.chmod(0o755)
    return path
