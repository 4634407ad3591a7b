"""The figures of the tables about traffic, rebuilds, growth and balance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import sha1
from statistics import mean
from typing import Any

from benchmarks.scale import traffic
from benchmarks.scale.assumptions import COMPARED, DETECTION, SIZE, SIZES, cluster, groups, rates
from benchmarks.scale.groups import Group, grown, names, redirected, shares
from benchmarks.scale.rebuild import worst_rebuild

#: Parts of all partitions that differ.
DIFFERING = (0.0, 0.001, 0.01, 0.1, 1.0)

# Ids that are dealt out to groups.
_IDS = 5_000


async def control_traffic(
    servers: Sequence[int], reactor: Any, chance: random.Random
) -> list[dict[str, Any]]:
    """Return a row for each number of servers: the bytes of a pass."""
    found = []
    for count in servers:
        looked_at = cluster(count, SIZE)
        (group,) = groups(SIZE, SIZE, looked_at.copies)
        requests = await traffic.measured(looked_at, group, reactor, chance)
        passing = traffic.Traffic(looked_at, requests)
        found.append(
            {
                "servers": count,
                "partition_objects": looked_at.partition_objects,
                "idle_bytes": passing.idle(),
                "server_bytes": mean(requests.digests),
                "partition_bytes": passing.partition(),
                "bytes": {str(share): passing.differing(share) for share in DIFFERING},
                "head_for_each_bytes": passing.head_for_each(),
            }
        )
    return found


def rebuilds(servers: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for each number of servers and size of groups: the worst loss of one."""
    found = []
    for count in servers:
        for size in (each for each in SIZES if count % each == 0):
            looked_at, machines = cluster(count, size), rates(count)
            some = groups(size, min(count, COMPARED), looked_at.copies)
            worst, seconds = worst_rebuild(looked_at, some, machines)
            found.append(
                {
                    "servers": count,
                    "size": size,
                    "bytes": worst.copies * looked_at.partition_bytes,
                    "sources": len(worst.read),
                    "targets": len(worst.written),
                    "server_seconds": worst.server_seconds(looked_at.partition_bytes, machines),
                    "api_seconds": worst.api_seconds(looked_at.partition_bytes, machines),
                    "seconds": seconds,
                    "detected_seconds": DETECTION + seconds,
                }
            )
    return found


def growth() -> list[dict[str, Any]]:
    """Return a row for each size of groups: a server more in it."""
    found = []
    for size in SIZES:
        changes = [
            grown(group, f"http://new{number}.example:3001")
            for number, group in enumerate(groups(size, COMPARED, copies=2))
        ]
        found.append(
            {
                "size": size,
                "moved": mean(each.moved / each.copies for each in changes),
                "most_moved": max(each.moved / each.copies for each in changes),
                "least": changes[0].least / changes[0].copies,
                "elsewhere": sum(each.elsewhere for each in changes),
            }
        )
    return found


def new_groups(servers: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for each number of servers: a group more."""
    ids = [sha1(b"%d" % number).hexdigest() for number in range(_IDS)]
    found = []
    for count in servers:
        before = count // SIZE
        to_new, elsewhere = redirected(before, SIZE, ids)
        found.append(
            {"groups": before, "to_new": to_new, "share": 1 / (before + 1), "elsewhere": elsewhere}
        )
    return found


def balance() -> list[dict[str, Any]]:
    """Return a row for each size of groups: what servers hold over their weight's share."""
    found = []
    for size in SIZES:
        equal = [shares(group) for group in groups(size, 2 * COMPARED, copies=2)]
        weights = {name: 1.0 + number % 2 for number, name in enumerate(names(size))}
        mixed = shares(Group.of(weights, 2))
        found.append(
            {
                "size": size,
                "groups": len(equal),
                "largest": max(max(each.values()) for each in equal),
                "mean_largest": mean(max(each.values()) for each in equal),
                "least": min(min(each.values()) for each in equal),
                "light": mean(mixed[name] for name, weight in weights.items() if weight == 1),
                "heavy": mean(mixed[name] for name, weight in weights.items() if weight == 2),
            }
        )
    return found
