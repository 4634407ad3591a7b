"""Find and hash files to upload, in a thread."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from threading import Event
from typing import BinaryIO, TypeVar

from attrs import frozen

from sos.aio.threads import RunInThread
from sos.files.regular import below, check_regular
from sos.model import ids
from sos.model.digest import BodyDigest

T = TypeVar("T")

_READ_SIZE = 1024 * 1024


@frozen
class Hashed:
    """The size and the ids of a file when it was hashed.

    :param size: in bytes.
    :param ids: its content ids, by algorithm.
    :param version: see :func:`version_of`.
    """

    size: int
    ids: Mapping[str, str]
    version: object

    @property
    def repr_digest(self) -> str:
        """The value of ``Repr-Digest`` for it (RFC 9530)."""
        return f"sha-256=:{b64encode(bytes.fromhex(self.ids['sha256'])).decode('ascii')}:"


@frozen
class Found:
    """The files to upload.

    :param sizes: their sizes in bytes, by path in order.
    :param errors: an error for each path that cannot be uploaded.
    """

    sizes: Mapping[str, int]
    errors: list[OSError]


def version_of(descriptor: int) -> object:
    """Return a value that differs, as a rule, after a file has changed."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


async def hashed(file: BinaryIO, run_in_thread: RunInThread) -> Hashed:
    """Hash an open *file* in one pass.  Raises OSError."""
    return await _stoppable(run_in_thread, _hash, file)


async def found_below(paths: Iterable[str], run_in_thread: RunInThread) -> Found:
    """Return *paths*, with each directory replaced by the regular files below it, in order.

    Anything else below a directory, such as a link or a pipe, is an error.
    """
    return await _stoppable(run_in_thread, _walk, paths)


async def _stoppable(run_in_thread: RunInThread, function: Callable[..., T], argument: object) -> T:
    """Run ``function(argument, stopped)`` in a thread; set *stopped* on cancellation."""
    stopped = Event()
    try:
        return await run_in_thread(function, argument, stopped)
    finally:
        # Otherwise the thread would read on for minutes after a cancellation.
        stopped.set()


def _hash(file: BinaryIO, stopped: Event) -> Hashed:
    digests = {algorithm: BodyDigest(None, algorithm) for algorithm in ids.ALGORITHMS}
    size = 0
    version = version_of(file.fileno())
    while not stopped.is_set() and (piece := file.read(_READ_SIZE)):
        size += len(piece)
        for digest in digests.values():
            digest.update(piece)
    found = {algorithm: digest.verified_id() for algorithm, digest in digests.items()}
    return Hashed(size, found, version)


def _walk(paths: Iterable[str], stopped: Event) -> Found:
    sizes: dict[str, int] = {}
    errors: list[OSError] = []

    def look_at(path: str, named: bool) -> None:
        try:
            check_regular(path, named)
            sizes[path] = os.stat(path, follow_symlinks=named).st_size
        except OSError as error:
            errors.append(error)

    for path in paths:
        if os.path.isdir(path):
            for entry in below(path, errors.append, stopped.is_set):
                look_at(entry.path, named=False)
        else:
            look_at(path, named=True)
    return Found({path: sizes[path] for path in sorted(sizes, key=os.fsencode)}, errors)
