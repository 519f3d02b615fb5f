"""What an ELF file asks of the system that starts it: machine, libraries, versions of symbols.

Read from the dynamic section as the loader of the system reads it, through program headers, not from section headers,
which a stripped file may lack:

    PT_DYNAMIC -> DT_NEEDED, DT_STRTAB, DT_SYMTAB, DT_HASH / DT_GNU_HASH (how many symbols), DT_VERSYM, DT_VERNEED

DT_VERSYM has a number for each symbol, DT_VERNEED says which version of which library that number is.
"""

import struct

MACHINES = {3: "x86", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv"}
PT_LOAD, PT_DYNAMIC = 1, 2
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB = 1, 4, 5, 6
DT_GNU_HASH, DT_VERSYM, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFE, 0x6FFFFFFF
SYMBOL_BYTES = 24
# The top bit of a number in DT_VERSYM hides the symbol; 0 and 1 are no versions.
VERSION_BITS = 0x7FFF


class NotElf(Exception):
    """Why the file cannot be read."""


class Elf:
    """`machine`, `libraries`, `versions` (all that the file asks for) and `symbols` (name, version)."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF":
            raise NotElf("expected an ELF executable, found something else; was it built for Linux?")
        if data[4:6] != b"\x02\x01":
            raise NotElf("expected a 64-bit little-endian ELF file")
        self.data = data
        try:
            self._read()
        except (struct.error, ValueError, IndexError, KeyError) as error:
            raise NotElf(f"the ELF file is damaged: {error}") from error

    def _read(self) -> None:
        number = self._unpack("<H", 18)[0]
        self.machine = MACHINES.get(number, f"machine {number}")
        offset, size, count = self._unpack("<Q", 32)[0], *self._unpack("<HH", 54)
        headers = [self._unpack("<IIQQQQQQ", offset + index * size) for index in range(count)]
        self.loaded = [(kind[3], kind[2], kind[5]) for kind in headers if kind[0] == PT_LOAD]
        self.libraries: list[str] = []
        self.versions: set[str] = set()
        self.symbols: list[tuple[str, str]] = []
        for kind, _, at, _, _, length, _, _ in headers:
            if kind == PT_DYNAMIC:
                self._dynamic(at, length)

    def _dynamic(self, at: int, length: int) -> None:
        entries = [self._unpack("<qQ", at + index) for index in range(0, length, 16)]
        tags = dict(entries)
        if DT_STRTAB not in tags:
            return
        self.strings = self._offset(tags[DT_STRTAB])
        self.libraries = [self._text(value) for tag, value in entries if tag == DT_NEEDED]
        if DT_VERNEED not in tags:
            return
        names = self._versions(self._offset(tags[DT_VERNEED]), tags[DT_VERNEEDNUM])
        self.versions = set(names.values())
        symbols, numbers = self._offset(tags[DT_SYMTAB]), self._offset(tags[DT_VERSYM])
        for index in range(self._count(tags)):
            number = self._unpack("<H", numbers + 2 * index)[0] & VERSION_BITS
            if number in names:
                name = self._text(self._unpack("<I", symbols + SYMBOL_BYTES * index)[0])
                self.symbols.append((name, names[number]))

    def _versions(self, at: int, count: int) -> dict[int, str]:
        """Number of a version -> its name, over all libraries."""
        names = {}
        for _ in range(count):
            _, entries, _, first, following = self._unpack("<HHIII", at)
            entry = at + first
            for _ in range(entries):
                _, _, number, name, step = self._unpack("<IHHII", entry)
                names[number & VERSION_BITS] = self._text(name)
                entry += step
            at += following
        return names

    def _count(self, tags: dict[int, int]) -> int:
        """How many symbols there are; only the hash tables know."""
        if DT_HASH in tags:
            return self._unpack("<II", self._offset(tags[DT_HASH]))[1]
        at = self._offset(tags[DT_GNU_HASH])
        buckets, first, bloom, _ = self._unpack("<IIII", at)
        start = at + 16 + 8 * bloom
        last = max(self._unpack(f"<{buckets}I", start), default=0)
        if last < first:
            return first
        chain = start + 4 * buckets + 4 * (last - first)
        while not self._unpack("<I", chain)[0] & 1:
            last, chain = last + 1, chain + 4
        return last + 1

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(form, self.data, at)

    def _offset(self, address: int) -> int:
        """Where in the file lies what is loaded at this address."""
        for start, offset, size in self.loaded:
            if start <= address < start + size:
                return address - start + offset
        raise ValueError(f"no segment holds address {address:#x}")

    def _text(self, at: int) -> str:
        end = self.data.index(b"\0", self.strings + at)
        return self.data[self.strings + at : end].decode("ascii", "replace")
