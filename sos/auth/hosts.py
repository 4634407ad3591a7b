"""Protection from DNS rebinding and from cross-site requests.

A browser lets every page send requests to every address that it can reach, including those
of its own machine.  A page of another site cannot read the answers, and cannot set most
headers.  DNS rebinding removes these limits: an attacker points the name of their own site at
the server's address, and the browser takes the server for that site.  The ``Host`` header
still has the attacker's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container
from enum import Enum, auto
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from twisted.logger import Logger

from sos.aio.limited_log import LimitedLog
from sos.auth.guards import LOG_SECONDS, Guard, log_refusal
from sos.errors import Forbidden, Misdirected
from sos.http.server.heads import split_host
from sos.http.server.request import Request
from sos.model.membership import MEMBERS

_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
#: Health checks, which reveal nothing about stored objects, and are answered under any name.
HEALTH_CHECKS = frozenset({b"/alive", b"*", b"/healthz", b"/readyz"})
# A GET with this header changes what a blob server knows about API servers.
_MEMBERS = MEMBERS.lower().encode("ascii")
# Values of Sec-Fetch-Site (Fetch Metadata, 2.1) that a page of another site never has.
_OWN_SITE = (b"same-origin", b"none")
# RFC 6454, 6.2.
_ORIGIN = re.compile(rb"(https?)://([^/?#]+)", re.IGNORECASE)
_PORTS = {b"http": 80, b"https": 443}


_log = Logger()


class Unlisted(Enum):
    """How a server treats requests whose ``Host`` is a name that it does not list."""

    #: It refuses them.
    REFUSED = auto()
    #: It answers them unless ``Host`` has the port of the listener.  A browser that connects
    #: to the listener sends that port; a reverse proxy passes on its own port, or none.
    PROXIED = auto()
    #: It answers them, but refuses changes that a page asks for.
    PROGRAMS = auto()
    #: It answers them.
    ANSWERED = auto()


class HostGuard:
    """Refuses requests for other hosts, and changes that pages of other sites ask for.

    IP addresses, ``localhost`` and the names below it are always accepted as ``Host``:
    DNS rebinding needs another name.

    :param names: the names of this server, in lower case.
    :param unlisted: how to treat other names.
    :param clock: returns a time in seconds, for the rate of log lines.
    :param inner: the guard that runs after this one, if any.
    :param origins: other origins whose pages may make changes, too.
    """

    def __init__(
        self,
        names: Collection[bytes],
        unlisted: Unlisted,
        clock: Callable[[], float],
        inner: Guard | None = None,
        origins: Container[bytes] = (),
    ) -> None:
        self._origins = origins
        self._names = frozenset(names)
        self._unlisted = unlisted
        self._inner = inner
        self._refusals = LimitedLog(_log, clock, LOG_SECONDS)

    def __call__(self, request: Request) -> None:
        """Return if *request* is accepted.

        :raises Misdirected: if it is for another host.
        :raises Forbidden: if it is a change that a page of another site asks for.
        """
        headers = request.headers
        name = _rebindable(headers.get(b"host", b""))
        unlisted = name is not None and name not in self._names
        changes = request.method not in _SAFE or _MEMBERS in headers
        if unlisted or changes:  # most requests are neither
            try:
                if unlisted and request.path not in HEALTH_CHECKS:
                    self._check_unlisted(request)
                if changes:
                    self._check_page(request, unlisted)
            except (Misdirected, Forbidden) as error:
                log_refusal(self._refusals, request, error)
                raise
        if self._inner is not None:
            self._inner(request)

    def _check_unlisted(self, request: Request) -> None:
        if self._unlisted is Unlisted.REFUSED or (
            self._unlisted is Unlisted.PROXIED and _names_listener(request)
        ):
            name, _ = split_host(request.headers[b"host"]) or (b"", b"")
            shown = name.decode("latin-1")
            raise Misdirected(
                f"this server does not accept the host name {shown!r}: use its IP address or "
                "localhost, or list its names with --hosts"
            )

    def _check_page(self, request: Request, unlisted: bool) -> None:
        headers = request.headers
        origin = headers.get(b"origin")
        if origin in self._origins:
            return
        site = headers.get(b"sec-fetch-site")
        if site is not None and site not in _OWN_SITE:
            raise Forbidden("pages of other sites may not make changes on this server")
        if origin is None:  # a program: browsers send it with every request but GET and HEAD
            return
        found = _ORIGIN.fullmatch(origin)
        if found is not None:
            scheme, authority = found.groups()
            port = _PORTS[scheme.lower()]
            page = _at(authority, port)
            own = page is not None and page == _at(headers.get(b"host", b""), port)
            if own and not (unlisted and self._unlisted is Unlisted.PROGRAMS):
                return
            if page is not None and page[0] in self._names:
                return
        raise Forbidden(
            f"pages of {origin[:100].decode('latin-1')!a} may not make changes on this server: "
            "only pages of its own address, or of a name in --hosts, may"
        )


@lru_cache(maxsize=256)  # nearly all requests have the same Host
def _rebindable(host: bytes) -> bytes | None:
    """Return the name in the Host header *host*, None if DNS rebinding cannot use it.

    An IP address that is not written as in RFC 3986, such as ``0177.0.0.1``, is a name.
    """
    name, _ = split_host(host) or (host, b"")
    if not name or name == b"localhost" or name.endswith(b".localhost"):
        return None
    text = name.decode("latin-1")
    try:
        if text.startswith("["):
            IPv6Address(text[1:-1])
        else:
            IPv4Address(text)
    except ValueError:
        return name
    return None


def _names_listener(request: Request) -> bool:
    """Return whether the Host header of *request* has the port that the request came to."""
    port = getattr(request.getHost(), "port", None)
    _, named = split_host(request.headers[b"host"]) or (b"", b"")
    return port == int(named) if named else port in _PORTS.values()


def _at(authority: bytes, port: int) -> tuple[bytes, int] | None:
    """Return the name and port in *authority*, None without a name; *port* is the default."""
    name, named = split_host(authority) or (b"", b"")
    return (name, int(named) if named else port) if name else None
