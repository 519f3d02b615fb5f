"""The compiled binaries: where they lie, and whether they can run in the image.

Modal notices a missing file only while it builds the image, and a binary of another system only when a container starts.
Both are told here, before anything is sent.
"""

import re
import struct
from pathlib import Path

from .settings import ROOT

# glibc of Debian 13, on which the image stands (`images.BASE`).
GLIBC = (2, 41)
BUILD = "`make release` builds them; DEPLOY_BIN_DIR names another folder"

ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
X86_64 = 62
PT_INTERP = 3


class BinaryError(RuntimeError):
    """Why the binary would not run in the image."""


def path(bin_dir, name):
    """The binary's path on the machine that deploys."""
    return ROOT / Path(bin_dir).expanduser() / name


def check(file, glibc=GLIBC):
    """Raises unless the file is a binary that runs in the image, which has this glibc, or an unknown one."""
    if not file.is_file():
        raise BinaryError(f"{file}: no such binary; {BUILD}")
    content = file.read_bytes()
    if not content.startswith(ELF64_LITTLE_ENDIAN) or struct.unpack_from("<H", content, 18)[0] != X86_64:
        raise BinaryError(f"{file}: expected a binary for Linux on x86-64; build it on such a machine. {BUILD}")
    if glibc is None or not _has_interpreter(content):
        return
    needed = max(((int(major), int(minor)) for major, minor in re.findall(rb"GLIBC_(\d+)\.(\d+)", content)), default=(0, 0))
    if needed > glibc:
        raise BinaryError(
            f"{file}: needs glibc {needed[0]}.{needed[1]}, the image has {glibc[0]}.{glibc[1]}; build it on Debian 13 or older, or static"
        )


def _has_interpreter(content):
    """Whether the dynamic linker loads it; a static binary brings its own libc, whose version strings say nothing."""
    (offset,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    kinds = (struct.unpack_from("<I", content, offset + at * size)[0] for at in range(count))
    return PT_INTERP in kinds
