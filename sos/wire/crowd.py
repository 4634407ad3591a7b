"""How many connections there may be, and which gives way to another that comes."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from sos.wire.heads import Refused

if TYPE_CHECKING:
    from sos.wire.server import Channel


class Crowd:
    """Connections of which there may be so many: all of a site's, or those from one network.

    Those that are idle are kept in order, the longest first, and those whose request is
    coming as well: a look at all for each new one would hold up those that were let in.
    One that has a request to answer stays among the idle until its place comes, for
    requests come far more often than connections.

    :param most: how many there may be.
    :param refusal: the answer to one more.
    """

    def __init__(self, most: int, refusal: Refused) -> None:
        self.refusal = refusal
        self._most = most
        self._count = 0
        self._idle: OrderedDict[Channel, None] = OrderedDict()
        self._in_head: OrderedDict[Channel, None] = OrderedDict()

    def add(self) -> None:
        """Count one more."""
        self._count += 1

    def remove(self, channel: Channel) -> None:
        """Forget *channel*, which is no more."""
        self._count -= 1
        self._idle.pop(channel, None)
        self._in_head.pop(channel, None)

    def idle(self, channel: Channel) -> None:
        """Take note that *channel* has nothing to do, and has just heard of its client."""
        self._idle[channel] = None
        self._idle.move_to_end(channel)

    def in_head(self, channel: Channel) -> None:
        """Take note that a request has begun to come; it is as old as its beginning."""
        self._in_head.setdefault(channel)
        self._idle.pop(channel, None)

    def has_head(self, channel: Channel) -> None:
        """Take note that a request has come."""
        self._in_head.pop(channel, None)

    def has_room(self) -> bool:
        """Tell whether there is room for one more.

        The one that has been idle for the longest is closed for it, or else the one
        whose request has been coming for the longest.
        """
        if self._count < self._most:
            return True
        for channels in (self._idle, self._in_head):
            while channels:
                channel, _ = channels.popitem(last=False)
                if channel.give_way():
                    return True
                # Else it has a request to answer, and will be idle again.
        return False
