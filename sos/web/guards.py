"""Who is let in: what a request has to pass before any of its body is read."""

from __future__ import annotations

from collections.abc import Callable, Container

from twisted.logger import Logger

from sos.errors import Forbidden, Unauthorized
from sos.signature import Verifier
from sos.wire.request import Request

#: Raises Unauthorized or Forbidden for a request that is not to be answered.
Guard = Callable[[Request], None]

#: Least seconds between two lines of the log about those who were turned away.
LOG_SECONDS = 1.0

_log = Logger()


class SignedRequests:
    """Lets in what is signed.

    :param open_paths: what everybody may ask for.
    :param clock: tells seconds that pass.
    """

    def __init__(
        self, verifier: Verifier, open_paths: Container[bytes], clock: Callable[[], float]
    ) -> None:
        self._verifier = verifier
        self._open_paths = open_paths
        self._refusals = Refusals(clock)

    def __call__(self, request: Request) -> None:
        if request.path in self._open_paths:
            return
        try:
            self._verifier.check(
                request.method, request.target, request.body.length, request.headers
            )
        except Unauthorized as error:
            self._refusals.tell(request, error)
            raise
        request.private = True


class Refusals:
    """Tells the log who was turned away: a line a second at most, with the number of others."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told = float("-inf")
        self._untold = 0

    def tell(self, request: Request, error: Unauthorized | Forbidden) -> None:
        """Tell that *request* was turned away because of *error*."""
        now = self._clock()
        if now - self._told < LOG_SECONDS:
            self._untold += 1
            return
        others = f" (and {self._untold} others since the last line)" if self._untold else ""
        self._told, self._untold = now, 0
        _log.warn(
            "turned away: {method} {path} from {peer}: {error}{others}",
            method=request.method.decode("latin-1"),
            path=request.path[:200].decode("latin-1"),
            peer=getattr(request.getClientAddress(), "host", "a socket"),
            error=error,
            others=others,
        )
