"""Concurrent execution of steps."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred
from twisted.python.failure import Failure

from sos.replication.executor import Executor
from sos.replication.plan import Step

#: Steps that have been started at once; the executor lets fewer run, and the others wait.
CONCURRENCY = 256


class StepPool:
    """Pool of steps that *executor* carries out concurrently."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._slots = DeferredSemaphore(CONCURRENCY)
        self._under_way: set[Deferred[None]] = set()
        self._failure: Failure | None = None
        self._finished: Deferred[None] | None = None

    async def begin(self, step: Step) -> None:
        """Start *step*, after waiting for a free slot."""
        await self._slots.acquire()
        work = ensureDeferred(self._executor.carry_out(step))
        self._under_way.add(work)
        work.addBoth(self._ended, work)

    def _ended(self, outcome: Failure | None, work: Deferred[None]) -> None:
        self._under_way.discard(work)
        if outcome is not None and self._failure is None:
            self._failure = outcome
        if self._finished is not None and not self._under_way:
            self._finished.callback(None)
        self._slots.release()

    async def finish(self) -> None:
        """Wait for all steps to end; raise the first unexpected exception, which is a bug."""
        if self._under_way:
            self._finished = Deferred()
            await self._finished
        if self._failure is not None:
            self._failure.raiseException()

    def stop(self) -> None:
        """Cancel the steps in flight."""
        self._executor.stop()
        for work in list(self._under_way):
            work.cancel()


def described(step: Step) -> Iterator[str]:
    """Yield a line of text for each action of *step*."""
    for target in step.targets:
        yield f"copy {step.id} from {step.sources[0]} to {target}"
    for name, _ in step.metadata_targets:
        yield f"update the metadata of {step.id} on {name}"
    for name, _ in step.drops:
        yield f"drop {step.id} from {name} once it is on {', '.join(step.holders)}"
