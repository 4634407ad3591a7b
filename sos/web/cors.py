"""Cross-origin resource sharing: which pages of other origins may use a server (Fetch, 3.2).

A browser shows a page the answer of another origin only if that says so, and asks before it
sends more than a form could.  No cookies are used here, so none are let in: a token goes with
each request that needs one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from sos.http.server.request import Request

#: Stands for every origin; its pages may read what everybody may read, and store nothing.
ANYONE = b"*"

# Without cookies these stand for all headers, but Authorization has to be named.
_SHARED = b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Expose-Headers: *\r\n"
_BY_ORIGIN = b"Vary: Origin\r\n"
_ALLOWED_HEADERS = b"*, Authorization"
# Seconds that a browser may remember what it was allowed; they take two hours at most.
_MAX_AGE = b"7200"
_READS = frozenset({b"GET", b"HEAD"})


def named(origins: Collection[bytes]) -> frozenset[bytes]:
    """Return those of *origins* whose pages may store something, too."""
    return frozenset(origins) - {ANYONE}


class CrossOrigin:
    """Answers as *inner* does, and lets pages of *origins* read the answers, errors included.

    It answers preflight requests itself: they bring no token.

    :param origins: serialized as browsers send them (RFC 6454, 6.2), or :data:`ANYONE`.
    :param methods: those that there are.
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
            shared = _SHARED % ANYONE  # whoever asks, so that caches can give it to all
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
