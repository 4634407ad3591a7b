"""The plan of an anti-entropy pass: from the listings of a group's servers to steps.

Copies under a content id differ only in their metadata, and in whether they are the
object itself, its manifest, or the tombstone of a deleted object.  All replicas are to hold
the same, see :mod:`sos.model.merge`.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set

from attrs import frozen

from sos.model import ids
from sos.model.digest import BlobDigest
from sos.model.placement import rank
from sos.replication.metadata import alive, lacking, sources

#: As a number of copies: one on each server of a group that can be written to.
ALL = 1 << 30

#: The blobs of a partition that a server holds, by id; None for a blob without a
#: digest, as from servers of the original system.
Held = Mapping[str, BlobDigest | None]


@frozen
class Step:
    """The repair of one blob: first copies, then metadata, then drops.

    :param size: of its body in bytes, None where no server reports it.
    :param sources: servers to copy it from, in the order in which to try them.
    :param targets: servers to copy it to: they lack it, or hold the manifest while
        another server holds the object.
    :param metadata_targets: servers to send the merged metadata of *metadata_sources*, and the
        version of the copy of each.
    :param drops: servers that hold a surplus copy, and its digest: drop it once all
        of *holders* have been read back.
    :param holders: the servers that are to hold it.
    :param spares: servers for hinted handoff if a target fails, in order.
    :param surplus: copies beside those of the holders: so many targets can fail, and
        there are enough copies.
    :param metadata_sources: servers whose metadata to merge.
    """

    id: str
    size: int | None
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    metadata_targets: tuple[tuple[str, str], ...]
    drops: tuple[tuple[str, BlobDigest], ...]
    holders: tuple[str, ...]
    spares: tuple[str, ...] = ()
    surplus: int = 0
    metadata_sources: tuple[str, ...] = ()


@frozen
class Plan:
    """The repair of one partition.

    :param short: the number of blobs with fewer copies than wanted even after all steps.
    :param disputed: opaque names under which servers hold different bytes.
        Nothing says which are right, so all of them stay.
    """

    steps: tuple[Step, ...]
    disputed: tuple[str, ...]
    short: int = 0


def holders(weights: Mapping[str, float], partition: str, copies: int) -> tuple[str, ...]:
    """Return the replica set of *partition*, the first *copies* of the servers in *weights*."""
    if copies >= len(weights):
        return tuple(weights)
    return rank(weights, partition)[:copies]


def in_sync(digests: Mapping[str, Hashable], holders: Sequence[str], movable: Set[str]) -> bool:
    """Return whether nothing is to be done for a partition.

    :param digests: by server; a server that holds none of its blobs has none.
    :param holders: its replica set.
    :param movable: the servers that may drop surplus copies.
    """
    if any(name in movable and name not in holders for name in digests):
        return False
    return len({digests.get(name) for name in (*holders, *digests)}) <= 1


@frozen
class Placing:
    """The servers on which the blobs of a partition belong.

    :param order: servers that may hold it, the replica set first.  A server that does
        not answer, and is expected back with its copies, keeps its place.
    :param copies: the number of copies wanted.
    :param movable: servers that may drop surplus copies; no holder drops anything.
    :param full: servers that accept neither blobs nor metadata now.  Their copies
        count; what they lack goes to the next in order.
    :param drained: servers whose copies do not count, because they will be removed.
    """

    order: Sequence[str]
    copies: int = ALL
    movable: Set[str] = frozenset()
    full: Set[str] = frozenset()
    drained: Set[str] = frozenset()

    def holders(self, having: Set[str], asked: Set[str]) -> tuple[str, ...]:
        """Return the servers that are to hold a blob.

        :param having: servers that hold it.
        :param asked: servers that have sent their listing.
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
    """Return the steps after which all holders of each blob have the same copy.

    :param held: the blobs of one partition that each server of a group holds,
        without servers that did not answer.  If there are such, *placing* must
        have nothing movable.
    """
    steps, disputed, short = [], [], 0
    for id in sorted(set().union(*held.values()), key=ids.sort_key):
        copies = {name: blobs[id] for name, blobs in held.items() if id in blobs}
        if _differ(id, copies.values()):
            disputed.append(id)
            continue
        step = _step(id, copies, placing, held.keys())
        short += len(step.holders) + step.surplus < placing.copies < ALL
        if step.targets or step.metadata_targets or step.drops:
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
    known = {name: copy for name, copy in copies.items() if copy is not None}
    # Servers of the original system tell no times, and keep no tombstones.
    kept: dict[str, BlobDigest | None] = dict.fromkeys(copies.keys() - known.keys())
    kept |= alive(known)
    if not kept:
        return _deletion(id, known, placing, asked)
    versions = {name: "" if copy is None else copy.version for name, copy in kept.items()}
    best = min(kept.values(), key=_order)
    first = "" if best is None else best.version
    # Servers with a copy of the first's kind, object or manifest, or of unknown kind.
    alike = {name for name, version in versions.items() if version[:1] in ("", first[:1])}
    holders = placing.holders(alike, asked)
    able = asked - placing.full
    targets = tuple(name for name in holders if name not in alike)
    all_copies = placing.copies == ALL
    enough = len(holders) >= (len(placing.order) if all_copies else placing.copies)
    drops = {
        name: copy
        for name, copy in sorted(known.items())
        if name in placing.movable and name not in holders
    }
    if not (enough and holders):
        drops.clear()
    # Also to surplus copies that stay, for clients can be served from those.
    wanting = lacking(known)
    metadata_targets = tuple(
        (name, known[name].version)
        for name in dict.fromkeys([*holders, *placing.order])
        if name in wanting
        and name in able
        and name not in {*drops, *targets}
        and not known[name].is_tombstone
    )
    givers = sorted(alike, key=lambda name: (_order(copies[name]), _spread(id, name)))
    if givers[0] in wanting:
        metadata_targets += tuple((name, first) for name in targets)
    spares = tuple(
        name for name in placing.order if name in able and name not in {*holders, *alike}
    )
    surplus = 0 if all_copies else len(alike - {*holders} - placing.drained)
    size = next((copy.size for copy in kept.values() if copy and copy.version == first), None)
    return Step(
        id,
        size,
        tuple(givers),
        targets,
        metadata_targets,
        tuple(drops.items()),
        holders,
        spares if targets else (),
        surplus,
        sources(known) if metadata_targets else (),
    )


def _deletion(id: str, copies: Mapping[str, BlobDigest], placing: Placing, asked: Set[str]) -> Step:
    """Return the step for a deleted object: all holders are to have its tombstone.

    So is whoever has a copy and may be written to.  Surplus tombstones are dropped when the
    holders have theirs.
    """
    tombstones = {name for name, copy in copies.items() if copy.is_tombstone}
    holders = placing.holders(copies.keys(), asked)
    able = (asked - placing.full) & {*placing.order, *placing.movable, *placing.drained}
    latest = max(copy.times.deleted or 0 for copy in copies.values())
    knowing = {name for name in tombstones if copies[name].times.deleted == latest}
    metadata_targets = tuple(
        (name, copies[name].version if name in copies else "2")
        for name in dict.fromkeys([*holders, *copies])
        if name in able - knowing
    )
    drops: dict[str, BlobDigest] = {}
    if holders and not metadata_targets and tombstones.issuperset(holders):
        surplus = tombstones - {*holders}
        drops = {name: copies[name] for name in sorted(surplus & placing.movable)}
    return Step(
        id,
        0,
        tuple(sorted(tombstones)),
        (),
        metadata_targets,
        tuple(drops.items()),
        holders,
        surplus=ALL,  # nobody misses a copy
        metadata_sources=sources(copies) if metadata_targets else (),
    )


def _order(copy: BlobDigest | None) -> tuple[bool, tuple[str, int, str]]:
    """Return the sort key of a copy; copies without a digest sort last."""
    return copy is None, ("", 0, "") if copy is None else copy.order


def _spread(id: str, name: str) -> int:
    """Return a sort key for sources that differs by blob, to spread the reads over them."""
    return zlib.crc32(name.encode(), zlib.crc32(id.encode("ascii")))
