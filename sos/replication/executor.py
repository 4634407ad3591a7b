"""Steps, carried out: copies made, metadata settled, copies that belong elsewhere dropped."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from attrs import define, evolve, field
from twisted.internet.task import deferLater
from twisted.logger import Logger

from sos.aio.gather import within
from sos.aio.rate_limit import Pace
from sos.batch import SMALL
from sos.errors import Conflict, NoSpace, ReadOnly, SOSError
from sos.interfaces import Blob, IReplicaStore, Pieces
from sos.model import ids
from sos.model.digest import BlobDigest
from sos.model.manifest import MARK
from sos.model.metadata import timed, with_kind_of
from sos.model.plan import Step
from sos.replication.batching import Batches
from sos.replication.leases import Leases
from sos.replication.semaphore import Places
from sos.replication.server_failures import Health
from sos.replication.summary import Report, Summary
from sos.transfer import copy

#: Seconds after which what failed is tried again.
RETRY_SECONDS = (1.0, 4.0)
#: What is copied by itself, told or dropped at once.
AT_ONCE = 16

# Seconds that a request of a step may take, and bytes a second that it has to make.
_STEP_SECONDS = 30.0
_STEP_RATE = 64 * 1024
# What a blob counts for at least.
_LEAST = 1024

T = TypeVar("T")

_log = Logger()


class _Disputed(Exception):
    """Two servers hold different bodies under one id: says which."""


@define
class Executor:
    """Carries out the steps of one group.

    A failure ends its own step alone; what is missing then is found again by
    the next pass.

    :param stores: the servers of the group by their names.
    :ivar disputed: ids under which servers were found to hold different bodies.  Nothing
        tells which are right, so that all of them stay.
    """

    stores: Mapping[str, IReplicaStore]
    pace: Pace | None
    clock: Any
    summary: Summary
    report: Report
    leases: Leases
    disputed: set[str] = field(init=False, factory=set)
    _health: Health = field(init=False, factory=Health)
    _batches: Batches = field(init=False)
    _places: Places = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._batches = Batches(self.stores, self.clock, self.report.note)
        self._places = Places(AT_ONCE)

    async def carry_out(self, step: Step) -> None:
        """Do what *step* says, and count it."""
        left = []
        for target in step.targets:
            if self._health.takes(target):
                # Before the body is opened, for who sends it does not wait for long.
                await self._spend(step.size or 0)
                if await self._copied_in_batch(step, target):
                    continue
            left.append(target)
        if left or step.told or step.leaving:
            async with self._places:
                try:
                    await self._carry_out(step, left)
                except _Disputed as dispute:
                    self.disputed.add(step.id)
                    self.summary.disputed += 1
                    self.report.warn(f"{step.id} stands for different bytes: {dispute}")
        self.report.progress(self.summary)

    async def _carry_out(self, step: Step, targets: Iterable[str]) -> None:
        sound = True
        surplus, spares = step.surplus, iter(step.spares)
        for target in targets:
            if not await self._copy(step, target):
                sound = False
                if surplus:  # there are enough copies without this one
                    surplus -= 1
                    self.summary.planned -= 1
                elif not await self._handed_off(step, spares):
                    self.summary.failed += 1
            self.report.progress(self.summary)
        if sound:  # where a copy could not be made it has to wait as well
            for name in step.told:
                sound = await self._settle(step, name) and sound
        if sound:
            for name, known in step.leaving:
                await self._drop(step, name, known)

    def stop(self) -> None:
        """Begin with nothing more, and break off the batches that are under way."""
        self._places.close()
        self._batches.stop()

    # Copies.

    async def _copied_in_batch(self, step: Step, target: str) -> bool:
        """Copy what is small together with others, and tell whether it was."""
        source = next(filter(self._health.gives, step.sources), None)
        if source is None or step.size is None or step.size > SMALL:
            return False
        size = await self._batches.copy(step.id, step.size, source, target)
        if size is None:
            return False
        self._made(step, source, target, size)
        return True

    async def _copy(self, step: Step, target: str) -> bool:
        paid = True  # at first
        for delay in (0.0, *RETRY_SECONDS):
            if delay and self._health.takes(target):
                await deferLater(self.clock, delay)
            for source in step.sources:
                if not self._health.takes(target):
                    break
                if not self._health.gives(source):
                    continue
                if not paid:
                    await self._spend(step.size or 0)
                paid = False
                if await self._copied(step, source, target):
                    return True
            else:
                continue
            break
        return False

    async def _handed_off(self, step: Step, spares: Iterator[str]) -> bool:
        """Copy to the next server that can take the place of one which could not."""
        for spare in spares:
            if await self._copy(step, spare):
                return True
        return False

    async def _copied(self, step: Step, source: str, target: str) -> bool:
        """Copy from one *source*, and tell whether that was possible."""
        size = step.size or 0
        turn = _Turn()
        try:
            blob = turn.watch(await self._within(0, self.stores[source].read(step.id)))
            size = blob.info.size or size
            await self._within(size, copy(blob, self.stores[target]))
        except Conflict as error:
            raise _Disputed(f"of {source} and {target}, {error}") from error
        except SOSError as error:
            self._warn(step, f"from {source} to {target}", error)
            self._health.failed(source if turn.of_source else target, error)
            return False
        self._made(step, source, target, size)
        return True

    def _made(self, step: Step, source: str, target: str, size: int) -> None:
        self._health.worked(source, target)
        self.summary.copied += 1
        self.summary.bytes += size
        self.report.note(f"{step.id} copied from {source} to {target}")

    async def _spend(self, size: int) -> None:
        if self.pace is not None:
            await self.pace.spend(max(size, _LEAST))

    # Metadata.

    async def _settle(self, step: Step, name: str) -> bool:
        source = step.sayer or step.sources[0]
        try:
            info = await self._within(0, self.stores[source].stat(step.id))
            # What was set before this was noted is told to be.
            metadata = timed(info.metadata, 0)
            try:
                await self._within(0, self.stores[name].settle(step.id, metadata))
            except Conflict:  # for one is the object, and one its manifest
                before = await self._within(0, self.stores[name].stat(step.id))
                metadata = with_kind_of(metadata, before.metadata)
                await self._within(0, self.stores[name].settle(step.id, metadata))
        except SOSError as error:
            self._warn(step, f"metadata from {source} to {name}", error)
            self.summary.failed += 1
            return False
        self.summary.settled += 1
        self.report.note(f"{step.id} on {name} has the metadata that it has on {source}")
        return True

    # Copies that belong elsewhere.

    async def _drop(self, step: Step, name: str, known: BlobDigest) -> None:
        # All that is read to confirm it; not under the lease, which would end.
        await self._spend(known.size * (len(step.holders) + 1))
        try:
            tokens = await self.leases.tokens()
        except SOSError as error:
            if not self.summary.staying:
                self._warn(step, f"stays on {name}, as others do", error)
            self.summary.staying += 1
            return
        try:
            if name not in tokens:
                raise Conflict(f"{name} gives no lease")
            await self._confirm(step, name)
            await self._within(0, self.stores[name].drop(step.id, tokens[name], known))
        except (NoSpace, ReadOnly) as error:
            self._warn(step, f"stays on {name}", error)
            self.summary.staying += 1
            return
        except SOSError as error:
            self._warn(step, f"stays on {name}", error)
            self.summary.failed += 1
            return
        self.summary.moved += 1
        self.report.note(f"{step.id} dropped from {name}, for it is on {', '.join(step.holders)}")

    async def _confirm(self, step: Step, leaving: str) -> None:
        """Raise unless every holder gives back what *leaving* has, or the object itself."""
        algorithm = ids.algorithm(step.id)
        ours: tuple[bool, bytes] | None = None
        for holder in step.holders:
            is_manifest, hash = await self._fingerprint(step.id, holder)
            if not is_manifest and algorithm == "sha256":
                continue  # it has been verified as it was read
            if ours is None:
                ours = await self._fingerprint(step.id, leaving)
            is_object = ours[0] and not is_manifest and algorithm is not None
            if not is_object and (is_manifest, hash) != ours:
                raise _Disputed(f"{holder} has others than {leaving}")

    async def _fingerprint(self, id: str, name: str) -> tuple[bool, bytes]:
        """Return whether *name* holds a manifest, and the hash of what it gives to read."""
        blob = await self._within(0, self.stores[name].read(id))
        hash = await self._within(blob.info.size or 0, _hash(blob))
        return MARK in blob.info.metadata, hash

    def _within(self, size: int, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Return *work*, which fails when it takes too long for *size* bytes."""
        return within(_STEP_SECONDS + size / _STEP_RATE, work, self.clock)

    def _warn(self, step: Step, what: str, error: SOSError) -> None:
        self.report.warn(f"{step.id} {what}: {error}")


@define
class _Turn:
    """Whose turn it is when something fails, that of the source or of the target."""

    of_source: bool = True

    def watch(self, blob: Blob) -> Blob:
        """Return *blob*, which the source has given, with a body that keeps this up to date."""
        self.of_source = False
        if isinstance(blob.body, bytes):
            return blob
        return evolve(blob, body=_Watched(blob.body, self))


@define
class _Watched:
    """The pieces of *body*."""

    body: Pieces
    turn: _Turn

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        self.turn.of_source = True
        async for piece in self.body:
            self.turn.of_source = False
            yield piece
            self.turn.of_source = True
        self.turn.of_source = False

    async def aclose(self) -> None:
        await self.body.aclose()


async def _hash(blob: Blob) -> bytes:
    if isinstance(blob.body, bytes):
        return hashlib.sha256(blob.body).digest()
    found = hashlib.sha256()
    async with aclosing(blob.body):
        async for piece in blob.body:
            found.update(piece)
    return found.digest()
