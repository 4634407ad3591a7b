"""Limits on the number of connections, and the choice of one to close for a new one."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from sos.http.server.heads import RejectedRequest


class Limited(Protocol):
    """Connection that counts towards a limit, and can be closed for a new one."""

    @property
    def active_at(self) -> float:
        """When its last request was handled, or it was opened."""
        ...

    @property
    def busy(self) -> bool:
        """Whether there is a request that has not been answered."""
        ...

    def close_if_idle(self) -> bool:
        """Close the connection if it is idle, or has sent part of a head: answer that with 503.

        Return False if there is a request to answer.
        """
        ...

    def abort_if_stalled(self) -> bool:
        """Abort the connection if its client still does not read; return whether it did."""
        ...


class ConnectionLimit:
    """Limited set of connections: all of a site, or those from one network.

    Requests are far more frequent than new connections, so a request does not update the
    lists: a connection stays in the list of idle ones, with the time when it entered.  When
    a new connection needs room, those at the head that have been active since move to the
    end, at most one for each earlier request.  Likewise, a stalled connection stays in its
    list when its client reads again.

    :param most: the limit.
    :param refusal: the answer to a connection over the limit.
    """

    def __init__(self, most: int, refusal: RejectedRequest) -> None:
        self.refusal = refusal
        self._most = most
        self._count = 0
        self._idle: OrderedDict[Limited, float] = OrderedDict()
        self._in_head: OrderedDict[Limited, None] = OrderedDict()
        self._stalled: OrderedDict[Limited, None] = OrderedDict()

    def add(self) -> None:
        """Count one more connection."""
        self._count += 1

    def remove(self, channel: Limited) -> None:
        """Forget *channel*, which is closed."""
        self._count -= 1
        self._idle.pop(channel, None)
        self._in_head.pop(channel, None)
        self._stalled.pop(channel, None)

    def idle(self, channel: Limited) -> None:
        """Record that *channel* has nothing to do."""
        self._idle[channel] = channel.active_at
        self._idle.move_to_end(channel)

    def in_head(self, channel: Limited) -> None:
        """Record that *channel* is receiving the head of a request; the oldest head is first."""
        self._idle.pop(channel, None)
        self._in_head.setdefault(channel)

    def head_completed(self, channel: Limited) -> None:
        """Record that the head of that request is complete."""
        self._in_head.pop(channel, None)

    def stalled(self, channel: Limited) -> None:
        """Record that the client of *channel* does not read its answer."""
        self._stalled.setdefault(channel)

    def make_room(self) -> bool:
        """Return whether there is room for a new connection, after closing one if necessary.

        It closes the connection that has been stalled for the longest, or else the one that has
        been idle for the longest, or else the one that has been sending a head for the longest.
        """
        if self._count < self._most:
            return True
        while self._stalled:
            channel, _ = self._stalled.popitem(last=False)
            if channel.abort_if_stalled():
                return True
        while self._idle:
            channel, noted = self._idle.popitem(last=False)
            if channel.active_at > noted and not channel.busy:
                self._idle[channel] = channel.active_at
            elif channel.close_if_idle():
                return True
        while self._in_head:
            channel, _ = self._in_head.popitem(last=False)
            if channel.close_if_idle():
                return True
        return False
