"""The face beside those that serve: how it is doing, for those who look after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from klein import Klein

from sos.errors import Unavailable
from sos.interfaces import IBlobStore
from sos.web.errors import answer_json
from sos.web.metrics import CONTENT_TYPE
from sos.wire.request import Request


class AdminServer:
    """Tells people and monitors how a daemon is doing.

    :param store: what it serves.
    :param status: returns what ``/status`` tells, as JSON can hold it.
    :param metrics: returns what ``/metrics`` tells, in Prometheus' text format.
    """

    app = Klein()

    def __init__(
        self,
        store: IBlobStore,
        status: Callable[[], Awaitable[Mapping[str, object]]],
        metrics: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._store = store
        self._status = status
        self._metrics = metrics

    @app.route("/status", methods=["GET"])
    async def status(self, request: Request) -> bytes:
        """Tell how the server is doing, and the servers behind it."""
        return answer_json(request, await self._status())

    @app.route("/metrics", methods=["GET"])
    async def metrics(self, request: Request) -> bytes:
        """Tell it to Prometheus."""
        text = await self._metrics()
        request.setHeader(b"Content-Type", CONTENT_TYPE)
        return text

    @app.route("/healthz", methods=["GET"])
    def alive(self, request: Request) -> bytes:
        """Say that the server runs."""
        return _answer_text(request, b"alive")

    @app.route("/readyz", methods=["GET"])
    async def ready(self, request: Request) -> bytes:
        """Say that an upload would be taken now; else the answer is 503, and why."""
        status = await self._store.status()
        if not status.writable:
            raise Unavailable(status.reason or "no upload is taken now")
        return _answer_text(request, b"ready")


def _answer_text(request: Request, text: bytes) -> bytes:
    request.setHeader(b"Content-Type", b"text/plain")
    return text
