"""A pass over all groups, which never mix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from sos.interfaces import Groups
from sos.replication.group_pass import GroupPass, Policy
from sos.replication.inventory import Inventory
from sos.replication.memory import Memory
from sos.replication.objects import ObjectCheck
from sos.replication.summary import Report, Summary

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
    stock: dict[str, Mapping[str, Inventory]] = {}
    for name, members in groups.items():
        group_pass = GroupPass(name, members, policy, memory, clock, summary, report)
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
