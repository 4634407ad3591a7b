"""The API servers' recent views of the cluster, as received by a blob server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sos.model.membership import ALIVE_SECONDS, Membership, parse_announcement

# Most speakers (processes that sent their view) and memberships (views) to remember.
_MOST_ANNOUNCERS = 256
_MOST_MEMBERSHIPS = 16
# Most speakers to report for one membership.
_MOST_REPORTED = 5


class Sightings:
    """Record of views of the cluster, and of the processes that have sent them.

    :param clock: returns a time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By speaker, the fingerprint of its view (None if it has left) and the time; newest last.
        self._announcers: dict[str, tuple[str | None, float]] = {}
        self._memberships: dict[str, Membership] = {}

    def record(self, header: str, membership: Membership | None = None) -> None:
        """Record the sender of *header*, see :data:`sos.model.membership.MEMBERS`.

        :param membership: the view with the fingerprint in *header*, if it was sent.
        """
        fingerprint, announcer = parse_announcement(header)
        self._note(announcer, fingerprint)
        known = self._memberships.pop(fingerprint, None) or membership
        if known is not None and known.fingerprint == fingerprint:
            self._memberships[fingerprint] = known
            if len(self._memberships) > _MOST_MEMBERSHIPS:
                del self._memberships[next(iter(self._memberships))]

    def leave(self, header: str) -> None:
        """Record that the sender of *header* stops."""
        self._note(parse_announcement(header)[1], None)

    def _note(self, announcer: str, fingerprint: str | None) -> None:
        self._announcers.pop(announcer, None)
        self._announcers[announcer] = fingerprint, self._clock()
        if len(self._announcers) > _MOST_ANNOUNCERS:
            del self._announcers[next(iter(self._announcers))]

    def document(self) -> list[dict[str, Any]]:
        """Return the recent views and their senders, by fingerprint, as a JSON array."""
        now = self._clock()
        found: dict[str, list[tuple[float, str]]] = {}
        for announcer, (fingerprint, at) in self._announcers.items():
            if fingerprint is not None and now - at < ALIVE_SECONDS:
                found.setdefault(fingerprint, []).append((now - at, announcer))
        return [
            {
                "fingerprint": fingerprint,
                "seconds_ago": round(min(found[fingerprint])[0], 3),
                "speakers": [name for _, name in sorted(found[fingerprint])[:_MOST_REPORTED]],
                "members": self._members(fingerprint),
            }
            for fingerprint in sorted(found)
        ]

    def _members(self, fingerprint: str) -> Any:
        known = self._memberships.get(fingerprint)
        return None if known is None else json.loads(known.encoded)
