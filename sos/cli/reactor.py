"""Run a command's coroutine on the reactor."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import react
from twisted.python.failure import Failure

from sos.cli.program import explained
from sos.errors import SOSError

T = TypeVar("T")


def run(work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Run ``work(reactor)`` and return its result.

    An SOSError becomes a one-line message and exit status 1; any other error is raised.
    """
    outcome: list[Any] = []

    def main(reactor: Any) -> Deferred[None]:
        done = ensureDeferred(work(reactor))
        # Ctrl-C stops the reactor, which cancels the work before it closes connections.
        reactor.addSystemEventTrigger("before", "shutdown", done.cancel)
        return done.addBoth(outcome.append)

    try:
        react(main)
    except SystemExit:
        if not outcome:
            raise
    result = outcome[0]
    if isinstance(result, Failure):
        if result.check(CancelledError):
            raise click.Abort
        if result.check(SOSError):
            assert result.value is not None
            raise click.ClickException(explained(result.value))
        result.raiseException()
    return result
