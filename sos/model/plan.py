"""What a partition of a group lacks: pure, from what its servers hold to steps.

The copies of an object never differ but in their metadata, and in whether they
are the object itself or its manifest.  Of two, the one that comes first in their
order is to be had everywhere, see :func:`sos.model.metadata.order`: so servers that
are compared in any order come to hold the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set

from attrs import frozen

from sos.model import ids
from sos.model.digest import BlobDigest
from sos.model.placement import rank

#: Copies on all servers of a group that can be written to.
ALL = 1 << 30

#: What a server holds of a partition, by id; None for a blob of which it tells
#: nothing more, as the original system's servers do.
Held = Mapping[str, BlobDigest | None]


@frozen
class Step:
    """What one blob lacks, to be done in this order.

    :param size: of its body in bytes, None where no server tells.
    :param sources: servers to copy it from, in the order in which to try them.
    :param targets: servers that are to hold a copy, and do not, or hold the
        manifest of what is the object elsewhere.
    :param told: servers that are to be told the metadata of the first source.
    :param leaving: servers that hold a copy which belongs elsewhere, and what
        they told of it: to be dropped when all of *holders* are seen to have theirs.
    :param holders: the servers that should have it.
    :param spares: servers that can take the place of a target which fails, in order.
    :param surplus: copies beside those of the holders: so many targets can fail, and
        there are enough copies.
    :param sayer: the server whose metadata is told, if that is not the first source's.
    """

    id: str
    size: int | None
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    told: tuple[str, ...]
    leaving: tuple[tuple[str, BlobDigest], ...]
    holders: tuple[str, ...]
    spares: tuple[str, ...] = ()
    surplus: int = 0
    sayer: str = ""


@frozen
class Plan:
    """What a partition lacks.

    :param short: blobs that have fewer copies than are wanted even after all steps.
    :param disputed: opaque names under which servers hold different bytes.
        Nothing tells which are right, so that all of them stay.
    """

    steps: tuple[Step, ...]
    disputed: tuple[str, ...]
    short: int = 0


def holders(weights: Mapping[str, float], partition: str, copies: int) -> tuple[str, ...]:
    """Return who should hold *partition*, the first of the servers in *weights*."""
    if copies >= len(weights):
        return tuple(weights)
    return rank(weights, partition)[:copies]


def in_sync(digests: Mapping[str, Hashable], holders: Sequence[str], movable: Set[str]) -> bool:
    """Tell whether nothing is to be done for a partition.

    :param digests: of what each server holds of it; a server that holds
        nothing has none.
    :param holders: the servers that should hold it.
    :param movable: the servers that may drop what belongs elsewhere.
    """
    if any(name in movable and name not in holders for name in digests):
        return False
    return len({digests.get(name) for name in (*holders, *digests)}) <= 1


@frozen
class Placing:
    """Where the blobs of a partition are to be.

    :param order: servers that may hold it, those that should first.  One that is
        away, and is expected back with what it had, is waited for in its place.
    :param copies: how many of them should.
    :param movable: servers that may drop what belongs elsewhere; no holder drops
        anything.
    :param full: servers that take no blobs now, nor other metadata.  What they have
        counts; what they lack goes to the next in order.
    :param drained: servers whose copies do not count, for they are to go.
    """

    order: Sequence[str]
    copies: int = ALL
    movable: Set[str] = frozenset()
    full: Set[str] = frozenset()
    drained: Set[str] = frozenset()

    def holders(self, having: Set[str], asked: Set[str]) -> tuple[str, ...]:
        """Return who is to have a blob.

        :param having: servers that have it.
        :param asked: servers that told what they have.
        """
        chosen: list[str] = []
        places = self.copies
        for name in self.order:
            if not places:
                break
            if name not in asked:
                places -= 1
            elif name in having or name not in self.full:
                chosen.append(name)
                places -= 1
        return tuple(chosen)


def plan(held: Mapping[str, Held], placing: Placing) -> Plan:
    """Return the steps after which each blob is on all of its holders, and the same there.

    :param held: what each server of one group holds of one partition.  A
        server that could not be asked is left out, as are its copies: none may
        be movable then.
    """
    steps, disputed, short = [], [], 0
    for id in sorted(set().union(*held.values()), key=ids.sort_key):
        copies = {name: blobs[id] for name, blobs in held.items() if id in blobs}
        if _differ(id, copies.values()):
            disputed.append(id)
            continue
        step = _step(id, copies, placing, held.keys())
        short += len(step.holders) + step.surplus < placing.copies < ALL
        if step.targets or step.told or step.leaving:
            steps.append(step)
    return Plan(tuple(steps), tuple(disputed), short)


def _differ(id: str, copies: Iterable[BlobDigest | None]) -> bool:
    bodies = {(copy.size, copy.hash) for copy in copies if copy is not None}
    return len(bodies) > 1 and ids.algorithm(id) is None


def _step(
    id: str,
    copies: Mapping[str, BlobDigest | None],
    placing: Placing,
    asked: Set[str],
) -> Step:
    versions = {name: "" if copy is None else copy.version for name, copy in copies.items()}
    best = min(copies.values(), key=_order)
    first = "" if best is None else best.version
    # An object is one kind, its manifest the other; of some we do not know.
    alike = {name for name, version in versions.items() if version[:1] in ("", first[:1])}
    holders = placing.holders(alike, asked)
    able = asked - placing.full
    targets = tuple(name for name in holders if name not in alike)
    # What was said first can be with a manifest, while the object itself is to be had.
    sayer = _sayer(copies, best)
    all_copies = placing.copies == ALL
    enough = len(holders) >= (len(placing.order) if all_copies else placing.copies)
    leaving = {
        name: copy
        for name, copy in sorted(copies.items())
        if copy is not None and name in placing.movable and name not in holders
    }
    if not (enough and holders) or sayer:  # which leaves once others say the same
        leaving.clear()
    # Also a copy that stays where it does not belong, for it can be the one that is read.
    staying = (name for name in placing.order if name in alike and name not in leaving)
    told = tuple(
        name
        for name in dict.fromkeys([*holders, *staying])
        if versions.get(name, "") not in ("", first) and name in able
    )
    # And one of the other kind, whose version differs anyhow, if it was set later.
    first_said = copies[sayer] if sayer else best
    if sayer and first_said is not None:
        told = tuple(
            name
            for name in placing.order
            if (copy := copies.get(name)) is not None
            and copy.order[1] > first_said.order[1]
            and name in able
        )
    elif best is not None:
        told += tuple(
            name
            for name in placing.order
            if name not in (*holders, *alike, *leaving)
            and (copy := copies.get(name)) is not None
            and copy.order[1] > best.order[1]
            and name in able
        )
    spares = tuple(
        name for name in placing.order if name in able and name not in {*holders, *alike}
    )
    surplus = 0 if all_copies else len(alike - {*holders} - placing.drained)
    sources = sorted(alike, key=lambda name: (_order(copies[name]), _spread(id, name)))
    size = next((copy.size for copy in copies.values() if copy and copy.version == first), None)
    return Step(
        id,
        size,
        tuple(sources),
        targets,
        told,
        tuple(leaving.items()),
        holders,
        spares if targets else (),
        surplus,
        sayer,
    )


def _sayer(copies: Mapping[str, BlobDigest | None], best: BlobDigest | None) -> str:
    """Return whose metadata was set before that of *best*, of the other kind; empty for nobody."""
    if best is None:
        return ""
    earlier = [
        (copy.order[1], name)
        for name, copy in copies.items()
        if copy is not None
        and copy.version[:1] != best.version[:1]
        and copy.order[1] < best.order[1]
    ]
    return min(earlier)[1] if earlier else ""


def _order(copy: BlobDigest | None) -> tuple[bool, tuple[str, int, str]]:
    """Put what nothing is known of behind the rest."""
    return copy is None, ("", 0, "") if copy is None else copy.order


def _spread(id: str, name: str) -> int:
    """Order the sources of each blob in another way, so that none has to give all."""
    return zlib.crc32(name.encode(), zlib.crc32(id.encode("ascii")))
