"""What is in an image and what it says of itself, read from the archive that the engine saves."""

import gzip
import json
import tarfile
import tempfile
from pathlib import Path

from containers import PORT, Failed

CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
SNAPSTART = "com.amazonaws.lambda.feature.snapstart"
# Of the layers, as `docker push` packs them; the default of zlib and of both engines.
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


def check_contents(engine, function, image, archive, with_model=False):
    """Files, user, variables, health check and labels are those that the README promises."""
    wanted = {function, CERTIFICATES} | ({"models/model.snap"} if with_model else set())
    found = {name for name, (_, data) in archive.files.items() if data is not None}
    expect("regular files", found, wanted)
    expect("mode of /tmp", archive.files["tmp"][0].mode & 0o7777, 0o1777)
    expect(
        "files that others than root may write",
        [name for name, (member, _) in archive.files.items() if member.mode & 0o002 and name != "tmp"],
        [],
    )
    inspected = engine.inspected("image", image)
    config = inspected["Config"]
    expect("user", config["User"], "65532:65532")
    expect("entrypoint", config["Entrypoint"], [f"/{function}"])
    expect("ports", list(config["ExposedPorts"]), [f"{PORT}/tcp"])
    expect("stop signal", config["StopSignal"], "SIGTERM")
    variables = dict(one.split("=", 1) for one in config["Env"])
    variables.pop("PATH", None)
    expect(
        "variables",
        variables,
        {"MODEL": "/models/model.snap", "HOST": "0.0.0.0", "PORT": str(PORT), "CACHE_DIR": "/tmp/defrost"},
    )
    # docker's place, then podman's.
    health = config.get("Healthcheck") or inspected.get("Healthcheck") or {"Test": None}
    expect("health check", health["Test"], ["CMD", f"/{function}", "healthcheck"])
    labels = config["Labels"]
    expect("SnapStart label", labels.get(SNAPSTART), "Allow")
    missing = [
        name
        for name in ("title", "description", "licenses", "version", "revision")
        if not labels.get(f"org.opencontainers.image.{name}")
    ]
    expect("missing OCI labels", missing, [])


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
