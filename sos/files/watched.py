"""Files with secrets and certificates, which are read again when they have changed."""

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

#: Seconds between checks whether a file has changed.
LOOK_SECONDS = 1.0
#: Seconds for which a file can be missing, as while an editor replaces it.
GONE_SECONDS = 5.0

# Others may do nothing, the group may not write: 600 or 640.
_FORBIDDEN = stat.S_IRWXO | stat.S_IWGRP
_MOST_BYTES = 1024 * 1024

_log = Logger()

# All instances in this process: a signal makes all of them read again.
_watched: WeakSet[WatchedFiles[Any]] = WeakSet()


class WatchedFiles(Generic[T]):
    """A value that is made from several files, and is at most a second old.

    If changed files are invalid, the previous value stays in effect, and :meth:`trouble` and
    the log say why.  A file that is empty, or was changed in place, may still be being
    written: it is read once it has been the same for a second.

    :param make: reads the files and returns the value; raises ConfigError.
    :param clock: returns a time in seconds.
    :raises ConfigError: if the files are invalid at first.
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
        """Return the value, after a check for changes if one is due."""
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            before, self._seen = self._seen, self._look_at()
            self._judge(before)
        return self._value

    def trouble(self) -> str | None:
        """Return why the current files are not in effect, None if they are."""
        self()
        return self._trouble

    def read_again(self) -> None:
        """Read the files now: the caller knows that they are complete."""
        self._looked = self._clock()
        before, self._seen = self._seen, self._look_at()
        self._judge(before, asked=True)

    def _look_at(self) -> list[_Version | None]:
        return [_version(path) for path in self._paths]

    def _judge(self, before: list[_Version | None], asked: bool = False) -> None:
        """Load the files unless they are unchanged or being written.

        :param before: their versions at the previous check.
        :param asked: whether to load them in any case.
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
            self._report(f"cannot reload a file, keeping its old content: {error}")
        else:
            self._trouble = None
            for path in self._paths:
                _log.info("reloaded {path}", path=path)

    def _report(self, trouble: str) -> None:
        self._trouble = trouble
        _log.error("{trouble}", trouble=trouble)


class WatchedFile(WatchedFiles[T]):
    """The value of one file with a secret, which can be revoked by removing the file.

    :param parse: returns the value for the text; raises ValueError, whose text
        must not contain the secret.
    :param without: the value after the file has been missing for
        :data:`GONE_SECONDS`; None to keep the previous one.
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
            self._report(f"{self._path} no longer exists: all of its entries are revoked")


def read_all_again() -> None:
    """Read all watched files of this process again, as at SIGHUP."""
    for each in list(_watched):
        each.read_again()


def read(path: str, parse: Callable[[str], T]) -> T:
    """Return the result of *parse* for the text of *path*, which must not be open to others.

    :raises ConfigError: naming the file and the error.
    """
    try:
        with open_regular(path, named=True) as file:
            status = os.fstat(file.fileno())
            check_mode(path, status, "secrets")
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path} is longer than {_MOST_BYTES} bytes")
    try:
        return parse(data.decode("ascii"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} contains non-ASCII characters") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def check_mode(path: str, status: os.stat_result, content: str) -> None:
    """Raise ConfigError if others can do anything with *path*, or its group can write it.

    :param content: what the file holds, for the error.
    """
    if status.st_mode & _FORBIDDEN:
        raise ConfigError(
            f"other users can access {path} (mode {stat.S_IMODE(status.st_mode):03o}), "
            f"which contains {content}: run chmod 600 {path}"
        )


class _Version(NamedTuple):
    """A fingerprint that changes when a file is written, replaced, or becomes accessible."""

    inode: int
    size: int
    changed: int
    mode: int


def _version(path: str) -> _Version | None:
    """Return the version of a file, None if it does not exist."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # so it is unknown whether the file exists
        return _Version(0, -1, 0, error.errno or 0)
    return _Version(status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)


def _is_being_written(seen: _Version | None, *before: _Version | None) -> bool:
    """Return whether a file that differs from *before* may be incomplete."""
    if seen is None:
        return False
    return not seen.size or seen.inode in {each.inode for each in before if each is not None}


def _still_seconds(directory: str) -> float:
    """Return the seconds since an entry of *directory* was last added or removed."""
    try:
        return max(time.time() - os.stat(directory).st_mtime, 0.0)
    except OSError:
        return 0.0
