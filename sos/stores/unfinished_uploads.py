"""Resumable uploads, which a directory keeps until their last byte has arrived.

An upload has two files, named by its token: ``TOKEN.part`` holds its bytes, ``TOKEN.json`` records
how many of them count.  The record is replaced only after the bytes are on stable storage; so it
never counts bytes that a crash can lose.  A request that works on an upload holds a lock (flock)
on ``TOKEN.part``; the system releases it if the process dies.  ``TOKEN.wanted`` asks the holder to
release it.  After an upload is stored, ``stored/TOKEN.json`` remains, for a client that did not
receive the answer.

An upload expires when its newest file has not changed for a time.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from io import FileIO
from pathlib import Path

from attrs import asdict, evolve

from sos.errors import Locked, NotFound, SOSError, Unavailable
from sos.files.regular import open_regular, read_regular
from sos.interfaces import Upload, is_size
from sos.model import ids
from sos.model import metadata as metadata_format
from sos.stores.disk_errors import disk_errors
from sos.stores.received import write_at

#: Most unfinished uploads at one time.
MOST_UPLOADS = 10_000

_TOKEN_BYTES = 24
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
_OURS = re.compile(r"([A-Za-z0-9_-]{32})\.(part|json|new|wanted)")
_STORED = "stored"
_READ_SIZE = 256 * 1024
# Bytes.  Metadata has at most 4 KiB in 90 fields, and JSON can make it six times as long.
_MOST_RECORD = 128 * 1024


class UnfinishedUploads:
    """The unfinished uploads in a directory, which several processes may share.

    All methods, also of :class:`OpenUpload`, wait for the disk: call them on a thread.

    :param most_bytes: limit for the total length of unfinished uploads, complete, in bytes.
    :param seconds: an upload expires after this time without a change.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        directory: Path,
        most_bytes: int,
        seconds: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.most_bytes = most_bytes
        self.seconds = seconds
        self._directory = directory
        self._now = now

    def prepare(self) -> None:
        """Create the directory if it does not exist.  Raises OSError."""
        for path in (self._directory, self._directory / _STORED):
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
        _sync_directory(self._directory)

    def create(self, upload: Upload) -> OpenUpload:
        """Begin *upload* under a new token.

        :raises Unavailable: if there are too many unfinished uploads or bytes of them now.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with _disk_errors():
            opened = OpenUpload(self, token, self._take_room(token, upload.length), upload)
            try:
                self.save(token, upload)
            except BaseException:
                opened.remove()
                opened.close()
                raise
        return opened

    def _take_room(self, token: str, length: int) -> FileIO:
        """Create the file of an upload, locked, and sparse at its full *length* in bytes."""
        with self._alone():
            sizes = [
                status.st_size for _, kind, status in self._files(self._directory) if kind == "part"
            ]
            if len(sizes) >= MOST_UPLOADS or sum(sizes) + length > self.most_bytes:
                raise Unavailable(
                    f"no room for an upload of {length} bytes beside {len(sizes)} unfinished "
                    f"uploads of {sum(sizes)} bytes: try again later"
                )
            file = open_regular(self._path(token, "part"), os.O_RDWR | os.O_CREAT | os.O_EXCL)
            flock(file, LOCK_EX | LOCK_NB)
            os.ftruncate(file.fileno(), length)
            return file

    def open(self, token: str) -> OpenUpload | Upload:
        """Lock and return the upload *token*, or return the record of a stored one.

        :raises NotFound: if there is no such upload, or it has expired.
        :raises Locked: if another request has the lock; this one has asked it to release it.
        """
        found = None
        if _TOKEN.fullmatch(token) is not None:
            with _disk_errors():
                found = self._lock(token) or self._read(self._stored(token))
        if found is None:
            raise NotFound("there is no such upload, or it has expired")
        return found

    def _lock(self, token: str) -> OpenUpload | None:
        try:
            file = open_regular(self._path(token, "part"), os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            flock(file, LOCK_EX | LOCK_NB)
            # An upload is removed under the lock, and its record first.
            upload = self._read(self._path(token, "json"))
        except BlockingIOError:
            file.close()
            open_regular(self._path(token, "wanted"), os.O_WRONLY | os.O_CREAT).close()
            raise Locked("another request for this upload is in progress: try again") from None
        except BaseException:
            file.close()
            raise
        if upload is None:
            file.close()
            return None
        _unlink(self._path(token, "wanted"))
        return OpenUpload(self, token, file, upload)

    def _read(self, path: Path) -> Upload | None:
        """Read a record; return None if there is none, or it has expired."""
        try:
            if self._has_expired(path.lstat().st_mtime):
                return None
            return _decode(read_regular(path, _MOST_RECORD))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, SOSError) as error:
            raise Unavailable(f"the record of an upload is damaged: {error}") from error

    def _has_expired(self, modified: float) -> bool:
        return self._now() - modified > self.seconds

    def forget(self, token: str) -> None:
        """Remove the record of a stored upload."""
        with _disk_errors():
            _unlink(self._stored(token))
            _sync_directory(self._directory / _STORED)

    def sweep(self) -> int:
        """Remove the expired uploads, and return how many unfinished ones there were.

        Nothing else in the directory is touched: no other names, and no links.
        """
        modified: dict[str, float] = {}
        with _disk_errors():
            for token, _, status in self._files(self._directory):
                modified[token] = max(modified.get(token, 0.0), status.st_mtime)
            expired = [token for token, when in modified.items() if self._has_expired(when)]
            removed = sum(map(self._remove_expired, expired))
            for token, _, status in self._files(self._directory / _STORED):
                if self._has_expired(status.st_mtime):
                    _unlink(self._stored(token))
        return removed

    def _remove_expired(self, token: str) -> bool:
        # Skip an upload that is in use, or a name that is no regular file, and go on.
        with suppress(OSError), ExitStack() as held:
            with suppress(FileNotFoundError):  # a crash can leave the other files without it
                file = held.enter_context(open_regular(self._path(token, "part"), os.O_RDWR))
                flock(file, LOCK_EX | LOCK_NB)
            with suppress(FileNotFoundError):  # a request may have saved it in the meantime
                if not self._has_expired(self._path(token, "json").lstat().st_mtime):
                    return False
            self.remove(token)
            return True
        return False

    def _files(self, directory: Path) -> Iterator[tuple[str, str, os.stat_result]]:
        """Yield token, kind and status of each file in *directory* that belongs to an upload."""
        with os.scandir(directory) as entries:
            for entry in entries:
                found = _OURS.fullmatch(entry.name)
                if found is not None:
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            yield found[1], found[2], status

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the directory against other creators, so that together they keep the limits."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flock(descriptor, LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # OpenUpload calls the following methods.  It has the lock.

    def save(self, token: str, upload: Upload) -> None:
        """Put the record of an upload on stable storage."""
        document = {**asdict(upload), "metadata": dict(upload.metadata)}
        new = self._path(token, "new")
        with open_regular(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
            write_at(file, json.dumps(document).encode("ascii"), 0)
            os.fsync(file.fileno())
        path = self._path(token, "json") if upload.id is None else self._stored(token)
        os.replace(new, path)
        _sync_directory(path.parent)

    def remove(self, token: str) -> None:
        """Remove the files of an upload."""
        for kind in ("json", "new", "wanted", "part"):
            _unlink(self._path(token, kind))
        _sync_directory(self._directory)

    def is_wanted(self, token: str) -> bool:
        """Return whether another request has asked for the lock."""
        try:
            self._path(token, "wanted").stat()
        except FileNotFoundError:
            return False
        return True

    def _path(self, token: str, kind: str) -> Path:
        return self._directory / f"{token}.{kind}"

    def _stored(self, token: str) -> Path:
        return self._directory / _STORED / f"{token}.json"


class OpenUpload:
    """An upload that is locked until it is closed.

    :ivar upload: its record, as it is on stable storage.
    """

    def __init__(
        self, uploads: UnfinishedUploads, token: str, file: FileIO, upload: Upload
    ) -> None:
        self._uploads = uploads
        self._file = file
        self._failure: SOSError | None = None
        self.token = token
        self.upload = upload

    def write(self, data: bytes, position: int) -> None:
        """Write *data* at byte *position*; it counts after :meth:`keep`."""
        with _disk_errors():
            write_at(self._file, data, position)

    def keep(self, offset: int) -> None:
        """Put all written bytes on stable storage, and record that *offset* bytes count.

        After a failure every call fails: another fsync would prove nothing, see
        :exc:`~sos.stores.disk_errors.SyncFailed`.
        """
        if self._failure is not None:
            raise self._failure
        try:
            with _disk_errors():
                os.fsync(self._file.fileno())
                upload = evolve(self.upload, offset=offset)
                self._uploads.save(self.token, upload)
        except SOSError as error:
            self._failure = error
            raise
        self.upload = upload

    def read(self, position: int) -> bytes:
        """Return up to 256 KiB from byte *position* on."""
        with _disk_errors():
            return os.pread(
                self._file.fileno(), min(_READ_SIZE, self.upload.length - position), position
            )

    def stored(self, id: str) -> None:
        """Record that it is stored as the object *id*, and remove its other files."""
        with _disk_errors():
            upload = evolve(self.upload, id=id)
            self._uploads.save(self.token, upload)
            self._uploads.remove(self.token)
        self.upload = upload

    def remove(self) -> None:
        """Remove the upload."""
        with _disk_errors():
            self._uploads.remove(self.token)

    def is_wanted(self) -> bool:
        """Return whether another request has asked for the lock."""
        with _disk_errors():
            return self._uploads.is_wanted(self.token)

    def close(self) -> None:
        """Release the lock."""
        self._file.close()


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Do as :func:`disk_errors`, but omit file names: with a token anybody could go on."""
    with disk_errors():
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror) from error


def _unlink(path: Path) -> None:
    """Remove a regular file, if it exists.  Leave anything else: it is not ours."""
    with suppress(FileNotFoundError):
        if stat.S_ISREG(path.lstat().st_mode):
            path.unlink()


def _sync_directory(path: Path) -> None:
    """Put the names in a directory on stable storage."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _decode(data: bytes) -> Upload:
    """Decode a record.  Raises ValueError, TypeError, KeyError or an SOSError."""
    upload = Upload(**json.loads(data))
    if not (is_size(upload.length) and is_size(upload.offset) and upload.offset <= upload.length):
        raise ValueError("its offset is beyond its length")
    if not isinstance(upload.told, str):
        raise TypeError("its Upload-Metadata is not a string")
    if upload.id is not None:
        ids.check(upload.id)
    return evolve(upload, metadata=metadata_format.check(upload.metadata))
