"""Views of the cluster: the servers that each API server knows, compared by fingerprint.

If two API servers know different servers, or keep different numbers of copies, each
copies what the other drops, and one does not find objects that the other has stored.
So each sends its view to all blob servers, and receives the views of the others.
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

#: The header that identifies a request's sender: a fingerprint, and a speaker's name.
MEMBERS = "X-Sos-Members"
#: Most bytes of an encoded membership in a request.
MOST_BYTES = 64 * 1024
#: Seconds without a request after which a speaker counts as gone.
ALIVE_SECONDS = 180.0
# Most characters of a difference in a message.
_LONGEST_DIFFERENCE = 2000

_ANNOUNCER = re.compile(r"[!-~]{1,120}")
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
    """The settings that decide where copies belong.

    The order of servers in ``sos.conf``, ``preferred``, and the URLs of servers with names do
    not count: API servers can reach the same server in different ways.

    :param copies: the number of copies in a group.
    :param groups: by group and name, the weight of each server; 0 if it is read-only.
    """

    copies: int
    groups: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, groups: Mapping[str, Sequence[_Marked]], copies: int) -> Membership:
        """Return the membership for the servers in *groups*."""
        return cls(
            copies,
            {
                group: {each.name: 0.0 if each.readonly else float(each.weight) for each in members}
                for group, members in groups.items()
            },
        )

    @cached_property
    def encoded(self) -> bytes:
        """The membership in its canonical form: compact JSON, sorted names."""
        document = {"copies": self.copies, "groups": self.groups}
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")

    @cached_property
    def fingerprint(self) -> str:
        """A hash: memberships are equal if their fingerprints are."""
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
    """Return the membership in the parsed JSON *document*, or raise InvalidRequest."""
    try:
        copies, groups = document["copies"], document["groups"]
        known = Membership(
            copies,
            {
                group: {name: _weight(weight) for name, weight in members.items()}
                for group, members in groups.items()
            },
        )
        # Logs and terminals show the names.
        if type(copies) is int and copies > 0 and all(map(str.isprintable, known.all_names)):
            return known
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        pass
    raise InvalidRequest("the membership view is malformed")


def decode(text: bytes) -> Membership:
    """Decode :attr:`Membership.encoded`, or raise InvalidRequest."""
    try:
        return parse(json.loads(text))
    except (ValueError, RecursionError):
        raise InvalidRequest("the membership view is not JSON") from None


def _weight(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= (weight := float(value)) < math.inf:
        raise ValueError
    return weight


@frozen
class Announcer:
    """A process with a view of the cluster: an API server, or a command.

    :param name: unique to the process: host, process, and a random number.
    """

    name: str
    membership: Membership

    @property
    def header(self) -> str:
        """The value of :data:`MEMBERS` in the requests of this process."""
        return f"{self.membership.fingerprint} {self.name}"


def parse_announcement(header: str) -> tuple[str, str]:
    """Return the fingerprint and the speaker's name in a header, or raise InvalidRequest."""
    fingerprint, _, name = header.partition(" ")
    if _FINGERPRINT.fullmatch(fingerprint) is None or _ANNOUNCER.fullmatch(name) is None:
        raise InvalidRequest(f"{header[:80]!r} is not a valid {MEMBERS} header")
    return fingerprint, name


@frozen
class View:
    """A view of the cluster that differs from our own.

    :param senders: the names of the processes that have it.
    :param difference: how it differs from ours; the whole view if we have none.
    :param unknown: servers in it that we do not know; None if we have no view.
    """

    fingerprint: str
    senders: tuple[str, ...]
    difference: str
    unknown: tuple[str, ...] | None

    def __str__(self) -> str:
        use = "uses" if len(self.senders) == 1 else "use"
        return (
            f"{', '.join(self.senders)} {use} another set of servers ({self.difference}): nothing "
            "is dropped or moved until both read the same sos.conf"
        )


def parse_views(documents: Any, own: Membership | None) -> tuple[View, ...]:
    """Return the views in a server's status that differ from our *own*.

    Raises InvalidRequest or, for documents of another form, AttributeError, KeyError or
    TypeError.
    """
    views = []
    for each in documents:
        fingerprint, senders = each["fingerprint"], tuple(map(str, each["speakers"]))
        for announcer in senders:
            parse_announcement(f"{fingerprint} {announcer}")
        if own is not None and fingerprint == own.fingerprint:
            continue
        if each["members"] is None:
            view = View(
                fingerprint, senders, "not sent yet", ("servers that it has not named yet",)
            )
        else:
            theirs = parse(each["members"])
            if theirs.fingerprint != fingerprint:
                raise InvalidRequest(
                    f"the fingerprint {fingerprint} does not match its membership view"
                )
            unknown = tuple(sorted(theirs.names - own.names)) if own is not None else None
            difference = "; ".join(_differences(own or Membership(0, {}), theirs))
            if len(difference) > _LONGEST_DIFFERENCE:
                difference = f"{difference[:_LONGEST_DIFFERENCE]}..."
            view = View(fingerprint, senders, difference, unknown)
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
                f"group {group} also has {' '.join(added)}"
                if before
                else (f"group {group}: {' '.join(added)}")
            )
        if missing := sorted(before.keys() - after.keys()):
            yield f"group {group} lacks {' '.join(missing)}"
        for name in sorted(before.keys() & after.keys()):
            if before[name] != after[name]:
                yield f"{name} is {_mark(after[name])}, here {_mark(before[name])}"


def _mark(weight: float) -> str:
    return f"weight={weight:g}" if weight else "readonly"
