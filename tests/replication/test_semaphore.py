"""So many at a time."""

from __future__ import annotations

from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.defer import ensureDeferred as deferred

from sos.replication.semaphore import Semaphore


@ensureDeferred
async def test_no_more_than_there_are_places_for():
    """Who waits is let in as others leave, the first who came first."""
    places, inside, gates = Semaphore(2), [], [Deferred() for _ in range(7)]

    async def visit(number):
        async with places:
            inside.append(number)
            await gates[number]
            inside.remove(number)

    visits = [deferred(visit(number)) for number in range(5)]
    assert inside == [0, 1]
    gates[1].callback(None)
    assert inside == [0, 2]
    visits[3].addErrback(lambda failure: failure.trap(CancelledError))
    visits[3].cancel()
    for number in (0, 2, 4):
        gates[number].callback(None)
    await gatherResults(visits)
    assert inside == []
    visits = [deferred(visit(number)) for number in (5, 6)]
    assert inside == [5, 6]  # who was cancelled has left no place taken
    for number in (5, 6):
        gates[number].callback(None)
    await gatherResults(visits)


@ensureDeferred
async def test_thousands_that_leave_as_soon_as_they_are_let_in():
    """That is not too deep for the stack."""
    places, gate, seen = Semaphore(1), Deferred(), []

    async def visit(number):
        async with places:
            seen.append(number)

    async def first():
        async with places:
            await gate

    visits = [deferred(first()), *(deferred(visit(number)) for number in range(5000))]
    gate.callback(None)
    await gatherResults(visits)
    assert seen == list(range(5000))


@ensureDeferred
async def test_nobody_is_let_in_when_it_is_closed():
    """They can be cancelled in any order then."""
    places, seen = Semaphore(1), []

    async def visit(number):
        async with places:
            seen.append(number)
            await Deferred()

    visits = [deferred(visit(number)) for number in range(3)]
    places.close()
    for each in visits:
        each.addErrback(lambda failure: failure.trap(CancelledError) and None)
        each.cancel()
    assert seen == [0]
