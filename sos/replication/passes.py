"""A pass over all groups, which never mix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from sos.aio.gather import within
from sos.errors import SOSError
from sos.interfaces import Groups, Member, StoreStatus
from sos.model.membership import View
from sos.monitoring.server_health import Answer, ask, described_twins, ids_of, twins
from sos.replication.across import AcrossGroups
from sos.replication.group_pass import GroupPass, Policy
from sos.replication.inventory import Inventory
from sos.replication.objects import ObjectCheck
from sos.replication.pass_state import Memory
from sos.replication.summary import Report, Summary

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
    writable = _writable(groups, answers)
    across = AcrossGroups(groups, stock, writable, policy.dry_run, memory, clock, summary, report)
    check = ObjectCheck(everywhere or groups, stock, memory, clock, summary, report)
    try:
        await across.run()
        await _look_for_lost(everywhere or groups, answers, clock, summary, report)
        await check.run()
    except CancelledError:
        raise
    except Exception:
        _log.failure("what the groups hold together could not be looked at")
        summary.failed += 1
    return summary


def _writable(groups: Groups, answers: Mapping[str, Answer]) -> set[str]:
    """Return the names of the servers that can be told anything."""
    return {
        member.name
        for members in groups.values()
        for member in members
        if not member.readonly
        and isinstance(answer := answers[member.name], StoreStatus)
        and answer.writable
    }


async def _look_for_lost(
    groups: Groups,
    answers: Mapping[str, Answer],
    clock: Any,
    summary: Summary,
    report: Report,
) -> None:
    """Count what servers say that they have lost, and that none has a copy of.

    What a server cannot give is in no listing: that all listings are alike says nothing of it.
    """
    members = [member for each in groups.values() for member in each]
    had: dict[str, list[str]] = {}
    for name, answer in answers.items():
        if isinstance(answer, StoreStatus) and answer.lost:
            if answer.lost > len(answer.lost_ids):
                summary.failed += 1
                report.warn(f"{name} lost {answer.lost} blobs, and tells of a part of them alone")
            for id in answer.lost_ids:
                had.setdefault(id, []).append(name)
    for id, names in had.items():
        if await _is_nowhere(id, members, clock):
            summary.broken += 1
            report.warn(
                f"{id} is lost: {' and '.join(names)} had it, and no server can give it; upload "
                "it again"
            )


async def _is_nowhere(id: str, members: Iterable[Member], clock: Any) -> bool:
    """Tell whether no server has *id*; one that does not answer, or cannot read it, has not."""
    for member in members:
        with suppress(SOSError):
            await within(_STATUS_SECONDS, member.store.stat(id), clock)
            return False
    return True


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
