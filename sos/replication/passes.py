"""A pass over all groups, which never mix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from sos.interfaces import Groups, Member, StoreStatus
from sos.membership import View
from sos.replication.group_pass import GroupPass, Policy
from sos.replication.inventory import Inventory
from sos.replication.memory import Memory
from sos.replication.objects import ObjectCheck
from sos.replication.summary import Report, Summary
from sos.survey import Answer, ask, described_twins, ids_of, twins

# Seconds that a server has to say how it is doing.
_STATUS_SECONDS = 30.0

_log = Logger()


async def replicate(
    groups: Groups,
    policy: Policy,
    clock: Any,
    report: Report,
    memory: Memory | None = None,
    everywhere: Groups | None = None,
) -> Summary:
    """Make one pass over each of *groups*, then look for the chunks of their objects.

    A failure ends its own step alone: a server that does not tell what it
    holds is left out of the pass, and a copy that cannot be made is counted.
    A pass that is broken off is taken up by the next, which finds what is
    still missing.

    :param memory: what is known from earlier passes, if anything is.
    :param everywhere: all groups there are, if *groups* are not: chunks can be in others.
    """
    summary = Summary()
    memory = Memory() if memory is None else memory
    answers = await ask(groups, _STATUS_SECONDS, clock)
    same = twins(ids_of(answers))
    summary.errors.extend(map(described_twins, same))
    if policy.moves:
        summary.errors.extend(map(str, _others(answers)))
    for error in summary.errors:
        report.warn(error)
    if summary.errors:
        policy = evolve(policy, moves=False)
    stock: dict[str, Mapping[str, Inventory]] = {}
    for name, all_members in groups.items():
        members = _each_once(all_members, same)
        group_pass = GroupPass(name, members, answers, policy, memory, clock, summary, report)
        stock[name] = group_pass.inventories
        try:
            await group_pass.run()
        except CancelledError:
            raise
        except Exception:  # a mistake of ours must not keep the other groups from their copies
            _log.failure("the replication of group {name} failed", name=name)
            summary.unlisted.append(f"group {name}")
    check = ObjectCheck(everywhere or groups, stock, memory, clock, summary, report)
    try:
        await check.run()
    except CancelledError:
        raise
    except Exception:
        _log.failure("the chunks of objects could not be looked for")
        summary.failed += 1
    return summary


def _others(answers: Mapping[str, Answer]) -> Iterable[View]:
    """Return what other API servers go by, each once."""
    return {
        view.fingerprint: view
        for answer in answers.values()
        if isinstance(answer, StoreStatus)
        for view in answer.others or ()
    }.values()


def _each_once(members: tuple[Member, ...], same: Iterable[tuple[str, ...]]) -> tuple[Member, ...]:
    """Leave out of *members* all but the first of those that are the *same* store."""
    names = {member.name for member in members}
    repeated = {name for each in same for name in [n for n in each if n in names][1:]}
    return tuple(member for member in members if member.name not in repeated)
