"""Regular files, opened safely in directories whose contents are not trusted.

A path can also lead to a pipe, on which a reader would block for ever, to a device, on which
merely opening it can have effects, or through a link to a file that was not meant.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from io import FileIO

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

#: Most bytes of a file to read as a whole.
MOST_BYTES = 16 * 1024 * 1024

_MODES = {os.O_RDONLY: "rb", os.O_WRONLY: "wb", os.O_RDWR: "r+b"}

_Path = str | os.PathLike[str]


class NotRegular(OSError):
    """A path leads to something other than a regular file, which the text names."""

    def __init__(self, path: _Path, kind: str) -> None:
        super().__init__(errno.EINVAL, f"it is {kind}, not a regular file", os.fspath(path))

    def __str__(self) -> str:
        return str(self.strerror)


def open_regular(path: _Path, flags: int = os.O_RDONLY, named: bool = False) -> FileIO:
    """Open the regular file *path*, unbuffered, without blocking.

    :param flags: as for :func:`os.open`; ``O_TRUNC`` truncates only a regular file.
    :param named: whether a person has named the file: then links are followed, and
        ``/dev/null`` is an empty file.
    :raises OSError: if it cannot be opened, :exc:`NotRegular` if it is not a regular file.
    """
    wanted = flags & ~os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, wanted if named else wanted | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # ENXIO: a socket or pipe
            check_regular(path, named)
        raise
    try:
        _check(path, os.fstat(descriptor), named)
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
        return FileIO(descriptor, _MODES[flags & os.O_ACCMODE])
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: _Path, most: int = MOST_BYTES, named: bool = False) -> bytes:
    """Return the content of a regular file, see :func:`open_regular`.

    :param most: the most bytes that it may have; a longer file raises OSError.
    """
    with open_regular(path, named=named) as file:
        data = b""
        while len(data) <= most and (piece := file.read(most + 1 - len(data))):
            data += piece
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is longer than {most} bytes", os.fspath(path))
    return data


def check_regular(path: _Path, named: bool = False) -> None:
    """Raise :exc:`NotRegular` if *path* exists and is not a regular file."""
    try:
        status = os.stat(path, follow_symlinks=named)
    except FileNotFoundError:
        return
    _check(path, status, named)


def _check(path: _Path, status: os.stat_result, named: bool) -> None:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return
    if named and stat.S_ISCHR(mode) and status.st_rdev == os.stat(os.devnull).st_rdev:
        return
    raise NotRegular(path, next((kind for is_one, kind in _KINDS if is_one(mode)), "special"))


def below(
    directory: _Path, failed: Callable[[OSError], object], stopped: Callable[[], bool] = bool
) -> Iterator[os.DirEntry[str]]:
    """Yield all entries below *directory* but directories, in order, without following links.

    It works at any depth, while :func:`os.walk` recurses.

    :param failed: called with the error of a directory that cannot be read.
    :param stopped: returns whether to stop.
    """
    waiting = [os.fspath(directory)]
    while waiting and not stopped():
        try:
            with os.scandir(waiting.pop()) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            failed(error)
            continue
        for entry in found:
            if not entry.is_dir(follow_symlinks=False):
                yield entry
        waiting += [entry.path for entry in reversed(found) if entry.is_dir(follow_symlinks=False)]
