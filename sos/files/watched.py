"""Files with secrets and certificates: read, and read again when they have changed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakSet

from twisted.logger import Logger

from sos.errors import ConfigError
from sos.files.regular import open_regular

T = TypeVar("T")

#: Seconds between looks whether a file has changed.
LOOK_SECONDS = 1.0
#: Seconds for which a file can be gone, as while an editor puts another in its place.
GONE_SECONDS = 5.0

# Others may do nothing, the group may not write: 600 or 640.
_FORBIDDEN = stat.S_IRWXO | stat.S_IWGRP
_MOST_BYTES = 1024 * 1024

_log = Logger()

# All that there are in this process, to which a signal goes as a whole.
_watched: WeakSet[WatchedFiles[Any]] = WeakSet()


class WatchedFiles(Generic[T]):
    """What several files mean together, as of a second ago at most.

    Files that cannot be used any more, when they have changed, change nothing: what they
    meant before holds, and :meth:`trouble` and the log tell why.  A file that is being
    written, for which it is taken when it was changed in place or is empty, is read once it
    has been the same for a second.

    :param make: returns what the files mean; raises ConfigError.
    :param clock: returns a time in seconds.
    :raises ConfigError: when they cannot be used at first.
    """

    def __init__(
        self,
        paths: Sequence[str],
        make: Callable[[], T],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._make = make
        self._clock = clock
        self._looked = clock()
        self._versions = self._seen = self._look_at()
        self._trouble: str | None = None
        self._value = make()
        _watched.add(self)

    def __call__(self) -> T:
        """Return what the files mean."""
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            before, self._seen = self._seen, self._look_at()
            self._judge(before)
        return self._value

    def trouble(self) -> str | None:
        """Say why the files as they are do not hold, None if they do."""
        self()
        return self._trouble

    def read_again(self) -> None:
        """Read the files now: whoever asks for it has written them to their ends."""
        self._looked = self._clock()
        before, self._seen = self._seen, self._look_at()
        self._judge(before, asked=True)

    def _look_at(self) -> list[_Version | None]:
        return [_version(path) for path in self._paths]

    def _judge(self, before: list[_Version | None], asked: bool = False) -> None:
        """Take what is there now for what holds, unless it is as it was, or is being written.

        :param before: what was there a second ago.
        :param asked: whether it is taken in any case.
        """
        if not asked and (
            self._seen == self._versions
            or any(
                now != earlier and _is_being_written(now, earlier, then)
                for now, earlier, then in zip(self._seen, before, self._versions, strict=True)
            )
        ):
            return
        self._versions = self._seen
        try:
            self._value = self._make()
        except ConfigError as error:
            self._tell(f"{error}; what it said before holds")
        else:
            self._trouble = None
            for path in self._paths:
                _log.info("{path} was read again", path=path)

    def _tell(self, trouble: str) -> None:
        self._trouble = trouble
        _log.error("{trouble}", trouble=trouble)


class WatchedFile(WatchedFiles[T]):
    """What one file with a secret says, which can cease to hold when the file is removed.

    :param parse: makes of the text what it means; raises ValueError, whose text
        must tell nothing of what is secret.
    :param without: what holds when there is no such file any more, for
        :data:`GONE_SECONDS`; None for what it said before.
    """

    def __init__(
        self,
        path: str,
        parse: Callable[[str], T],
        clock: Callable[[], float] = time.monotonic,
        without: T | None = None,
    ) -> None:
        super().__init__([path], lambda: read(path, parse), clock)
        self._path = path
        self._without = without
        self._gone_since: float | None = None

    def _judge(self, before: list[_Version | None], asked: bool = False) -> None:
        if self._without is not None and self._seen == [None]:
            self._miss(self._looked, self._without)
        else:
            self._gone_since = None
            super()._judge(before, asked)

    def _miss(self, now: float, without: T) -> None:
        if self._gone_since is None:
            self._gone_since = now - _still_seconds(os.path.dirname(self._path))
        if self._versions != [None] and now - self._gone_since >= GONE_SECONDS:
            self._versions = [None]
            self._value = without
            self._tell(f"{self._path} is gone, and what it said holds no more")


def read_all_again() -> None:
    """Read all files that are watched in this process again, as at SIGHUP."""
    for each in list(_watched):
        each.read_again()


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


class _Version(NamedTuple):
    """What is another when a file has been written or replaced, or can be reached again."""

    inode: int
    size: int
    changed: int
    mode: int


def _version(path: str) -> _Version | None:
    """Return the version of a file, None if there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # which says nothing of whether it is there
        return _Version(0, -1, 0, error.errno or 0)
    return _Version(status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)


def _is_being_written(seen: _Version | None, *before: _Version | None) -> bool:
    """Tell whether a file that is not as *before* can be one that is not written to its end."""
    if seen is None:
        return False
    return not seen.size or seen.inode in {each.inode for each in before if each is not None}


def _still_seconds(directory: str) -> float:
    """Return for how long nothing has come into, or gone from, a *directory*."""
    try:
        return max(time.time() - os.stat(directory).st_mtime, 0.0)
    except OSError:
        return 0.0
