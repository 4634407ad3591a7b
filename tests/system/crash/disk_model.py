"""A model of a disk that keeps what was synced, and of the rest what it likes.

It follows the system calls of a process, as strace writes them down, and can
say at any point what a power cut might leave: of each file the content of its
last sync or a later one, of each directory its entries as of its last sync or
later ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from attrs import Factory, define, frozen

#: What strace has to be asked for.
STRACE = (
    "-e",
    "trace=openat,close,lseek,write,pwrite64,writev,pwritev,ftruncate,fsync,fdatasync,link,linkat,"
    "rename,unlink,mkdir",
    "-xx",
    "-y",
    "-s",
    "100000000",
)

_LINE = re.compile(r"(\d+) +(.*)")
_UNFINISHED = re.compile(r"(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(<.*>)?.*")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"(\d+)<([^>]*)>")


@frozen
class Call:
    """One system call that has succeeded."""

    name: str
    arguments: str
    result: int

    @property
    def strings(self) -> list[bytes]:
        """Its arguments that are strings, or parts of a vector."""
        return [bytes.fromhex(s.replace("\\x", "")) for s in _STRING.findall(self.arguments)]

    @property
    def descriptor(self) -> int:
        match = _DESCRIPTOR.match(self.arguments)
        assert match is not None, self
        return int(match[1])


def calls(log: Path) -> Iterator[Call]:
    """Give the calls in *log* that have succeeded, each when it had returned."""
    begun: dict[str, str] = {}
    for line in log.read_text().splitlines():
        if (found := _LINE.match(line)) is None:
            continue
        thread, text = found.groups()
        if unfinished := _UNFINISHED.fullmatch(text):
            begun[thread] = unfinished[1]
            continue
        if resumed := _RESUMED.fullmatch(text):
            text = begun.pop(thread) + resumed[1]
        if (call := _CALL.fullmatch(text)) and int(call[3]) >= 0:
            yield Call(call[1], call[2], int(call[3]))


@define
class _Open:
    file: int
    synchronous: bool
    position: int = 0


@define
class DiskModel:
    """Everything below *root*, which is empty and synced at first.

    Files are known by numbers, as inodes are.
    """

    root: str
    names: dict[str, int] = Factory(dict)
    synced_names: dict[str, int] = Factory(dict)
    directories: set[str] = Factory(set)
    synced_directories: set[str] = Factory(set)
    contents: list[bytearray] = Factory(list)
    synced_contents: list[bytes] = Factory(list)
    open: dict[int, _Open | str] = Factory(dict)

    def follow(self, call: Call) -> bool:
        """Do what *call* did; tell whether it was about this disk."""
        if call.name == "openat":
            return self._opened(call)
        if call.name in ("link", "linkat", "rename", "unlink", "mkdir"):
            return self._named(call)
        if call.name == "close":
            return self.open.pop(call.descriptor, None) is not None
        opened = self.open.get(call.descriptor)
        if isinstance(opened, str):
            if call.name == "fsync":
                self._sync_directory(opened)
            return True
        if opened is None:
            return False
        content = self.contents[opened.file]
        if call.name == "lseek":
            opened.position = call.result
        elif call.name in ("write", "writev"):
            self._write(opened, opened.position, b"".join(call.strings)[: call.result])
            opened.position += call.result
        elif call.name in ("pwrite64", "pwritev"):
            offset = int(call.arguments.rsplit(", ", 1)[1])
            self._write(opened, offset, b"".join(call.strings)[: call.result])
        elif call.name == "ftruncate":
            size = int(call.arguments.rsplit(", ", 1)[1])
            content[:] = content[:size].ljust(size, b"\0")
        else:
            assert call.name in ("fsync", "fdatasync"), call
            self.synced_contents[opened.file] = bytes(content)
        return True

    def _opened(self, call: Call) -> bool:
        path = call.strings[0].decode()
        if not path.startswith(self.root + "/") and path != self.root:
            return False
        if path in self.directories or path == self.root:
            self.open[call.result] = path
            return True
        if path not in self.names:
            if "O_CREAT" not in call.arguments:
                return False
            self.names[path] = len(self.contents)
            self.contents.append(bytearray())
            self.synced_contents.append(b"")
        if "O_TRUNC" in call.arguments:
            self.contents[self.names[path]].clear()
        synchronous = "O_DSYNC" in call.arguments or "O_SYNC" in call.arguments
        self.open[call.result] = _Open(self.names[path], synchronous)
        return True

    def _named(self, call: Call) -> bool:
        paths = [path.decode() for path in call.strings]
        if not paths[-1].startswith(self.root):
            return False
        if call.name == "mkdir":
            self.directories.add(paths[0])
        elif call.name == "unlink":
            self.names.pop(paths[0])
        else:
            self.names[paths[1]] = self.names[paths[0]]
            if call.name == "rename":
                del self.names[paths[0]]
        return True

    def _write(self, opened: _Open, offset: int, data: bytes) -> None:
        content = self.contents[opened.file]
        content[:] = content.ljust(offset, b"\0")
        content[offset : offset + len(data)] = data
        if opened.synchronous:
            synced = bytearray(self.synced_contents[opened.file].ljust(offset, b"\0"))
            synced[offset : offset + len(data)] = data
            self.synced_contents[opened.file] = bytes(synced)

    def _sync_directory(self, directory: str) -> None:
        for now, synced in (
            (self.names, self.synced_names),
            (dict.fromkeys(self.directories, 0), dict.fromkeys(self.synced_directories, 0)),
        ):
            for path in [path for path in synced if os.path.dirname(path) == directory]:
                del synced[path]
            synced.update({p: n for p, n in now.items() if os.path.dirname(p) == directory})
            if synced is not self.synced_names:
                self.synced_directories = set(synced)

    def leave(self, target: Path, random: Random | None) -> None:
        """Make below *target* what a power cut may leave now.

        :param random: chooses what else than the synced is left; None leaves
            only that.
        """

        def later() -> bool:
            return random is not None and random.random() < 0.5

        target.mkdir()
        for directory in sorted(self.directories | self.synced_directories):
            made = self._at(target, directory)
            if made.parent.exists() and (directory in self.synced_directories or later()):
                made.mkdir()
        written: dict[int, Path] = {}
        for directory in sorted({os.path.dirname(p) for p in (*self.names, *self.synced_names)}):
            names = self.names if later() else self.synced_names
            for path, file in names.items():
                made = self._at(target, path)
                if os.path.dirname(path) != directory or not made.parent.exists():
                    continue
                if file in written:
                    os.link(written[file], made)
                else:
                    made.write_bytes(self.contents[file] if later() else self.synced_contents[file])
                    written[file] = made

    def _at(self, target: Path, path: str) -> Path:
        return target / os.path.relpath(path, self.root)
