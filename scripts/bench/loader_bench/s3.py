"""Restores from an object store on this machine: starts servers, runs contestants, counts bytes on the wire.

The server is `s3-server` of the crate defrost-testing; server and clients are pinned to different cores. Every network
has a server of its own, so that networks can be mixed in one round.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from loader_bench import contestants, memory, peer_env, runs
from loader_bench import rounds as all_rounds
from loader_bench.contestants import Contestant

BUCKET = "bench"
START_SECONDS = 30
POLL_SECONDS = 0.02
FOOTPRINT = 3
KEYS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench-secret",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    # No client shall look for credentials elsewhere, or for a bucket in the host name.
    "AWS_EC2_METADATA_DISABLED": "true",
    "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",
}


@dataclass(frozen=True)
class Network:
    """What lies between client and store: bytes per second (None: no limit), burst bytes, milliseconds."""

    rate: int | None
    burst: int
    first_byte_ms: int


NETWORKS = {
    # 75 MiB/s after 300 MiB at full speed, as a Lambda function is reported to get.
    "lambda": Network(75 * 2**20, 300 * 2**20, 30),
    "1gb": Network(10**9, 0, 30),
    "unlimited": Network(None, 0, 0),
}

# Name in the tables, name in s3_peers.py, the module it needs, key, whether it hashes by itself, environment.
PEERS = [
    ("boto3 + safetensors mmap", "boto3", "boto3", "model.safetensors", False, {}),
    ("runai s3 c=8", "runai", "runai_model_streamer", "model.safetensors", False, {contestants.RUNAI: "8"}),
    ("runai s3 c=16", "runai", "runai_model_streamer", "model.safetensors", False, {contestants.RUNAI: "16"}),
    ("tensorizer s3", "tensorizer", "tensorizer", "model.tensors", False, {}),
    ("tensorizer s3 verify_hash", "tensorizer-hash", "tensorizer", "model.tensors", True, {}),
    ("curl, one stream", "curl", "numpy", "model.raw", False, {}),
]
WITH_PARITY = {"boto3 + safetensors mmap", "runai s3 c=16"}
# Mode of the example s3_ready, kind, key, verified.
OURS = [
    ("defrost-s3", "defrost s3", "ours", "model.snap", True),
    ("sdk-ranges", "AWS SDK, same ranges", "floor", "model.snap", False),
]


def field(binary: Path | None, folder: Path, venv: Path, only: list[str]) -> tuple[list[Contestant], list[str]]:
    """The contestants that can run, whose `file` is the key, and a line for each that cannot."""
    lineup, missing = [], []
    for mode, name, kind, key, verified in OURS:
        if binary:
            lineup.append(Contestant(name, kind, (str(binary), mode), Path(key), verified))
        else:
            missing.append(f"skipped: {name}: there is no example s3_ready in this checkout; pass --binary")
    script = Path(__file__).with_name("s3_peers.py")
    for name, script_name, module, key, hashes, env in PEERS:
        if not peer_env.imports(venv, module) or not (folder / key).exists():
            missing.append(f"skipped: {name}: {module} is not in {venv}, or {key} was not made; --prepare installs it")
            continue
        model = ("--model", str(folder / "model.json"))
        command = (str(peer_env.python(venv)), str(script), *model, script_name)
        kind = "floor" if script_name == "curl" else "loader"
        lineup.append(Contestant(name, kind, command, Path(key), hashes, env=env))
        if name in WITH_PARITY:
            checked = (*command[:2], "--verify", *command[2:])
            lineup.append(Contestant(f"{name} + xxh3", kind, checked, Path(key), True, env=env))
    return [contestant for contestant in lineup if not only or any(part in contestant.name for part in only)], missing


@dataclass
class Bench:
    """Everything a run needs."""

    folder: Path
    model: dict
    server: Path
    server_cpus: str
    client_cpus: str

    def measure(self, lineup: list, networks: list[str], rounds: int, seed: int) -> tuple[dict, list[str]]:
        """All lines by (name, network), and remarks on contestants that failed."""
        reserve = memory.Reserve(FOOTPRINT * self.model["mib"])
        with contextlib.ExitStack() as stack:
            store = stack.enter_context(self.store())
            urls = {name: stack.enter_context(self.serve(store, NETWORKS[name])) for name in networks}
            pairs = [(contestant, network) for contestant in lineup for network in networks]
            return all_rounds.measure(
                pairs, rounds, seed, lambda contestant, network: self.once(contestant, urls[network], reserve)
            )

    def once(self, contestant: Contestant, url: str, reserve) -> dict:
        """One restore into an empty folder; bytes and requests are the server's count."""
        cache = self.folder / "s3-cache"
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        reserve.take()
        post(url + "/_reset")
        command = ["taskset", "-c", self.client_cpus, *contestant.command, f"s3://{BUCKET}/{contestant.file}", str(cache)]
        env = KEYS | {"AWS_ENDPOINT_URL": url} | contestant.env
        try:
            line = runs.run(command, env, self.model["checksum"], reserve)
        finally:
            shutil.rmtree(cache, ignore_errors=True)
        counted = json.loads(get(url + "/_stats"))
        return line | {"wire_bytes": counted["body_bytes_sent"], "requests": counted["requests"]}

    @contextlib.contextmanager
    def store(self):
        """A folder with the bucket: links to the checkpoint's files."""
        store = self.folder / "s3-store"
        shutil.rmtree(store, ignore_errors=True)
        (store / BUCKET).mkdir(parents=True)
        for file in self.folder.glob("model.*"):
            os.link(file, store / BUCKET / file.name)
        try:
            yield store
        finally:
            shutil.rmtree(store)

    @contextlib.contextmanager
    def serve(self, store: Path, network: Network):
        """The address of a server of the store behind the network."""
        port_file = store / f"port-{id(network)}"
        command = ["taskset", "-c", self.server_cpus, str(self.server), "--dir", str(store)]
        command += ["--port-file", str(port_file), "--first-byte-ms", str(network.first_byte_ms)]
        if network.rate:
            command += ["--rate", str(network.rate), "--burst", str(network.burst)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield f"http://127.0.0.1:{wait_for_port(port_file, process)}"
        finally:
            process.kill()
            process.wait()
            port_file.unlink(missing_ok=True)


def wait_for_port(port_file: Path, process: subprocess.Popen) -> int:
    """The port, once the server has written it."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if port_file.exists() and (text := port_file.read_text().strip()):
            return int(text)
        time.sleep(POLL_SECONDS)
    raise LookupError(f"expected s3-server to write {port_file}, found nothing: is this the one of defrost-testing?")


def get(url: str) -> bytes:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=START_SECONDS) as answer:
        return answer.read()


def post(url: str):
    """Sends nothing to an address."""
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=START_SECONDS).close()
