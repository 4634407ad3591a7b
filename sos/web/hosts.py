"""Which hosts a server answers as, and which pages may have a browser change something there.

A browser lets any page send requests to any address that it can reach, this machine's own
among them.  A page of another site cannot read the answers, nor set most headers.  By DNS
rebinding it can: its own name is made to lead to the server's address, so that the browser
takes the server for the page's own site.  The requests still name that site in ``Host``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from enum import Enum, auto
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from sos.errors import Forbidden, Misdirected
from sos.membership import MEMBERS
from sos.web.guards import Guard, Refusals
from sos.wire.heads import split_host
from sos.wire.request import Request

_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
# What any health check may ask: it tells nothing about what is stored.
_PROBES = frozenset({b"/alive", b"/healthz", b"/readyz"})
# By this header, a GET tells a blob server which members an API server goes by.
_MEMBERS = MEMBERS.lower().encode("ascii")
# Values of Sec-Fetch-Site (Fetch Metadata, 2.1) that no page of another site sends.
_OWN_SITE = (b"same-origin", b"none")
# RFC 6454, 6.2.
_ORIGIN = re.compile(rb"(https?)://([^/?#]+)", re.IGNORECASE)
_PORTS = {b"http": 80, b"https": 443}


class Unlisted(Enum):
    """What becomes of requests whose ``Host`` is a name that nobody has listed."""

    #: They are refused.
    REFUSED = auto()
    #: They are answered unless the name comes with the port of this listener.  That is how
    #: a browser names it; a reverse proxy passes on a name with a port of its own, or none.
    PROXIED = auto()
    #: They are answered, but a page changes nothing.
    PROGRAMS = auto()
    #: They are answered.
    ANSWERED = auto()


class HostGuard:
    """Lets in requests to this server, and changes that no page of another site asks for.

    IP addresses, ``localhost`` and the names under it are always answered: a page needs
    another name for rebinding.

    :param names: other names of this server, in lower case.
    :param unlisted: what becomes of those that are not among *names*.
    :param clock: tells seconds that pass.
    :param inner: what else a request has to pass, if anything.
    """

    def __init__(
        self,
        names: Collection[bytes],
        unlisted: Unlisted,
        clock: Callable[[], float],
        inner: Guard | None = None,
    ) -> None:
        self._names = frozenset(names)
        self._unlisted = unlisted
        self._inner = inner
        self._refusals = Refusals(clock)

    def __call__(self, request: Request) -> None:
        """Pass *request*; raises Misdirected for its host, and Forbidden for its page."""
        headers = request.headers
        name = _rebindable(headers.get(b"host", b""))
        unlisted = name is not None and name not in self._names
        changes = request.method not in _SAFE or _MEMBERS in headers
        if unlisted or changes:  # most requests are neither
            try:
                if unlisted and request.path not in _PROBES:
                    self._check_unlisted(request)
                if changes:
                    self._check_page(request, unlisted)
            except (Misdirected, Forbidden) as error:
                self._refusals.tell(request, error)
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
                f"this server does not answer as {shown!r}: use its IP address or localhost, or "
                "list its names by --hosts"
            )

    def _check_page(self, request: Request, unlisted: bool) -> None:
        headers = request.headers
        site = headers.get(b"sec-fetch-site")
        if site is not None and site not in _OWN_SITE:
            raise Forbidden("a page of another site changes nothing here")
        origin = headers.get(b"origin")
        if origin is None:  # a program, or an old browser's form
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
            f"a page of {origin[:100].decode('latin-1')!a} changes nothing here: "
            "the pages that may are those of this server's own address, or of its --hosts"
        )


@lru_cache(maxsize=256)  # nearly every request names the same
def _rebindable(host: bytes) -> bytes | None:
    """Return the name in the Host header *host*, None if it cannot lead to another server.

    Numbers that stand for an address in another form than RFC 3986 has, such as
    ``0177.0.0.1``, are names.
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
    """Tell whether *request* names its host with the port that it came to."""
    port = getattr(request.getHost(), "port", None)
    _, named = split_host(request.headers[b"host"]) or (b"", b"")
    return port == int(named) if named else port in _PORTS.values()


def _at(authority: bytes, port: int) -> tuple[bytes, int] | None:
    """Return the name and the port in *authority*, by default *port*; None if it has no name."""
    name, named = split_host(authority) or (b"", b"")
    return (name, int(named) if named else port) if name else None
