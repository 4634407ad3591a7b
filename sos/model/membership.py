"""Which servers an API server knows, as others are told of it.

Two API servers that know different servers, or keep different numbers of copies, each
copy what the other drops, and one does not find what the other has stored.  So each
tells every blob server what it goes by, and asks who else there is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from itertools import chain
from typing import Any, Protocol

from attrs import define, frozen

from sos.errors import InvalidRequest

#: The header by which a request says who sends it: a fingerprint, and a speaker's name.
MEMBERS = "X-Sos-Members"
#: Most bytes of a membership that is told.
MOST_BYTES = 64 * 1024
#: Seconds after which who has not been heard of is not there any more.
ALIVE_SECONDS = 180.0
# Characters that are told of a difference.
_LONGEST_DIFFERENCE = 2000

_SPEAKER = re.compile(r"[!-~]{1,120}")
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")


class _Marked(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def readonly(self) -> bool: ...
    @property
    def weight(self) -> float: ...


@define(slots=False)
class Membership:
    """What decides where copies belong.

    In what order ``sos.conf`` lists servers, their URLs if they have names, and which are
    preferred does not: with the same names, API servers can reach them in different ways.

    :param copies: of each blob that are kept.
    :param groups: by group and name, the weight of each server; 0 if it is read-only.
    """

    copies: int
    groups: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, groups: Mapping[str, Sequence[_Marked]], copies: int) -> Membership:
        """Return what follows from the servers in *groups*."""
        return cls(
            copies,
            {
                group: {each.name: 0.0 if each.readonly else float(each.weight) for each in members}
                for group, members in groups.items()
            },
        )

    @cached_property
    def encoded(self) -> bytes:
        """It, in its one canonical form: compact JSON, sorted names."""
        document = {"copies": self.copies, "groups": self.groups}
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")

    @cached_property
    def fingerprint(self) -> str:
        """What it is known by: equal for what is equal."""
        return sha256(self.encoded).hexdigest()[:32]

    @property
    def all_names(self) -> Iterator[str]:
        """The names of all groups and servers."""
        return chain(self.groups, *self.groups.values())

    @property
    def names(self) -> frozenset[str]:
        """The names of all servers."""
        return frozenset(name for members in self.groups.values() for name in members)


def parse(document: Any) -> Membership:
    """Return the membership that the JSON *document* is, or raise InvalidRequest."""
    try:
        copies, groups = document["copies"], document["groups"]
        known = Membership(
            copies,
            {
                group: {name: _weight(weight) for name, weight in members.items()}
                for group, members in groups.items()
            },
        )
        # Logs and terminals tell the names.
        if type(copies) is int and copies > 0 and all(map(str.isprintable, known.all_names)):
            return known
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        pass
    raise InvalidRequest("that is not which servers somebody knows")


def decode(text: bytes) -> Membership:
    """Return the membership that *text* is, as it is :attr:`~Membership.encoded`."""
    try:
        return parse(json.loads(text))
    except (ValueError, RecursionError):
        raise InvalidRequest("that is not JSON") from None


def _weight(told: Any) -> float:
    if type(told) not in (int, float) or not 0 <= (weight := float(told)) < math.inf:
        raise ValueError
    return weight


@frozen
class Speaker:
    """One who goes by a membership: a process of an API server, or a command.

    :param name: tells it from all others: host, process, and a number by chance.
    """

    name: str
    membership: Membership

    @property
    def header(self) -> str:
        """The value of :data:`MEMBERS` in its requests."""
        return f"{self.membership.fingerprint} {self.name}"


def heard(header: str) -> tuple[str, str]:
    """Return the fingerprint and the speaker in a header, or raise InvalidRequest."""
    fingerprint, _, name = header.partition(" ")
    if _FINGERPRINT.fullmatch(fingerprint) is None or _SPEAKER.fullmatch(name) is None:
        raise InvalidRequest(f"{header[:80]!r} is not a value of {MEMBERS}")
    return fingerprint, name


@frozen
class View:
    """What others go by than we do.

    :param speakers: who they are.
    :param difference: in what it differs from ours; if we have none, what it is.
    :param unknown: servers that it names and we do not know; None where we only look.
    """

    fingerprint: str
    speakers: tuple[str, ...]
    difference: str
    unknown: tuple[str, ...] | None

    def __str__(self) -> str:
        go = "goes" if len(self.speakers) == 1 else "go"
        return (
            f"{', '.join(self.speakers)} {go} by other servers ({self.difference}): nothing is "
            "dropped or moved until both read the same sos.conf"
        )


def parse_views(documents: Any, own: Membership | None) -> tuple[View, ...]:
    """Return the views in a server's status that are not our *own*.

    Raises InvalidRequest, or what comes of documents that are of another form:
    AttributeError, KeyError or TypeError.
    """
    views = []
    for each in documents:
        fingerprint, speakers = each["fingerprint"], tuple(map(str, each["speakers"]))
        for speaker in speakers:
            heard(f"{fingerprint} {speaker}")
        if own is not None and fingerprint == own.fingerprint:
            continue
        if each["members"] is None:
            view = View(fingerprint, speakers, "which, it has not told yet", ("servers not told",))
        else:
            theirs = parse(each["members"])
            if theirs.fingerprint != fingerprint:
                raise InvalidRequest(f"{fingerprint} is not the fingerprint of what it stands for")
            unknown = tuple(sorted(theirs.names - own.names)) if own is not None else None
            said = "; ".join(_differences(own or Membership(0, {}), theirs))
            if len(said) > _LONGEST_DIFFERENCE:
                said = f"{said[:_LONGEST_DIFFERENCE]}..."
            view = View(fingerprint, speakers, said, unknown)
        views.append(view)
    return tuple(views)


def _differences(ours: Membership, theirs: Membership) -> Iterator[str]:
    if theirs.copies != ours.copies:
        here = f", here {ours.copies}" if ours.copies else ""
        yield f"copies: {theirs.copies}{here}"
    for group in sorted({*ours.groups, *theirs.groups}):
        before, after = ours.groups.get(group, {}), theirs.groups.get(group, {})
        if added := sorted(after.keys() - before.keys()):
            yield (
                f"group {group} has also {' '.join(added)}"
                if before
                else (f"group {group}: {' '.join(added)}")
            )
        if missing := sorted(before.keys() - after.keys()):
            yield f"group {group} has not {' '.join(missing)}"
        for name in sorted(before.keys() & after.keys()):
            if before[name] != after[name]:
                yield f"{name} is {_mark(after[name])}, here {_mark(before[name])}"


def _mark(weight: float) -> str:
    return f"weight={weight:g}" if weight else "readonly"
