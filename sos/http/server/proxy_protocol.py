"""The PROXY protocol, versions 1 and 2: a proxy sends the address of its client first.

https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt

Twisted's :mod:`twisted.protocols.haproxy` is not suitable.  It trusts every peer, requires the
header on every connection, fails if the first 16 bytes are split over two reads, accepts
malformed addresses and headers of 64 KiB, has no timeout, and stays between a connection and
its transport.
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
# Section 2.2: the fields after the signature, and the bytes of addresses of each family.
_FIXED = struct.Struct("!BBH")
_HEADER_BYTES = len(_V2) + _FIXED.size
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES = (0, 12, 36, 216)
_STREAM_V4, _STREAM_V6 = 0x11, 0x21
_V4, _V6 = struct.Struct("!4s4sHH"), struct.Struct("!16s16sHH")

# Most connections whose header is incomplete; over that, the oldest one is closed.  Proxies send
# the header at once.
_MOST_WAITING = 512

_log = Logger()


@frozen
class Header:
    """PROXY header at the beginning of a connection.

    :param size: in bytes, 0 if there is no header.
    :param own: whether the connection is the proxy's own, as for health checks.
    :param client: the address of the proxy's client; None if it is not given.
    """

    size: int
    own: bool = False
    client: IAddress | None = None


def read_header(data: bytes) -> Header | None:
    """Parse the header at the beginning of *data*; return None while it is incomplete.

    Raises ValueError if the header is malformed.
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
            raise ValueError(f"the line exceeds {_MOST_V1} bytes")
        return None
    found = _LINE.fullmatch(data, 0, end)
    if found is None:
        raise ValueError("the line is malformed")
    *addresses, source_port, target_port = found.groups()
    size = end + 2
    if source_port is None:
        return Header(size)
    if int(source_port) > 65535 or int(target_port) > 65535:
        raise ValueError("a port is above 65535")
    source, target = (
        address_of(each.decode("ascii"), int(source_port)) for each in addresses if each
    )
    if source is None or target is None:
        raise ValueError("an address is malformed")
    return Header(size, client=source)


def _read_v2(data: bytes) -> Header | None:
    if len(data) < _HEADER_BYTES:
        return None
    command, kind, length = _FIXED.unpack_from(data, len(_V2))
    family, transport = kind >> 4, kind & 0xF
    size = _HEADER_BYTES + length
    if command not in (_LOCAL, _PROXY):
        raise ValueError(f"unsupported version and command: 0x{command:02x}")
    if size > MAX_HEAD_BYTES:  # as for any head: it can contain certificates
        raise ValueError(f"the header exceeds {MAX_HEAD_BYTES} bytes")
    if command == _PROXY and (family >= len(_ADDRESS_BYTES) or transport > 2):
        raise ValueError(f"unsupported family and transport: 0x{kind:02x}")
    if command == _PROXY and length < _ADDRESS_BYTES[family]:
        raise ValueError(f"its {length} bytes are too few for addresses of its family")
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
    """Connection of a proxy until its header is complete, and its real protocol can be made."""

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
        # From here on the transport calls the real protocol directly, at no cost.
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
        """Abort the connection before it has a protocol."""
        self._forget()
        self.transport.abortConnection()


class _Factory(ServerFactory):
    """Wrapper of a factory that passes it the client addresses from PROXY headers.

    :param idle_seconds: for which a proxy's connection may be idle before its first byte.
    """

    noisy = False

    def __init__(self, factory: Any, proxies: Proxies, reactor: Any, idle_seconds: float) -> None:
        self.reactor = reactor
        self.idle_seconds = idle_seconds
        self._factory = factory
        self._proxies = proxies
        self._waiting: dict[_Opening, None] = {}  # oldest first
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
        """Return the protocol for a connection of *client*, which is None if unknown."""
        made: Protocol = self._factory.buildProtocol(client)
        return made

    def add(self, opening: _Opening) -> None:
        """Keep *opening* until its header is complete; abort the oldest if there are too many."""
        if len(self._waiting) >= _MOST_WAITING:
            next(iter(self._waiting)).abort()
        self._waiting[opening] = None

    def discard(self, opening: _Opening) -> None:
        """Forget *opening*, if it is kept."""
        self._waiting.pop(opening, None)

    def refuse(self, peer: IAddress | None, reason: str) -> None:
        """Log that the proxy *peer* has sent a malformed header."""
        self._refusals.emit(
            LogLevel.warn,
            "PROXY header refused, connection closed: proxy={proxy} reason={reason}",
            proxy=getattr(peer, "host", "unix"),
            reason=reason,
        )


@implementer(IStreamServerEndpoint)
@frozen
class Proxied:
    """Endpoint that accepts PROXY headers from *proxies*.

    The header is optional.  This is safe only if a proxy's clients cannot send one, because
    the proxy speaks HTTP itself, or always sends the header.

    :param idle_seconds: for which a proxy's connection may be idle before its first byte.
    """

    _endpoint: Any
    _proxies: Proxies
    _reactor: Any
    _idle_seconds: float

    def listen(self, factory: Any) -> Any:
        """Listen, see IStreamServerEndpoint."""
        wrapper = _Factory(factory, self._proxies, self._reactor, self._idle_seconds)
        return self._endpoint.listen(wrapper)
