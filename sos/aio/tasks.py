"""Coroutines that nothing awaits."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sos.aio.limited_log import LimitedLog
from sos.errors import BodyError, SOSError

_log = LimitedLog(Logger())


class Running:
    """A suspended coroutine that resumes in the context where it was begun.

    Deferred.fromCoroutine() does the same, but a blob server executes 5.6 % more instructions
    for a small upload with it, and calls back outside of that context.

    :param awaited: the Deferred that it waits for.
    :param ended: called with its result, or a Failure.
    """

    __slots__ = ("_awaited", "_context", "_coroutine", "_ended")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        awaited: Deferred[Any],
        ended: Callable[[Any], object],
    ) -> None:
        self._coroutine = coroutine
        self._ended = ended
        self._context = copy_context()
        self._wait(awaited)

    def _wait(self, awaited: Deferred[Any]) -> None:
        self._awaited = awaited
        awaited.addBoth(self._go_on)

    def _go_on(self, result: Any) -> None:
        self._context.run(self._step, result)

    def _step(self, result: Any) -> None:
        try:
            if isinstance(result, Failure):
                awaited = result.throwExceptionIntoGenerator(self._coroutine)
            else:
                awaited = self._coroutine.send(result)
        except StopIteration as end:
            outcome = end.value
        except Exception:
            outcome = Failure()
        else:
            self._wait(awaited)
            return
        self._ended(outcome)

    def cancel(self) -> None:
        """Cancel the Deferred that it waits for, which usually ends it."""
        self._awaited.cancel()


def run(coroutine: Coroutine[Any, Any, Any], ended: Callable[[Any], object]) -> Running | None:
    """Run *coroutine*; return the rest of it if it has to wait, None if it has ended.

    :param ended: called with its result, or a Failure, now or later.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration as end:
        outcome = end.value
    except Exception:
        outcome = Failure()
    else:
        return Running(coroutine, awaited, ended)
    ended(outcome)
    return None


def unwanted(failure: Failure) -> None:
    """Handle the *failure* of abandoned work: log it if it is a bug of ours."""
    if not failure.check(SOSError, BodyError, OSError, CancelledError):
        _log.failure("internal error in abandoned work", failure)
