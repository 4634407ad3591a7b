"""Scrub: read all blobs again, to find damage while there are other copies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import attrs
from attrs import define, field
from attrs.validators import instance_of, optional
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sos.aio.periodic import PeriodicService
from sos.aio.rate_limit import RateLimit
from sos.errors import InvalidId, Mismatch, NotFound, Quarantined, Replaced, SOSError
from sos.files.regular import open_regular, read_regular
from sos.interfaces import Blob
from sos.model import ids

#: Bytes that each blob counts for at the rate, in addition to its body: reading a blob costs more
#: than that.
_LEAST = 16 * 1024
#: Blobs to list at once.  An interrupted pass resumes at the beginning of a page.
_PAGE = 64
#: Seconds between two saves of the report.
_SAVE_EVERY = 10.0
#: Seconds from the start of the daemon to a pass that is due already.
_START_DELAY = 60.0
# Seconds by which a pass may have ended in the future, because clocks are set.
_MOST_SKEW = 3600.0

_log = Logger()


def _is_id(report: Report, attribute: object, value: str) -> None:
    ids.check(value)


@define
class Report:
    """The progress and findings of a pass over a store.

    :param position: the id up to which all blobs were read, None between two passes.
    :param started_at: when the pass began, in seconds since the epoch.
    :param finished_at: when the last complete pass ended, likewise.
    :param checked: the number of blobs read, with *bytes* in their bodies.
    :param damaged: the number of these that were damaged, and are quarantined.
    :param unreadable: the number of these that the disk could not read; they count as missing
        until they can be read, or are stored anew.
    """

    position: str | None = field(default=None, validator=optional([instance_of(str), _is_id]))
    started_at: float | None = field(default=None, validator=optional(instance_of(float)))
    finished_at: float | None = field(default=None, validator=optional(instance_of(float)))
    checked: int = field(default=0, validator=instance_of(int))
    bytes: int = field(default=0, validator=instance_of(int))
    damaged: int = field(default=0, validator=instance_of(int))
    unreadable: int = field(default=0, validator=instance_of(int))

    @property
    def ok(self) -> bool:
        """Whether the pass found no damage."""
        return not (self.damaged or self.unreadable)

    def begin(self, now: float) -> None:
        """Reset the report for a new pass."""
        self.started_at = now
        self.checked = self.bytes = self.damaged = self.unreadable = 0

    def __str__(self) -> str:
        return (
            f"{self.checked} blobs checked, {self.bytes} bytes: "
            f"{self.damaged} damaged and quarantined, {self.unreadable} unreadable"
        )


class Scrubbed(Protocol):
    """The source of a scrub: a store, or the blobs of one in a faster order."""

    async def listing(self, after: str | None, limit: int) -> list[str]:
        """Return the next *limit* ids after *after*, in the order in which to read them."""
        ...

    async def read(self, id: str) -> Blob:
        """Open a blob, see :meth:`sos.interfaces.IBlobStore.read`."""
        ...


async def scrub(
    store: Scrubbed,
    report: Report,
    clock: IReactorTime,
    rate: int,
    now: Callable[[], float],
    progress: Callable[[Report], None] = lambda report: None,
    warn: Callable[[str], None] = lambda text: None,
) -> None:
    """Read every blob of *store* after ``report.position``, and update *report*.

    Reading a blob verifies it, and quarantines a damaged one.

    :param rate: bytes to read in a second, 0 for no limit.
    :param progress: called after each blob.  A report saved then includes blobs after its
        position, up to a page, which a pass that resumes from it counts again.
    :param warn: called with a line about each damaged or unreadable blob.
    """
    if report.position is None:
        report.begin(now())
    rate_limit = RateLimit(rate, clock)
    while page := await store.listing(report.position, _PAGE):
        for id in page:
            try:
                report.bytes += await _read(store, id, rate_limit)
            except (Quarantined, Mismatch) as error:
                report.damaged += 1
                warn(str(error))
            except NotFound:
                pass  # it was dropped after it was listed
            except SOSError as error:
                report.unreadable += 1
                warn(f"{id} cannot be read: {error}")
            report.checked += 1
            progress(report)
        report.position = max(page, key=ids.sort_key)
    report.position = None
    report.finished_at = now()


async def _read(store: Scrubbed, id: str, rate_limit: RateLimit) -> int:
    """Read a blob, again if it is replaced meanwhile; return the bytes of its body."""
    try:
        return await _read_once(store, id, rate_limit)
    except Replaced:
        return await _read_once(store, id, rate_limit)


async def _read_once(store: Scrubbed, id: str, rate_limit: RateLimit) -> int:
    await rate_limit.spend(_LEAST)
    blob = await store.read(id)
    if isinstance(blob.body, bytes):
        await rate_limit.spend(len(blob.body))
        return len(blob.body)
    size = 0
    async with aclosing(blob.body):
        async for piece in blob.body:
            size += len(piece)
            await rate_limit.spend(len(piece))
    return size


def load(path: Path) -> Report:
    """Return the report in the file *path*, or a new one if there is none."""
    try:
        return Report(**json.loads(read_regular(path)))
    except FileNotFoundError:
        return Report()
    except (OSError, ValueError, TypeError, InvalidId, RecursionError) as error:
        _log.warn(
            "cannot read the scrub report, starting a new pass, path={path}: {error}",
            path=path,
            error=error,
        )
        return Report()


def save(report: Report, path: Path) -> None:
    """Write *report* to the file *path*."""
    unfinished = path.with_name(path.name + ".new")
    with open_regular(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
        file.write(json.dumps(attrs.asdict(report)).encode())
    os.replace(unfinished, path)


def _take_over(source: Report, target: Report) -> None:
    for name, value in attrs.asdict(source).items():
        setattr(target, name, value)


class ScrubService(PeriodicService):
    """A service that runs scrubs periodically, and resumes an interrupted one.

    :param source: returns the blobs to read, at the beginning of a pass.
    :param path: the file that keeps the report across restarts, None for none.
    :param rate: bytes to read in a second.
    :param every: seconds from the end of a pass to the next.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        source: Callable[[], Scrubbed],
        path: Path | None,
        rate: int,
        every: float,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        super().__init__("the scrub", clock)
        self.report = Report()
        self._source = source
        self._path = path
        self._rate = rate
        self._every = every
        self._now = now
        self._saved_at = 0.0

    def startService(self) -> None:
        if self._path is not None:
            _take_over(load(self._path), self.report)
        super().startService()

    def delay(self) -> float:
        due = 0.0
        if self.report.position is None and self.report.finished_at is not None:
            due = self.report.finished_at + self._every - self._now()
            if due > self._every + _MOST_SKEW:  # the clock was wrong then, or is now
                due = 0.0
        return max(due, _START_DELAY)

    async def work(self) -> None:
        try:
            await scrub(
                self._source(), self.report, self.clock, self._rate, self._now, self._note, _warn
            )
            _log.info("scrub: {report}", report=self.report)
        finally:
            self._save()

    def _note(self, report: Report) -> None:
        if self.clock.seconds() - self._saved_at > _SAVE_EVERY:
            self._save()

    def _save(self) -> None:
        self._saved_at = self.clock.seconds()
        if self._path is None:
            return
        try:
            save(self.report, self._path)
        except OSError as error:  # a full disk, say: the pass goes on
            _log.warn(
                "cannot save the scrub report, path={path}: {error}", path=self._path, error=error
            )


def _warn(text: str) -> None:
    _log.error("scrub: {text}", text=text)
