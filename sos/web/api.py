"""The API server's two faces: upload on one port, fetch on another."""

from __future__ import annotations

from klein import Klein

from sos import ids
from sos.errors import NotFound
from sos.interfaces import IBlobStore
from sos.web.bodies import answer_blob, answer_stored, store_body
from sos.web.errors import answer_text
from sos.web.resumable import TusServer
from sos.wire.request import Request


class UploadServer:
    """Takes objects in, and tells the ids by which they can be fetched.

    :param max_size: most bytes of an object, None for any.
    :param resumable: takes those that come in several requests, None where none are taken.
    """

    app = Klein()

    def __init__(
        self,
        store: IBlobStore,
        max_size: int | None = None,
        resumable: TusServer | None = None,
    ) -> None:
        self._store = store
        self._max_size = max_size
        self._resumable = resumable

    @app.route("/alive", methods=["GET"])
    def alive(self, request: Request) -> bytes:
        """Say that the server runs."""
        return answer_text(request, b"alive")

    @app.route("/upload", methods=["POST"])
    async def upload(self, request: Request) -> bytes:
        """Keep the body, whatever its Content-Type, with the X-* headers; tell the copies made.

        Those that servers set among themselves are not for clients to set.
        """
        info = await store_body(request, self._store, None, self._max_size)
        return answer_stored(request, info, b',"copies":%d' % info.copies)

    @app.route("/tus", methods=["OPTIONS", "POST"])
    async def begin(self, request: Request) -> None:
        """Begin a resumable upload, or tell what of tus is spoken."""
        await self._resumed().begin(request)

    @app.route("/tus/<token>", methods=["OPTIONS", "GET", "PATCH", "DELETE", "POST"])
    async def resume(self, request: Request, token: str) -> bytes | None:
        """Go on with a resumable upload."""
        return await self._resumed().resume(request, token)

    def _resumed(self) -> TusServer:
        if self._resumable is None:
            raise NotFound("resumable uploads are not taken here: sos-api --unfinished-dir")
        return self._resumable


class DownloadServer:
    """Gives objects back."""

    app = Klein()

    def __init__(self, store: IBlobStore) -> None:
        self._store = store

    @app.route("/alive", methods=["GET"])
    def alive(self, request: Request) -> bytes:
        """Say that the server runs."""
        return answer_text(request, b"alive")

    @app.route("/fetch/<name>", methods=["GET"])
    async def fetch(self, request: Request, name: str) -> bytes | None:
        """Send the object *name*: an id, and any file extension behind it."""
        id, _, _ = name.partition(".")
        return await answer_blob(request, self._store, ids.check(id))
