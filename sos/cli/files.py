"""Files that are to be uploaded: found, and hashed, on a thread."""

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
    """What a file held when it was hashed.

    :param size: in bytes.
    :param ids: its content id, by the algorithm that makes it.
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
    """What is there to be uploaded.

    :param sizes: of the files, in bytes, by their paths in order.
    :param errors: what could not be looked at.
    """

    sizes: Mapping[str, int]
    errors: list[OSError]


def version_of(descriptor: int) -> object:
    """Return what is another when a file has been changed meanwhile, as a rule."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


async def hashed(file: BinaryIO, run_in_thread: RunInThread) -> Hashed:
    """Hash an open *file*, read once and in pieces.  Raises OSError."""
    return await _stoppable(run_in_thread, _hash, file)


async def found_below(paths: Iterable[str], run_in_thread: RunInThread) -> Found:
    """Return *paths*, and the regular files below those that are directories, in order.

    What else is below them, as a link or a pipe, is an error.
    """
    return await _stoppable(run_in_thread, _walk, paths)


async def _stoppable(run_in_thread: RunInThread, function: Callable[..., T], argument: object) -> T:
    """Run ``function(argument, stopped)``, which looks whether *stopped* is set."""
    stopped = Event()
    try:
        return await run_in_thread(function, argument, stopped)
    finally:
        # Who is cancelled does not leave a thread behind that reads on for minutes.
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
