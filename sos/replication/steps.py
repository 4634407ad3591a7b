"""Steps, several of them at once."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred
from twisted.python.failure import Failure

from sos.plan import Step
from sos.replication.executor import Executor

#: Steps that are under way at once: as many as fill some batches.
CONCURRENCY = 256


class Steps:
    """Has *executor* carry out the steps that it is given."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._slots = DeferredSemaphore(CONCURRENCY)
        self._under_way: dict[Deferred[None], Step] = {}
        self._failure: Failure | None = None

    async def begin(self, step: Step) -> None:
        """Begin with *step*, when there is room for one more."""
        await self._slots.acquire()
        work = ensureDeferred(self._executor.carry_out(step))
        self._under_way[work] = step
        work.addBoth(self._ended, work)

    def _ended(self, outcome: Failure | None, work: Deferred[None]) -> None:
        self._under_way.pop(work, None)
        if outcome is not None and self._failure is None:
            self._failure = outcome
        self._slots.release()

    async def finish(self) -> None:
        """Return when all have ended; raises what one failed with, which is a mistake of ours."""
        for _ in range(CONCURRENCY):
            await self._slots.acquire()
        if self._failure is not None:
            self._failure.raiseException()

    def stop(self) -> None:
        """Break off those that are under way."""
        # The last first, or those that wait would begin in place of those that end.
        for work in reversed(list(self._under_way)):
            work.cancel()
        self._executor.stop()


def described(step: Step) -> Iterator[str]:
    """Tell what *step* would do, line by line."""
    for target in step.targets:
        yield f"copy {step.id} from {step.sources[0]} to {target}"
    for name in step.told:
        yield f"tell {name} the metadata of {step.id} on {step.sources[0]}"
    for name, _ in step.leaving:
        yield f"drop {step.id} from {name}, when it is on {', '.join(step.holders)}"
