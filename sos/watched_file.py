"""Files with secrets in them: read, and read again when they have changed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.logger import Logger

from sos.errors import ConfigError
from sos.regular_files import open_regular

T = TypeVar("T")

#: Seconds between looks whether a file has changed.
LOOK_SECONDS = 1.0

# Others may do nothing, the group may not write: 600 or 640.
_FORBIDDEN = stat.S_IRWXO | stat.S_IWGRP
_MOST_BYTES = 1024 * 1024

_log = Logger()


class WatchedFile(Generic[T]):
    """What a file says, as of a second ago at most.

    A file that cannot be used any more, when it has changed, changes nothing: what
    it said before holds, and the log tells why.

    :param parse: makes of the text what it means; raises ValueError, whose text
        must tell nothing of what is secret.
    :param clock: tells seconds that pass.
    :raises ConfigError: when it cannot be used at first, naming it.
    """

    def __init__(
        self, path: str, parse: Callable[[str], T], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._parse = parse
        self._clock = clock
        self._looked = clock()
        self._version = _version(path)
        self._value = read(path, parse)

    def __call__(self) -> T:
        """Return what the file says."""
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            version = _version(self._path)
            if version != self._version:
                self._version = version
                self._read_again()
        return self._value

    def _read_again(self) -> None:
        try:
            self._value = read(self._path, self._parse)
        except ConfigError as error:
            _log.error("{error}; what it said before holds", error=error)
        else:
            _log.info("{path} was read again", path=self._path)


def read(path: str, parse: Callable[[str], T]) -> T:
    """Return what *parse* makes of the file *path*, which others cannot read.

    :raises ConfigError: naming it, and telling what to do.
    """
    try:
        with open_regular(path, named=True) as file:
            status = os.fstat(file.fileno())
            if status.st_mode & _FORBIDDEN:
                raise ConfigError(
                    f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):03o}), and "
                    f"holds secrets: chmod 600 {path}"
                )
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path} is longer than {_MOST_BYTES} bytes")
    try:
        return parse(data.decode("ascii"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} holds what is not ASCII") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _version(path: str) -> object:
    """Return what is another when the file has been written, replaced or removed."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode
