"""One anti-entropy pass over all groups."""

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
from sos.replication.pass_state import PassState
from sos.replication.summary import Report, Summary

# Timeout of a server's status, in seconds.
_STATUS_SECONDS = 30.0

_log = Logger()


async def replicate(
    groups: Groups,
    policy: Policy,
    clock: Any,
    report: Report,
    state: PassState | None = None,
    everywhere: Groups | None = None,
) -> Summary:
    """Make one pass over each of *groups*, then reconcile metadata across them.

    Also look for the chunks of their objects, and count the blobs that servers have lost.

    A failure ends only its own step: a pass skips a server that sends no inventory, and
    counts a copy that it cannot make.  After a pass that was cancelled, the next one finds
    the copies that are still missing.

    :param state: state of earlier passes, if any.
    :param everywhere: all groups, if *groups* are only some: chunks can be in the others.
    """
    summary = Summary()
    state = PassState() if state is None else state
    answers = await ask(groups, _STATUS_SECONDS, clock)
    same = twins(ids_of(answers))
    summary.errors.extend(map(described_twins, same))
    if policy.moves:
        summary.errors.extend(map(str, _others(answers)))
    for error in summary.errors:
        report.warn(error)
    if summary.errors:
        policy = evolve(policy, moves=False)
    inventories: dict[str, Mapping[str, Inventory]] = {}
    for name, all_members in groups.items():
        members = _each_once(all_members, same)
        group_pass = GroupPass(name, members, answers, policy, state, clock, summary, report)
        inventories[name] = group_pass.inventories
        try:
            await group_pass.run()
        except CancelledError:
            raise
        except Exception:  # a bug in one group's pass must not stop the other groups
            _log.failure("replication failed, group={name}", name=name)
            summary.unlisted.append(f"group {name}")
    writable = _writable(groups, answers)
    across = AcrossGroups(
        groups, inventories, writable, policy.dry_run, state, clock, summary, report
    )
    check = ObjectCheck(everywhere or groups, inventories, state, clock, summary, report)
    try:
        await across.run()
        await _look_for_lost(everywhere or groups, answers, clock, summary, report)
        await check.run()
    except CancelledError:
        raise
    except Exception:
        _log.failure("cannot compare the groups")
        summary.failed += 1
    return summary


def _writable(groups: Groups, answers: Mapping[str, Answer]) -> set[str]:
    """Return the names of the servers that accept metadata."""
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
    """Count the blobs that servers report as lost, and that no server has a copy of.

    Listings leave out damaged and unreadable blobs, so comparing them cannot find these.
    """
    members = [member for each in groups.values() for member in each]
    had: dict[str, list[str]] = {}
    for name, answer in answers.items():
        if isinstance(answer, StoreStatus) and answer.lost:
            if answer.lost > len(answer.lost_ids):
                summary.failed += 1
                report.warn(
                    f"{name} has lost {answer.lost} blobs, but lists only "
                    f"{len(answer.lost_ids)} of them"
                )
            for id in answer.lost_ids:
                had.setdefault(id, []).append(name)
    for id, names in had.items():
        if await _is_nowhere(id, members, clock):
            summary.broken += 1
            report.warn(
                f"{id} is lost: {' and '.join(names)} had it, and no server that answered "
                "has an intact copy; "
                "upload it again"
            )


async def _is_nowhere(id: str, members: Iterable[Member], clock: Any) -> bool:
    """Return whether no server has *id*; a server that does not answer counts as without it."""
    for member in members:
        with suppress(SOSError):
            await within(_STATUS_SECONDS, member.store.stat(id), clock)
            return False
    return True


def _others(answers: Mapping[str, Answer]) -> Iterable[View]:
    """Return the differing views of other API servers, each once."""
    return {
        view.fingerprint: view
        for answer in answers.values()
        if isinstance(answer, StoreStatus)
        for view in answer.others or ()
    }.values()


def _each_once(members: tuple[Member, ...], same: Iterable[tuple[str, ...]]) -> tuple[Member, ...]:
    """Return *members* with only the first name of each store that has several (*same*)."""
    names = {member.name for member in members}
    repeated = {name for each in same for name in [n for n in each if n in names][1:]}
    return tuple(member for member in members if member.name not in repeated)
