"""How many connections there may be, and which gives way to another that comes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from sos.http.server.heads import Refused


class Limited(Protocol):
    """A connection that counts, and can be closed for another."""

    @property
    def active_at(self) -> float:
        """When its last request came, or it was opened."""
        ...

    @property
    def occupied(self) -> bool:
        """Whether there is a request that has not been answered."""
        ...

    def give_way(self) -> bool:
        """Close it unless there is a request to answer; return whether it did."""
        ...

    def give_up_stalled(self) -> bool:
        """Close it if its client takes nothing of an answer; return whether it did."""
        ...


class Crowd:
    """Connections of which there may be so many: all of a site's, or those from one network.

    Requests come far more often than connections, so a request changes nothing here: a
    connection keeps its place among the idle, with the time when it took it.  One whose
    place comes and that has been active since goes to the end.  So a new connection looks
    at no more of the others than have had a request for it.  In the same way one whose client
    takes nothing keeps its place among the stalled when its client goes on.

    :param most: how many there may be.
    :param refusal: the answer to one more.
    """

    def __init__(self, most: int, refusal: Refused) -> None:
        self.refusal = refusal
        self._most = most
        self._count = 0
        self._idle: OrderedDict[Limited, float] = OrderedDict()
        self._in_head: OrderedDict[Limited, None] = OrderedDict()
        self._stalled: OrderedDict[Limited, None] = OrderedDict()

    def add(self) -> None:
        """Count one more."""
        self._count += 1

    def remove(self, channel: Limited) -> None:
        """Forget *channel*, which is no more."""
        self._count -= 1
        self._idle.pop(channel, None)
        self._in_head.pop(channel, None)
        self._stalled.pop(channel, None)

    def idle(self, channel: Limited) -> None:
        """Take note that *channel* has nothing to do."""
        self._idle[channel] = channel.active_at
        self._idle.move_to_end(channel)

    def in_head(self, channel: Limited) -> None:
        """Take note that a request of *channel* has begun to come; it is as old as its start."""
        self._idle.pop(channel, None)
        self._in_head.setdefault(channel)

    def has_head(self, channel: Limited) -> None:
        """Take note that the head of that request is complete."""
        self._in_head.pop(channel, None)

    def stalled(self, channel: Limited) -> None:
        """Take note that the client of *channel* takes nothing of its answer."""
        self._stalled.setdefault(channel)

    def has_room(self) -> bool:
        """Tell whether there is room for one more.

        The one whose client has taken nothing for the longest is closed for it, or else the
        one that has been idle for the longest, or whose request has been coming for the longest.
        """
        if self._count < self._most:
            return True
        while self._stalled:
            channel, _ = self._stalled.popitem(last=False)
            if channel.give_up_stalled():
                return True
        while self._idle:
            channel, noted = self._idle.popitem(last=False)
            if channel.active_at > noted and not channel.occupied:
                self._idle[channel] = channel.active_at
            elif channel.give_way():
                return True
        while self._in_head:
            channel, _ = self._in_head.popitem(last=False)
            if channel.give_way():
                return True
        return False
