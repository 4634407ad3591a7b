"""The figures of the tables about the loss of the last copy."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmarks.scale import durability
from benchmarks.scale.assumptions import (
    COMPARED,
    DETECTION,
    FAILURES,
    SIZE,
    SIZES,
    cluster,
    groups,
    rates,
)
from benchmarks.scale.groups import Cluster, Group, names
from benchmarks.scale.rebuild import worst_rebuild

#: Servers of a group that are failed at any time, in the mean, where the closed
#: form is tried against simulated failures.
HARSH = 0.05

# Simulated losses, as many as are expected, that are enough to tell a rate from.
_ENOUGH = 20
# Digits of the names of partitions, 16 to the power of which there are.
_DIGITS = (2, 3, 4)
_PARTED = (10, 25)


def losses(servers: Sequence[int], events: int, chance: random.Random) -> list[dict[str, Any]]:
    """Return a row for each number of servers and copies; for one of them, each size of groups."""
    found = []
    for count in servers:
        sizes = [size for size in SIZES if count % size == 0] if count == COMPARED else [SIZE]
        for copies in (2, 3):
            found += [_losses(cluster(count, size, copies), events, chance) for size in sizes]
    return found


def _losses(looked_at: Cluster, events: int, chance: random.Random) -> dict[str, Any]:
    some = groups(looked_at.size, min(looked_at.servers, COMPARED), looked_at.copies)
    _, seconds = worst_rebuild(looked_at, some, rates(looked_at.servers))
    years = (DETECTION + seconds) / durability.YEAR
    sets = mean(len(group.holder_sets()) for group in some)
    rate = looked_at.groups * durability.loss_rate(sets, looked_at.copies, FAILURES, years)
    return {
        "servers": looked_at.servers,
        "size": looked_at.size,
        "copies": looked_at.copies,
        "repair_seconds": DETECTION + seconds,
        "sets": sets,
        "set_share": sets / math.comb(looked_at.size, looked_at.copies),
        "objects_at_once": looked_at.objects / (sets * looked_at.groups),
        "probability": durability.probability(rate),
        "simulated": _simulated(some[0], looked_at.groups, years, events, chance),
    }


def checks(events: int, chance: random.Random) -> list[dict[str, Any]]:
    """Return a row for each number of copies and size of groups, where losses are frequent."""
    found = []
    for copies in (2, 3):
        for size in SIZES:
            (group,) = groups(size, size, copies)
            years = HARSH / size
            seen = _simulate(group, 1.0, years, events, chance)
            rate, error = seen.rate()
            expected = _expected(group, 1.0, years)
            found.append(
                {
                    "size": size,
                    "copies": copies,
                    "losses": seen.losses,
                    "ratio": rate / expected,
                    "error": error / expected,
                }
            )
    return found


def partitions() -> list[dict[str, Any]]:
    """Return a row for each number of partitions that a group could have, with three copies."""
    found = []
    for size in _PARTED:
        looked_at = cluster(COMPARED, size, 3)
        _, seconds = worst_rebuild(looked_at, groups(size, size, 3), rates(COMPARED))
        years = (DETECTION + seconds) / durability.YEAR
        for digits in _DIGITS:
            every = [f"{number:0{digits}x}" for number in range(16**digits)]
            sets = len(Group.of(names(size), 3, every).holder_sets())
            rate = looked_at.groups * durability.loss_rate(sets, 3, FAILURES, years)
            found.append(
                {
                    "size": size,
                    "partitions": len(every),
                    "sets": sets,
                    "set_share": sets / math.comb(size, 3),
                    "objects_at_once": looked_at.objects / (sets * looked_at.groups),
                    "probability": durability.probability(rate),
                }
            )
    return found


def _simulated(
    group: Group, count: int, years: float, events: int, chance: random.Random
) -> dict[str, float] | None:
    """Return the probability for *count* groups as it is seen, where losses are frequent enough."""
    expected = _expected(group, FAILURES, years)
    if expected * events / (FAILURES * len(group.weights)) < _ENOUGH:
        return None
    seen = _simulate(group, FAILURES, years, events, chance)
    rate, error = seen.rate()
    return {
        "losses": seen.losses,
        "probability": durability.probability(count * rate),
        "low": durability.probability(count * (rate - error)),
        "high": durability.probability(count * (rate + error)),
    }


def _expected(group: Group, failures: float, years: float) -> float:
    return durability.loss_rate(len(group.holder_sets()), group.copies, failures, years)


def _simulate(
    group: Group, failures: float, years: float, events: int, chance: random.Random
) -> durability.Simulated:
    sets = group.holder_sets()
    return durability.simulate(tuple(group.weights), sets, failures, years, events, chance)
