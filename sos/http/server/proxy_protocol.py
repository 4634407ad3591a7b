"""The PROXY protocol, versions 1 and 2: how a proxy says whose connection it passes on.

https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt

Twisted's :mod:`twisted.protocols.haproxy` does not do here.  It believes whoever connects, wants
the header from every connection, fails where 16 bytes do not come in one read, takes what is no
address, up to 64 KiB of it, and for ever, and stays between a connection and its transport.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IAddress, IDelayedCall, IStreamServerEndpoint
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from sos.aio.limited_log import LimitedLog
from sos.http.server.connection import HEAD_SECONDS
from sos.http.server.parser import MAX_HEAD_BYTES
from sos.http.server.proxies import Proxies, address_of

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
# Bytes of a line of version 1 at most, with its end (section 2.1).
_MOST_V1 = 107
_NUMBER = rb"0|[1-9][0-9]{0,4}"
_IPV6 = rb"((?=[^ ]*:)[0-9A-Fa-f:.]+)"
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP(?:4 ([0-9.]+) ([0-9.]+)|6 %b %b) (%b) (%b))"
    % (_IPV6, _IPV6, _NUMBER, _NUMBER)
)
# Section 2.2: what follows the signature, and then how many bytes of addresses each family has.
_FIXED = struct.Struct("!BBH")
_HEADER_BYTES = len(_V2) + _FIXED.size
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES = (0, 12, 36, 216)
_STREAM_V4, _STREAM_V6 = 0x11, 0x21
_V4, _V6 = struct.Struct("!4s4sHH"), struct.Struct("!16s16sHH")

# Connections whose first bytes have not come; past that, the one that waits for the longest is
# closed.  Proxies send the header at once.
_MOST_WAITING = 512

_log = Logger()


@frozen
class Header:
    """What a connection begins with.

    :param size: in bytes, 0 where it has no header.
    :param own: whether the proxy speaks for itself.
    :param client: the one that it speaks for; None where it does not say.
    """

    size: int
    own: bool = False
    client: IAddress | None = None


def read_header(data: bytes) -> Header | None:
    """Read the header that *data* begins with, None while it is not complete.

    Raises ValueError when there is one that is malformed.
    """
    if data[: len(_V2)] == _V2:
        return _read_v2(data)
    if data[: len(_V1)] == _V1:
        return _read_v1(data)
    if _V1.startswith(data) or _V2.startswith(data):
        return None
    return Header(0, own=True)


def _read_v1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, _MOST_V1)
    if end < 0:
        if len(data) >= _MOST_V1:
            raise ValueError(f"its line passes {_MOST_V1} bytes")
        return None
    found = _LINE.fullmatch(data, 0, end)
    if found is None:
        raise ValueError("its line is malformed")
    *addresses, source_port, target_port = found.groups()
    size = end + 2
    if source_port is None:
        return Header(size)
    if int(source_port) > 65535 or int(target_port) > 65535:
        raise ValueError("it names a port above 65535")
    source, target = (
        address_of(each.decode("ascii"), int(source_port)) for each in addresses if each
    )
    if source is None or target is None:
        raise ValueError("it names what is not an address")
    return Header(size, client=source)


def _read_v2(data: bytes) -> Header | None:
    if len(data) < _HEADER_BYTES:
        return None
    command, kind, length = _FIXED.unpack_from(data, len(_V2))
    family, transport = kind >> 4, kind & 0xF
    size = _HEADER_BYTES + length
    if command not in (_LOCAL, _PROXY):
        raise ValueError(f"its version and command are 0x{command:02x}")
    if size > MAX_HEAD_BYTES:  # as any other head: with certificates in it, there can be much
        raise ValueError(f"it passes {MAX_HEAD_BYTES} bytes")
    if command == _PROXY and (family >= len(_ADDRESS_BYTES) or transport > 2):
        raise ValueError(f"its family and transport are 0x{kind:02x}")
    if command == _PROXY and length < _ADDRESS_BYTES[family]:
        raise ValueError(f"it has {length} bytes, too few for addresses of its family")
    if len(data) < size:
        return None
    if command == _LOCAL:
        return Header(size, own=True)
    if kind not in (_STREAM_V4, _STREAM_V6):  # a Unix socket, say
        return Header(size)
    addresses = _V4 if kind == _STREAM_V4 else _V6
    source, _, port, _ = addresses.unpack_from(data, _HEADER_BYTES)
    return Header(size, client=address_of(source, port))


class _Opening(Protocol):
    """A connection of a proxy until it is known whose it is, and its protocol can be made."""

    transport: Any
    _timer: IDelayedCall

    def __init__(self, factory: _Factory, peer: IAddress | None) -> None:
        self._factory = factory
        self._peer = peer
        self._data = b""

    def connectionMade(self) -> None:
        factory = self._factory
        self._timer = factory.reactor.callLater(factory.idle_seconds, self.abort)
        factory.add(self)

    def dataReceived(self, data: bytes) -> None:
        if not self._data:
            self._timer.reset(HEAD_SECONDS)
        self._data += data
        try:
            header = read_header(self._data)
        except ValueError as error:
            self._factory.refuse(self._peer, str(error))
            self.abort()
            return
        if header is not None:
            self._go_on(self._peer if header.own else header.client, header.size)

    def _go_on(self, client: IAddress | None, size: int) -> None:
        self._forget()
        transport = self.transport
        # The transport calls what follows by itself: to pass on what comes costs nothing.
        transport.protocol = protocol = self._factory.protocol_for(client)
        protocol.makeConnection(transport)
        if len(self._data) > size:
            protocol.dataReceived(self._data[size:])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget()

    def _forget(self) -> None:
        if self._timer.active():
            self._timer.cancel()
        self._factory.discard(self)

    def abort(self) -> None:
        """Close the connection, which has done nothing yet."""
        self._forget()
        self.transport.abortConnection()


class _Factory(ServerFactory):
    """Makes the protocols of another factory, for the clients that proxies name.

    :param idle_seconds: in which a connection has to begin.
    """

    noisy = False

    def __init__(self, factory: Any, proxies: Proxies, reactor: Any, idle_seconds: float) -> None:
        self.reactor = reactor
        self.idle_seconds = idle_seconds
        self._factory = factory
        self._proxies = proxies
        self._waiting: dict[_Opening, None] = {}  # in the order in which they came
        self._refusals = LimitedLog(_log, reactor.seconds)

    def doStart(self) -> None:
        super().doStart()
        self._factory.doStart()

    def doStop(self) -> None:
        super().doStop()
        self._factory.doStop()

    def stopFactory(self) -> None:
        for each in list(self._waiting):
            each.abort()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        if addr in self._proxies:
            return _Opening(self, addr)
        return self.protocol_for(addr)

    def protocol_for(self, client: IAddress | None) -> Protocol:
        """Return the protocol of a connection of *client*, None where that is not told."""
        made: Protocol = self._factory.buildProtocol(client)
        return made

    def add(self, opening: _Opening) -> None:
        """Keep *opening* until it is known what it begins with."""
        if len(self._waiting) >= _MOST_WAITING:
            next(iter(self._waiting)).abort()
        self._waiting[opening] = None

    def discard(self, opening: _Opening) -> None:
        """Forget *opening*, if it is kept."""
        self._waiting.pop(opening, None)

    def refuse(self, peer: IAddress | None, reason: str) -> None:
        """Log that the proxy *peer* has sent a header that is malformed."""
        self._refusals.tell(
            LogLevel.warn,
            "PROXY header refused, connection closed: proxy={proxy} reason={reason}",
            proxy=getattr(peer, "host", "a socket"),
            reason=reason,
        )


@implementer(IStreamServerEndpoint)
@frozen
class Proxied:
    """An endpoint where *proxies* may say by the PROXY protocol whose connections they pass on.

    They need not, if it is certain that no client of theirs can: they speak HTTP themselves, or
    send the header always.  For all others there is no such protocol.

    :param idle_seconds: for which a proxy's connection may be idle before it begins.
    """

    _endpoint: Any
    _proxies: Proxies
    _reactor: Any
    _idle_seconds: float

    def listen(self, factory: Any) -> Any:
        """Listen, see IStreamServerEndpoint."""
        wrapper = _Factory(factory, self._proxies, self._reactor, self._idle_seconds)
        return self._endpoint.listen(wrapper)
