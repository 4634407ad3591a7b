"""What a disk refuses, in the words of a blob store."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import lmdb

from sos.errors import NoSpace, ReadOnly, SOSError, Unavailable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BUSY = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
# What says nothing of the data that was to be read or written.
_OF_SYSTEM = (*_FULL, *_BUSY, *_FORBIDDEN, errno.EROFS, errno.EIO, errno.EAGAIN)


class SyncFailed(Exception):
    """Data may not have reached the disk, and asking again would not tell.

    After a failed fsync the kernel may have dropped the pages, and a second
    fsync succeeds without them (the PostgreSQL project's "fsyncgate", 2018).
    """


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what the disk refuses into the store's own errors.

    A full map passes, for the index grows it.
    """
    try:
        yield
    except OSError as error:
        raise _refusal(error) from error
    except lmdb.MapFullError:
        raise
    except lmdb.Error as error:
        if _is_one_of(error, _FULL):
            raise NoSpace(f"the disk is full: {error}") from error
        if _is_one_of(error, _BUSY):
            raise Unavailable(f"out of files or memory: {error}") from error
        raise SyncFailed(f"the index could not be written: {error}") from error


def is_of_system(error: lmdb.Error) -> bool:
    """Tell whether the system refused something, and nothing is said of what the index holds."""
    return _is_one_of(error, _OF_SYSTEM)


def _is_one_of(error: lmdb.Error, numbers: Iterable[int]) -> bool:
    # py-lmdb keeps the errno in its message alone.
    return any(os.strerror(number) in str(error) for number in numbers)


def is_full(error: OSError) -> bool:
    """Tell whether *error* says that there is no room."""
    return error.errno in _FULL


def is_of_process(error: OSError) -> bool:
    """Tell whether *error* says that this process, or the machine, has no more to work with."""
    return error.errno in _BUSY


def _refusal(error: OSError) -> SOSError:
    if is_full(error):
        return NoSpace(f"the disk is full: {error}")
    if is_of_process(error):
        return Unavailable(f"out of files or memory: {error}")
    if error.errno == errno.EROFS:
        return ReadOnly(f"the disk is mounted read-only: {error}")
    if error.errno in _FORBIDDEN:
        return Unavailable(f"the daemon has no right to that: {error}")
    return Unavailable(f"the disk failed: {error}")
