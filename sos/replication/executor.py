"""Execution of steps: make copies, reconcile metadata, drop surplus copies."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Iterator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from attrs import define, evolve, field
from twisted.internet.task import deferLater
from twisted.logger import Logger

from sos.aio.gather import within
from sos.aio.rate_limit import RateLimit
from sos.errors import Conflict, NoSpace, ReadOnly, SOSError
from sos.interfaces import SMALL_BODY, Blob, IReplicaStore, Pieces
from sos.model import ids
from sos.model.digest import BlobDigest
from sos.model.manifest import MARK
from sos.model.merge import times
from sos.replication.leases import Leases
from sos.replication.metadata import merged, send
from sos.replication.plan import Step
from sos.replication.semaphore import Semaphore
from sos.replication.server_failures import ServerFailures
from sos.replication.summary import Report, Summary
from sos.transfer import copy

#: Delays before a failed copy is retried, in seconds.
RETRY_SECONDS = (1.0, 4.0)
#: Steps that run concurrently.
AT_ONCE = 16
#: Steps of small blobs, which servers get in batches, that run concurrently.  They are fewer than
#: the connections to one server, because clients need connections, too.
SMALL_AT_ONCE = 64

# Timeout of a request in seconds, for an empty body, and least bytes a second of a body.
_STEP_SECONDS = 30.0
_STEP_RATE = 64 * 1024
# Least bytes that a blob counts for in the rate limit.
_LEAST = 1024

T = TypeVar("T")

_log = Logger()


class _Disputed(Exception):
    """Two servers hold different bodies under one id; the message names the servers."""


@define
class Executor:
    """Executor of the steps of one group.

    A failure ends only its own step; the next pass finds the copies that are still missing.

    :param stores: the servers of the group by name.
    :ivar disputed: ids under which servers hold different bodies.  Nothing says which are
        right, so all of them stay.
    """

    stores: Mapping[str, IReplicaStore]
    rate_limit: RateLimit | None
    clock: Any
    summary: Summary
    report: Report
    leases: Leases
    disputed: set[str] = field(init=False, factory=set)
    _failures: ServerFailures = field(init=False, factory=ServerFailures)
    _places: Semaphore = field(init=False)
    _small_places: Semaphore = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._places = Semaphore(AT_ONCE)
        self._small_places = Semaphore(SMALL_AT_ONCE)

    async def carry_out(self, step: Step) -> None:
        """Execute *step*, and count the results."""
        try:
            is_small = step.size is not None and step.size <= SMALL_BODY
            async with self._small_places if is_small else self._places:
                sound = await self._copy_to_all(step)
            # Else a later pass does the rest, after the copies.
            if sound and (step.metadata_targets or step.drops):
                async with self._places:
                    await self._reconcile_and_drop(step)
        except _Disputed as dispute:
            self.disputed.add(step.id)
            self.summary.disputed += 1
            self.report.warn(f"{step.id} has different bodies on different servers: {dispute}")
        self.report.progress(self.summary)

    async def _copy_to_all(self, step: Step) -> bool:
        sound = True
        surplus, spares = step.surplus, iter(step.spares)
        for target in step.targets:
            if not await self._copy(step, target):
                sound = False
                if surplus:  # there are enough copies without this one
                    surplus -= 1
                    self.summary.planned -= 1
                elif not await self._handed_off(step, spares):
                    self.summary.failed += 1
            self.report.progress(self.summary)
        return sound

    async def _reconcile_and_drop(self, step: Step) -> None:
        if await self._reconcile(step):
            for name, known in step.drops:
                await self._drop(step, name, known)

    def stop(self) -> None:
        """Start no more steps."""
        self._places.close()
        self._small_places.close()

    # Copies.

    async def _copy(self, step: Step, target: str) -> bool:
        for delay in (0.0, *RETRY_SECONDS):
            if delay and self._failures.takes(target):
                await deferLater(self.clock, delay)
            for source in step.sources:
                if not self._failures.takes(target):
                    break
                if not self._failures.gives(source):
                    continue
                # Wait before the body is opened: a server does not wait long with a body.
                await self._spend(step.size or 0)
                if await self._copied(step, source, target):
                    return True
            else:
                continue
            break
        return False

    async def _handed_off(self, step: Step, spares: Iterator[str]) -> bool:
        """Copy to one of the *spares* in place of a failed target (hinted handoff)."""
        for spare in spares:
            if await self._copy(step, spare):
                return True
        return False

    async def _copied(self, step: Step, source: str, target: str) -> bool:
        """Copy from one *source*, and return whether that succeeded."""
        size = step.size or 0
        waiting_for = _WaitingFor()
        try:
            blob = waiting_for.watch(await self._within(0, self.stores[source].read(step.id)))
            size = blob.info.size or size
            await self._within(size, copy(blob, self.stores[target]))
        except Conflict as error:
            raise _Disputed(f"{source} and {target}: {error}") from error
        except SOSError as error:
            self._warn(f"cannot copy {step.id} from {source} to {target}", error)
            self._failures.failed(source if waiting_for.of_source else target, error)
            return False
        self._made(step, source, target, size)
        return True

    def _made(self, step: Step, source: str, target: str, size: int) -> None:
        self._failures.worked(source, target)
        self.summary.copied += 1
        self.summary.bytes += size
        self.report.note(f"copied {step.id} from {source} to {target}")

    async def _spend(self, size: int) -> None:
        if self.rate_limit is not None:
            await self.rate_limit.spend(max(size, _LEAST))

    # Metadata.

    async def _reconcile(self, step: Step) -> bool:
        if not step.metadata_targets:
            return True
        try:
            wanted = await merged(self.stores, step.metadata_sources, step.id, self.clock)
        except SOSError as error:
            self._warn(f"cannot read the metadata of {step.id}", error)
            self.summary.failed += 1
            return False
        sound = True
        for name, held in step.metadata_targets:
            try:
                if await send(self.stores[name], step.id, held, wanted, self.clock):
                    self.summary.settled += 1
                    self.report.note(f"updated the metadata of {step.id} on {name}")
            except SOSError as error:
                self._warn(f"cannot update the metadata of {step.id} on {name}", error)
                self.summary.failed += 1
                sound = False
        return sound

    # Surplus copies.

    async def _drop(self, step: Step, name: str, known: BlobDigest) -> None:
        # Wait for all bytes that _confirm reads: under the lease, the wait could outlast it.
        await self._spend(known.size * (len(step.holders) + 1))
        try:
            tokens = await self.leases.tokens()
        except SOSError as error:
            if not self.summary.staying:
                self._warn(f"cannot drop {step.id} from {name}, nor other surplus copies", error)
            self.summary.staying += 1
            return
        try:
            if name not in tokens:
                raise Conflict(f"{name} granted no lease")
            await self._confirm(step, name, known)
            await self._within(0, self.stores[name].drop(step.id, tokens[name], known))
        except (NoSpace, ReadOnly) as error:
            self._warn(f"cannot drop {step.id} from {name}", error)
            self.summary.staying += 1
            return
        except SOSError as error:
            self._warn(f"cannot drop {step.id} from {name}", error)
            self.summary.failed += 1
            return
        self.summary.moved += 1
        self.report.note(f"dropped {step.id} from {name}: it is on {', '.join(step.holders)}")

    async def _confirm(self, step: Step, dropping: str, known: BlobDigest) -> None:
        """Raise unless every holder sends the same bytes as *dropping*, or the object itself.

        For a tombstone, every holder has to know of the deletion.
        """
        if (deleted := known.times.deleted) is not None and known.is_tombstone:
            for holder in step.holders:
                found = await merged(self.stores, [holder], step.id, self.clock)
                if (times(found.metadata).deleted or 0) < deleted:
                    raise Conflict(f"{holder} does not know that {step.id} was deleted")
            return
        algorithm = ids.algorithm(step.id)
        ours: tuple[bool, bytes] | None = None
        for holder in step.holders:
            is_manifest, hash = await self._fingerprint(step.id, holder)
            if not is_manifest and algorithm == "sha256":
                continue  # the read has verified it by its id
            if ours is None:
                ours = await self._fingerprint(step.id, dropping)
            is_object = ours[0] and not is_manifest and algorithm is not None
            if not is_object and (is_manifest, hash) != ours:
                raise _Disputed(f"{holder} and {dropping} differ")

    async def _fingerprint(self, id: str, name: str) -> tuple[bool, bytes]:
        """Return whether *name* holds a manifest, and the SHA-256 of the body that it sends."""
        blob = await self._within(0, self.stores[name].read(id))
        hash = await self._within(blob.info.size or 0, _hash(blob))
        return MARK in blob.info.metadata, hash

    def _within(self, size: int, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Return *work* with a timeout for a body of *size* bytes."""
        return within(_STEP_SECONDS + size / _STEP_RATE, work, self.clock)

    def _warn(self, what: str, error: SOSError) -> None:
        self.report.warn(f"{what}: {error}")


@define
class _WaitingFor:
    """Which side a copy waits for, the source or the target, and so which side has failed."""

    of_source: bool = True

    def watch(self, blob: Blob) -> Blob:
        """Return *blob*, just opened on the source, with a body that keeps this up to date."""
        self.of_source = False
        if isinstance(blob.body, bytes):
            return blob
        return evolve(blob, body=_Watched(blob.body, self))


@define
class _Watched:
    """Pieces of *body*, which keep *waiting_for* up to date."""

    body: Pieces
    waiting_for: _WaitingFor

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        self.waiting_for.of_source = True
        async for piece in self.body:
            self.waiting_for.of_source = False
            yield piece
            self.waiting_for.of_source = True
        self.waiting_for.of_source = False

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
