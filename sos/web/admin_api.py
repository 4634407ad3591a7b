"""The HTTP interface of the admin port: status, metrics, health checks and the dashboard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from werkzeug.exceptions import NotFound as RouteNotFound

from sos.auth.guards import FETCHES, UPLOADS
from sos.errors import Unavailable
from sos.http.server.request import Request
from sos.http.server.site import Note, count
from sos.interfaces import IBlobStore
from sos.monitoring.prometheus import CONTENT_TYPE
from sos.monitoring.request_metrics import RequestMetrics
from sos.web.dashboard import PAGE, PAGE_HEADERS
from sos.web.errors import answer_json, answer_text, encode_json
from sos.web.openapi import Operation, Port, document, responses
from sos.web.openapi.credentials import TOKENS
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.stock_site import App

#: Most uploads and fetches at once on the admin port; use the other ports for more.
TRANSFERS = 4

_Face = TypeVar("_Face", UploadServer, DownloadServer)

# Caches must not store the status, and browsers must not guess another type.
_FRESH = b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"


class AdminServer:
    """HTTP server for the people and monitors that watch a daemon.

    The dashboard uploads and fetches through this port: for a browser, the other ports
    are other origins, which need not allow cross-origin requests.

    :param store: the store that the daemon serves.
    :param status: returns the document of ``/status``.
    :param metrics: returns the text of ``/metrics``, in Prometheus' text format.
    :param uploads: takes the uploads of the dashboard, and *downloads* its fetches;
        without these there is no dashboard.
    :param obstacle: returns a reason besides the store why uploads would fail now, or None.
    """

    app = App()

    def __init__(
        self,
        store: IBlobStore,
        status: Callable[[], Awaitable[Mapping[str, object]]],
        metrics: Callable[[], Awaitable[bytes]],
        uploads: UploadServer | None = None,
        downloads: DownloadServer | None = None,
        obstacle: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._obstacle = obstacle
        self._store = store
        self._status = status
        self._metrics = metrics
        self._uploads = uploads
        self._downloads = downloads
        self._transfers = 0

    @app.route("/", methods=["GET"])
    @Operation("state", answers=[responses.PAGE], needs_credentials=False)
    def page(self, request: Request) -> bytes:
        """Send the dashboard, a page that polls ``/status``."""
        _there(self._uploads)
        request.setHeader(b"Content-Type", b"text/html; charset=utf-8")
        request.setFixedHeaders(PAGE_HEADERS)
        return PAGE

    @app.route("/status", methods=["GET"])
    @Operation("state", answers=[responses.API_STATUS])
    async def status(self, request: Request) -> bytes:
        """Send the status of this server and of the servers behind it."""
        request.setFixedHeaders(_FRESH)
        return answer_json(request, await self._status())

    @app.route("/metrics", methods=["GET"])
    @Operation("state", answers=[responses.METRICS])
    async def metrics(self, request: Request) -> bytes:
        """Send the metrics, for Prometheus."""
        text = await self._metrics()
        request.setHeader(b"Content-Type", CONTENT_TYPE)
        return text

    @app.route("/alive", methods=["GET"])
    @app.route("/healthz", methods=["GET"], endpoint="healthz")
    @Operation("state", answers=[responses.ALIVE])
    def alive(self, request: Request) -> bytes:
        """Confirm that the server runs, without credentials."""
        return answer_text(request, b"alive")

    @app.route("/readyz", methods=["GET"])
    @Operation("state", answers=[responses.READY])
    async def ready(self, request: Request) -> bytes:
        """Confirm that the server accepts uploads now; else answer 503 with the reason."""
        reason = (await self._store.status()).refusal
        if reason is None:
            reason = self._obstacle()
        if reason is not None:
            raise Unavailable(reason)
        return answer_text(request, b"ready")

    @app.route("/upload", methods=["POST", "PUT"])
    async def upload(self, request: Request) -> bytes:
        """Store the body as :class:`UploadServer` does."""
        uploads = _there(self._uploads)
        with self._one_of_few():
            return await uploads.upload(request)

    @app.route("/upload/<name>", methods=["PUT"])
    async def upload_file(self, request: Request, name: str) -> bytes:
        """Store a file as :class:`UploadServer` does."""
        uploads = _there(self._uploads)
        with self._one_of_few():
            return await uploads.upload_file(request, name)

    @app.route("/upload/<name>", methods=["POST"], endpoint="renew")
    async def renew(self, request: Request, name: str) -> bytes:
        """Renew an object as :class:`UploadServer` does."""
        return await _there(self._uploads).renew(request, name)

    @app.route("/upload/<name>", methods=["DELETE"], endpoint="delete")
    async def delete(self, request: Request, name: str) -> bytes:
        """Delete an object as :class:`UploadServer` does."""
        return await _there(self._uploads).delete(request, name)

    @app.route("/form", methods=["POST"])
    async def form(self, request: Request) -> bytes:
        """Store the files of a form as :class:`UploadServer` does."""
        uploads = _there(self._uploads)
        with self._one_of_few():
            return await uploads.form(request)

    @app.route("/tus", methods=["OPTIONS", "POST"])
    async def begin(self, request: Request) -> None:
        """Begin a resumable upload as :class:`UploadServer` does."""
        uploads = _there(self._uploads)
        with self._one_of_few():
            await uploads.begin(request)

    @app.route("/tus/<token>", methods=["OPTIONS", "GET", "PATCH", "DELETE", "POST"])
    async def resume(self, request: Request, token: str) -> bytes | None:
        """Continue a resumable upload as :class:`UploadServer` does."""
        uploads = _there(self._uploads)
        with self._one_of_few():
            return await uploads.resume(request, token)

    @app.route("/fetch/<name>", methods=["GET"])
    async def fetch(self, request: Request, name: str) -> bytes | None:
        """Send an object as :class:`DownloadServer` does."""
        downloads = _there(self._downloads)
        with self._one_of_few():
            answer = downloads.fetch(request, name)
            return answer if isinstance(answer, bytes) else await answer

    @app.route("/openapi.json", methods=["GET"])
    @Operation("state", answers=[responses.DESCRIPTION])
    def description(self, request: Request) -> bytes:
        """Send the OpenAPI description of all three ports."""
        _there(self._uploads)
        request.setHeader(b"Content-Type", b"application/json")
        return openapi_json()

    @contextmanager
    def _one_of_few(self) -> Iterator[None]:
        if self._transfers == TRANSFERS:
            raise Unavailable(
                f"the admin port accepts at most {TRANSFERS} uploads and fetches at a time: retry "
                "later, or use the upload and download ports"
            )
        self._transfers += 1
        try:
            yield
        finally:
            self._transfers -= 1


@cache
def openapi_json() -> bytes:
    """Return the OpenAPI description of an API server, in JSON."""
    description = (
        "Stores objects, and serves them by their ids, which are the hashes of their content. It "
        "listens on three ports: for uploads, for fetches, and for operators (`--admin-port`). The "
        "last one has all routes."
    )
    tags = {
        "objects": "Store and fetch.",
        "uploads": "Upload by several requests with tus 1.0.0, if the server has an "
        "`--unfinished-dir`. Every answer has `Tus-Resumable` and `Tus-Version`, also an error "
        "once the path is known.",
        "state": "Watch the server.",
    }
    ports = [
        Port(UploadServer.app, 9991, "Uploads."),
        Port(DownloadServer.app, 9992, "Fetches."),
        Port(AdminServer.app, 9993, "The admin port."),
    ]
    return encode_json(document("SOS API server", description, tags, ports, TOKENS))


def transfers_alone(request_metrics: RequestMetrics, note: Note | None) -> Note:
    """Return a callback that counts and logs only the uploads and fetches at an admin port.

    :param request_metrics: the request metrics of the ports for uploads and fetches, and *note*
        their access log.
    """

    def count_transfer(request: Request, seconds: float) -> None:
        if request.route.startswith(UPLOADS + FETCHES):
            count(request_metrics, request, seconds)
            if note is not None:
                note(request, seconds)

    return count_transfer


def _there(face: _Face | None) -> _Face:
    if face is None:
        raise RouteNotFound
    return face
