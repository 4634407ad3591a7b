"""The face beside those that serve: how it is doing, for those who look after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from werkzeug.exceptions import NotFound as RouteNotFound

from sos.errors import Unavailable
from sos.http.server.request import Request
from sos.http.server.site import Note, count
from sos.interfaces import IBlobStore
from sos.monitoring.prometheus import CONTENT_TYPE
from sos.monitoring.request_metrics import Tally
from sos.web import openapi
from sos.web.dashboard import PAGE, PAGE_HEADERS
from sos.web.errors import answer_json, answer_text
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.stock_site import App

#: Uploads and fetches at once; more are for the ports that are there for them.
TRANSFERS = 4

_Face = TypeVar("_Face", UploadServer, DownloadServer)

# It is told anew each time, and is what it says it is.
_FRESH = b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"


class AdminServer:
    """Tells people and monitors how a daemon is doing.

    Its page can upload and fetch, which it does here: to a browser the other
    faces, on their ports, are other sites, and need not let any site in.

    :param store: what it serves.
    :param status: returns what ``/status`` tells, as JSON can hold it.
    :param metrics: returns what ``/metrics`` tells, in Prometheus' text format.
    :param uploads: where its page uploads, and *downloads* where it fetches; without
        these there is no page.
    :param obstacle: tells what else than the store keeps uploads from being taken, if
        anything does.
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
    def page(self, request: Request) -> bytes:
        """Show it to a person: a page that asks for ``/status`` every now and then."""
        _there(self._uploads)
        request.setHeader(b"Content-Type", b"text/html; charset=utf-8")
        request.setFixedHeaders(PAGE_HEADERS)
        return PAGE

    @app.route("/status", methods=["GET"])
    async def status(self, request: Request) -> bytes:
        """Tell how the server is doing, and the servers behind it."""
        request.setFixedHeaders(_FRESH)
        return answer_json(request, await self._status())

    @app.route("/metrics", methods=["GET"])
    async def metrics(self, request: Request) -> bytes:
        """Tell it to Prometheus."""
        text = await self._metrics()
        request.setHeader(b"Content-Type", CONTENT_TYPE)
        return text

    @app.route("/alive", methods=["GET"])
    @app.route("/healthz", methods=["GET"], endpoint="healthz")
    def alive(self, request: Request) -> bytes:
        """Say that the server runs."""
        return answer_text(request, b"alive")

    @app.route("/readyz", methods=["GET"])
    async def ready(self, request: Request) -> bytes:
        """Say that an upload would be taken now; else the answer is 503, and why."""
        reason = (await self._store.status()).refusal
        if reason is None:
            reason = self._obstacle()
        if reason is not None:
            raise Unavailable(reason)
        return answer_text(request, b"ready")

    @app.route("/upload", methods=["POST", "PUT"])
    async def upload(self, request: Request) -> bytes:
        """Take an upload as :class:`UploadServer` does."""
        uploads = _there(self._uploads)
        with self._one_of_few():
            return await uploads.upload(request)

    @app.route("/upload/<name>", methods=["PUT"])
    async def upload_file(self, request: Request, name: str) -> bytes:
        """Take a file as :class:`UploadServer` does."""
        uploads = _there(self._uploads)
        with self._one_of_few():
            return await uploads.upload_file(request, name)

    @app.route("/form", methods=["POST"])
    async def form(self, request: Request) -> bytes:
        """Take a form as :class:`UploadServer` does."""
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
        """Go on with a resumable upload as :class:`UploadServer` does."""
        uploads = _there(self._uploads)
        with self._one_of_few():
            return await uploads.resume(request, token)

    @app.route("/fetch/<name>", methods=["GET"])
    async def fetch(self, request: Request, name: str) -> bytes | None:
        """Send an object as :class:`DownloadServer` does."""
        downloads = _there(self._downloads)
        with self._one_of_few():
            return await downloads.fetch(request, name)

    @app.route("/openapi.json", methods=["GET"])
    def description(self, request: Request) -> bytes:
        """Describe the interface of all three faces to programs."""
        _there(self._uploads)
        return openapi.answer(request, openapi.API)

    @contextmanager
    def _one_of_few(self) -> Iterator[None]:
        if self._transfers == TRANSFERS:
            raise Unavailable(f"{TRANSFERS} uploads and fetches at once are all, on this port")
        self._transfers += 1
        try:
            yield
        finally:
            self._transfers -= 1


def transfers_alone(tally: Tally, note: Note | None) -> Note:
    """Return what counts and logs the uploads and fetches at an admin port, and nothing else.

    :param tally: where those at the ports for them are counted, and *note* where they
        are logged.
    """

    def tell(request: Request, seconds: float) -> None:
        if request.route.startswith(("/upload", "/form", "/tus", "/fetch")):
            count(tally, request, seconds)
            if note is not None:
                note(request, seconds)

    return tell


def _there(face: _Face | None) -> _Face:
    if face is None:
        raise RouteNotFound
    return face
