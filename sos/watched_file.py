"""Files with secrets in them: read, and read again when they have changed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from twisted.logger import Logger

from sos.errors import ConfigError
from sos.regular_files import open_regular

T = TypeVar("T")

#: Seconds between looks whether a file has changed.
LOOK_SECONDS = 1.0
#: Seconds for which a file can be gone, as while an editor puts another in its place.
GONE_SECONDS = 5.0

# Others may do nothing, the group may not write: 600 or 640.
_FORBIDDEN = stat.S_IRWXO | stat.S_IWGRP
_MOST_BYTES = 1024 * 1024

_log = Logger()


class WatchedFile(Generic[T]):
    """What a file says, as of a second ago at most.

    A file that cannot be used any more, when it has changed, changes nothing: what it said
    before holds, and :meth:`trouble` and the log tell why.  One that is being written, for
    which it is taken when it was changed in place or is empty, is read once it has been the
    same for a second.

    :param parse: makes of the text what it means; raises ValueError, whose text
        must tell nothing of what is secret.
    :param clock: tells seconds that pass.
    :param without: what holds when there is no such file any more, for
        :data:`GONE_SECONDS`; None for what it said before.
    :raises ConfigError: when it cannot be used at first, naming it.
    """

    def __init__(
        self,
        path: str,
        parse: Callable[[str], T],
        clock: Callable[[], float] = time.monotonic,
        without: T | None = None,
    ) -> None:
        self._path = path
        self._parse = parse
        self._clock = clock
        self._without = without
        self._looked = clock()
        self._version = self._seen = _version(path)
        self._gone_since: float | None = None
        self._trouble: str | None = None
        self._value = read(path, parse)

    def __call__(self) -> T:
        """Return what the file says."""
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look(now)
        return self._value

    def trouble(self) -> str | None:
        """Say why the file as it is does not hold, None if it does."""
        self()
        return self._trouble

    def _look(self, now: float) -> None:
        seen, self._seen = self._seen, _version(self._path)
        if self._seen is None and self._without is not None:
            self._miss(now, self._without)
            return
        self._gone_since = None
        if self._seen == self._version or (
            self._seen != seen and _is_being_written(self._seen, seen, self._version)
        ):
            return
        self._version = self._seen
        try:
            self._value = read(self._path, self._parse)
        except ConfigError as error:
            self._tell(f"{error}; what it said before holds")
        else:
            self._trouble = None
            _log.info("{path} was read again", path=self._path)

    def _miss(self, now: float, without: T) -> None:
        if self._gone_since is None:
            self._gone_since = now - _still_seconds(os.path.dirname(self._path))
        if self._version is not None and now - self._gone_since >= GONE_SECONDS:
            self._version = None
            self._value = without
            self._tell(f"{self._path} is gone, and what it said holds no more")

    def _tell(self, trouble: str) -> None:
        self._trouble = trouble
        _log.error("{trouble}", trouble=trouble)


class WatchedFiles(Generic[T]):
    """What several files mean together, as of a second ago at most.

    As with :class:`WatchedFile`, files that cannot be used any more change nothing.

    :param make: returns what the files mean; raises ConfigError.
    :param clock: tells seconds that pass.
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

    def __call__(self) -> T:
        """Return what the files mean."""
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look()
        return self._value

    def trouble(self) -> str | None:
        """Say why the files as they are do not hold, None if they do."""
        self()
        return self._trouble

    def _look_at(self) -> list[_Version | None]:
        return [_version(path) for path in self._paths]

    def _look(self) -> None:
        seen, self._seen = self._seen, self._look_at()
        if self._seen == self._versions or any(
            now != before and _is_being_written(now, before, then)
            for now, before, then in zip(self._seen, seen, self._versions, strict=True)
        ):
            return
        self._versions = self._seen
        try:
            self._value = self._make()
        except ConfigError as error:
            self._trouble = f"{error}; the files as they were before hold"
            _log.error("{trouble}", trouble=self._trouble)
        else:
            self._trouble = None
            _log.info("{paths} were read again", paths=", ".join(self._paths))


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
