"""An object store over HTTPS for a function in a container: names looked up, certificates checked, in a static binary.

A static glibc resolves names with code of its own, and certificates come from the one file in the image. Both are
proved against a store on this machine: an HTTPS server whose certificate is signed by a new authority, under a name
that only a DNS server of this script knows. The function shares the machine's network, and is told of that DNS server;
it must fail as long as it does not know the authority, and answer once it does.
"""

import contextlib
import http.server
import re
import socket
import ssl
import subprocess
import threading
from pathlib import Path

from image_checks.contents import expect
from lib import CannotCheck
from lib.child import free_port
from lib.containers import Container

NAME = "store.defrost.test"
HOST = "127.0.0.1"
DNS_PORT = 53
# Header, then one question; the answer repeats the question, points at its name and gives the address for a minute.
DNS_HEADER = 12
DNS_ANSWER = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + socket.inet_aton(HOST)
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def question_end(message):
    """Where the first question of a DNS message ends."""
    at = DNS_HEADER
    while message[at]:
        at += 1 + message[at]
    return at + 5


def dns_reply(message):
    """HOST for the address of NAME; no address of another kind; of other names: unknown."""
    question = message[DNS_HEADER : question_end(message)]
    known = question[:-4] == b"".join(bytes([len(part)]) + part.encode() for part in NAME.split(".")) + b"\0"
    has_address = known and question[-4:-2] == b"\0\1"
    flags = b"\x81\x80" if known else b"\x81\x83"
    counts = b"\0\1" + (b"\0\1" if has_address else b"\0\0") + b"\0\0\0\0"
    return message[:2] + flags + counts + question + (DNS_ANSWER if has_address else b"")


@contextlib.contextmanager
def dns_server():
    """Names, on the port that containers ask; needs the right to open it. Yields the questions asked so far."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        try:
            server.bind((HOST, DNS_PORT))
        except OSError as error:
            raise CannotCheck(
                f"a DNS server on {HOST}:{DNS_PORT}: {error}; run as root where nothing else listens there"
            ) from error
        asked = []

        def serve():
            while True:
                message, client = server.recvfrom(512)
                if len(message) <= DNS_HEADER:
                    return
                asked.append(message)
                server.sendto(dns_reply(message), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
                stop.sendto(b"", (HOST, DNS_PORT))
            thread.join()


class Objects(http.server.BaseHTTPRequestHandler):
    """One object, in ranges, under any key."""

    protocol_version = "HTTP/1.1"
    path_of_object, served = None, None

    def do_GET(self):
        """Answers with the range that is asked for."""
        self.served.append(self.path)
        size = self.path_of_object.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", "bytes=0-"))
        first, last = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
        with self.path_of_object.open("rb") as file:
            file.seek(first)
            data = file.read(last - first + 1)
        self.send_response(206)
        self.send_header("content-range", f"bytes {first}-{last}/{size}")
        self.send_header("content-length", str(len(data)))
        self.send_header("etag", '"one-version"')
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Silence."""


def certificate(folder):
    """A new authority, and a certificate of its own for NAME: (authority, certificate, key)."""
    authority, key = folder / "ca.pem", folder / "server.key"
    common = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    commands = [
        [
            *common,
            "-keyout",
            folder / "ca.key",
            "-out",
            authority,
            "-subj",
            "/CN=check authority",
            "-addext",
            "keyUsage=critical,keyCertSign",
        ],
        [
            "openssl",
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            key,
            "-out",
            folder / "server.csr",
            "-subj",
            f"/CN={NAME}",
        ],
        [
            "openssl",
            "x509",
            "-req",
            "-in",
            folder / "server.csr",
            "-CA",
            authority,
            "-CAkey",
            folder / "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            folder / "names",
            "-out",
            folder / "server.pem",
        ],
    ]
    (folder / "names").write_text(f"subjectAltName=DNS:{NAME}\nbasicConstraints=CA:FALSE\n")
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise CannotCheck("expected openssl, found none; install it") from error
        if done.returncode:
            raise CannotCheck(f"openssl: {done.stderr.strip()}")
    authority.chmod(0o644)
    return authority, folder / "server.pem", key


@contextlib.contextmanager
def store(model, folder):
    """The HTTPS server; its port, the file of its authority, and the requests that it has served so far."""
    authority, chain, key = certificate(folder)
    handler = type("Handler", (Objects,), {"path_of_object": Path(model), "served": []})
    server = http.server.ThreadingHTTPServer((HOST, free_port()), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], authority, handler.served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def check_store(engine, function, image, model, folder):
    """The model comes over HTTPS from a name; not from a server whose authority is unknown."""
    with dns_server() as asked, store(model, folder) as (port, authority, served):
        settings = {
            "MODEL": "s3://models/model.snap",
            "AWS_ENDPOINT_URL": f"https://{NAME}:{port}",
            "AWS_REGION": "us-east-1",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            # Long enough to meet the certificate, which is refused at once.
            "RESTORE_TIMEOUT": "5",
        }
        flags = [f"--dns={HOST}", "--tmpfs=/cache:rw,size=2g,mode=1777"]
        settings["CACHE_DIR"] = "/cache"
        with Container(engine, function, image, None, flags, settings, host_network=True) as stranger:
            stranger.start()
            code = int(engine.call("wait", stranger.name))
            if code == 0 or served or not asked or "certificate" not in stranger.logs():
                raise AssertionError(
                    f"expected a name looked up and a certificate refused by name, found exit code {code}, "
                    f"{len(asked)} look-ups, {len(served)} requests: {stranger.logs()}"
                )
        # Both limits are beyond what half a gigabyte takes on a busy machine.
        settings |= {"RESTORE_TIMEOUT": "600", "BOOT_TIMEOUT": "600"}
        # The authority stands in place of the image's own, then under the variable that the error names.
        for place, variable in ((CERTIFICATES, {}), ("/authority.pem", {"SSL_CERT_FILE": "/authority.pem"})):
            trust = ["-v", f"{authority}:{place}:ro"]
            before = len(served)
            with Container(
                engine, function, image, None, flags + trust, settings | variable, host_network=True
            ) as friend:
                friend.start()
                friend.score()
            expect(f"requests for the object, trusted in {place}", len(served) > before, True)
    return f"{len(served)} ranges from https://{NAME}, {len(asked)} questions to DNS; an unknown authority is refused"
