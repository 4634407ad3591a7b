"""Who goes by which servers, as far as a blob server has heard of late."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sos.model.membership import ALIVE_SECONDS, Membership, heard

# Speakers that are remembered, and memberships: those heard of last.
_MOST_SPEAKERS = 256
_MOST_MEMBERSHIPS = 16
# Of one membership, as many speakers are told.
_MOST_TOLD = 5


class Sightings:
    """Remembers who has said, of late, which servers they go by.

    :param clock: tells seconds that pass.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By speaker, the fingerprint (None when it has left) and when that was; newest last.
        self._speakers: dict[str, tuple[str | None, float]] = {}
        self._memberships: dict[str, Membership] = {}

    def hear(self, header: str, membership: Membership | None = None) -> None:
        """Note who has sent *header*, see :data:`sos.model.membership.MEMBERS`.

        :param membership: that it stands for, where that is told.
        """
        fingerprint, speaker = heard(header)
        self._note(speaker, fingerprint)
        known = self._memberships.pop(fingerprint, None) or membership
        if known is not None and known.fingerprint == fingerprint:
            self._memberships[fingerprint] = known
            if len(self._memberships) > _MOST_MEMBERSHIPS:
                del self._memberships[next(iter(self._memberships))]

    def leave(self, header: str) -> None:
        """Note that who sends *header* goes."""
        self._note(heard(header)[1], None)

    def _note(self, speaker: str, fingerprint: str | None) -> None:
        self._speakers.pop(speaker, None)
        self._speakers[speaker] = fingerprint, self._clock()
        if len(self._speakers) > _MOST_SPEAKERS:
            del self._speakers[next(iter(self._speakers))]

    def told(self) -> list[dict[str, Any]]:
        """Return what was heard of late, by fingerprint, as JSON can hold it."""
        now = self._clock()
        found: dict[str, list[tuple[float, str]]] = {}
        for speaker, (fingerprint, at) in self._speakers.items():
            if fingerprint is not None and now - at < ALIVE_SECONDS:
                found.setdefault(fingerprint, []).append((now - at, speaker))
        return [
            {
                "fingerprint": fingerprint,
                "seconds_ago": round(min(found[fingerprint])[0], 3),
                "speakers": [name for _, name in sorted(found[fingerprint])[:_MOST_TOLD]],
                "members": self._members(fingerprint),
            }
            for fingerprint in sorted(found)
        ]

    def _members(self, fingerprint: str) -> Any:
        known = self._memberships.get(fingerprint)
        return None if known is None else json.loads(known.encoded)
