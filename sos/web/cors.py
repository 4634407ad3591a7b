"""Cross-origin resource sharing: which pages of other origins may use a server (Fetch, 3.2).

A browser lets a page read the answer of another origin only if the answer permits it, and sends
a preflight request first if the page sends more than a form could.  SOS uses no cookies, so it
permits none: tokens are in a header.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from sos.http.server.request import Request

#: Every origin.  Its pages may read answers, and store nothing.
ANYONE = b"*"

# Without credentials "*" means all headers, except that Authorization must be named.
_SHARED = b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Expose-Headers: *\r\n"
_BY_ORIGIN = b"Vary: Origin\r\n"
_ALLOWED_HEADERS = b"*, Authorization"
# Seconds that a browser may cache a preflight answer: the most that browsers accept.
_MAX_AGE = b"7200"
_READS = frozenset({b"GET", b"HEAD"})


def named(origins: Collection[bytes]) -> frozenset[bytes]:
    """Return the *origins* whose pages may also store objects: all but :data:`ANYONE`."""
    return frozenset(origins) - {ANYONE}


class CrossOrigin:
    """Wrapper of *inner* that lets pages of *origins* read its answers, errors included.

    It answers preflight requests itself, because they bring no token.

    :param origins: serialized as browsers send them (RFC 6454, 6.2), or :data:`ANYONE`.
    :param methods: all methods that *inner* supports.
    """

    def __init__(
        self,
        inner: Callable[[Request], None],
        origins: Collection[bytes],
        methods: Iterable[str],
    ) -> None:
        self._inner = inner
        self._anyone = ANYONE in origins
        self._lines = {each: _SHARED % each + _BY_ORIGIN for each in named(origins)}
        self._methods = ", ".join(sorted(methods)).encode("ascii")

    def __call__(self, request: Request) -> None:
        headers = request.headers
        asked = None
        if request.method == b"OPTIONS":
            asked = headers.get(b"access-control-request-method")
        if self._anyone and (asked or request.method) in _READS:
            shared = _SHARED % ANYONE  # the same for all, so that caches can share it
        else:
            shared = self._lines.get(headers.get(b"origin", b""), b"")
        request.sharing = shared or _BY_ORIGIN
        if asked is None or not shared or b"origin" not in headers:
            self._inner(request)
            return
        request.setResponseCode(204)
        request.setHeader(b"Access-Control-Allow-Methods", self._methods)
        request.setHeader(b"Access-Control-Allow-Headers", _ALLOWED_HEADERS)
        request.setHeader(b"Access-Control-Max-Age", _MAX_AGE)
        request.finish()
