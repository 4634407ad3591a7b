"""Translate errors of the disk and of LMDB into the errors of a blob store."""

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
# Errors that say nothing about the data itself.
_OF_SYSTEM = (*_FULL, *_BUSY, *_FORBIDDEN, errno.EROFS, errno.EIO, errno.EAGAIN)


class SyncFailed(Exception):
    """Data may not have reached the disk, and a retry cannot find out.

    After a failed fsync the kernel may have dropped the pages, and a second
    fsync succeeds without them (the PostgreSQL project's "fsyncgate", 2018).
    """


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise the store's own errors in place of OSError and LMDB's errors.

    MapFullError passes unchanged: the committer grows the map and retries.
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
            raise Unavailable(f"out of file descriptors or memory: {error}") from error
        raise SyncFailed(f"the index could not be written: {error}") from error


def is_of_system(error: lmdb.Error) -> bool:
    """Return whether *error* comes from the operating system, and does not mean damage."""
    return _is_one_of(error, _OF_SYSTEM)


def _is_one_of(error: lmdb.Error, numbers: Iterable[int]) -> bool:
    # py-lmdb has the errno only as text in its message.
    return any(os.strerror(number) in str(error) for number in numbers)


def is_full(error: OSError) -> bool:
    """Return whether *error* means that the disk or the quota is full."""
    return error.errno in _FULL


def is_of_process(error: OSError) -> bool:
    """Return whether *error* means that the process or the machine lacks files or memory."""
    return error.errno in _BUSY


def _refusal(error: OSError) -> SOSError:
    if is_full(error):
        return NoSpace(f"the disk is full: {error}")
    if is_of_process(error):
        return Unavailable(f"out of file descriptors or memory: {error}")
    if error.errno == errno.EROFS:
        return ReadOnly(f"the disk is mounted read-only: {error}")
    if error.errno in _FORBIDDEN:
        return Unavailable(f"the daemon lacks permission: {error}")
    return Unavailable(f"the disk failed: {error}")
