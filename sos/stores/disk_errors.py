"""What a disk refuses, in the words of a blob store."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import lmdb

from sos.errors import NoSpace, ReadOnly, SOSError, Unavailable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BUSY = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class SyncFailed(Exception):
    """Data may not have reached the disk, and asking again would not tell.

    After a failed fsync the kernel may have dropped the pages, and a second
    fsync succeeds without them (the PostgreSQL project's "fsyncgate", 2018).
    """


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what the disk refuses into the store's own errors.

    A full map passes, for the index grows it, and one that another process
    has grown.
    """
    try:
        yield
    except OSError as error:
        raise _refusal(error) from error
    except (lmdb.MapFullError, lmdb.MapResizedError):
        raise
    except lmdb.Error as error:
        # py-lmdb keeps the errno in its message alone.
        if any(os.strerror(number) in str(error) for number in _FULL):
            raise NoSpace(f"the disk is full: {error}") from error
        raise SyncFailed(f"the index could not be written: {error}") from error


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
    return Unavailable(f"the disk failed: {error}")
