"""The API server's two faces: upload on one port, fetch on another."""

from __future__ import annotations

import time

from klein import Klein

from sos import ids
from sos.interfaces import IBlobStore
from sos.metadata import stamped, to_client
from sos.web.bodies import answer_blob, answer_stored, store_body
from sos.web.client_headers import KeptHeaders
from sos.web.errors import answer_text, encode_json
from sos.wire.request import Request


class UploadServer:
    """Takes objects in, and tells the ids by which they can be fetched.

    :param max_size: most bytes of an object, None for any.
    :param kept_headers: which X-* headers are kept; by default those that are not foreign.
    """

    app = Klein()

    def __init__(
        self,
        store: IBlobStore,
        max_size: int | None = None,
        kept_headers: KeptHeaders | None = None,
    ) -> None:
        self._store = store
        self._max_size = max_size
        self._kept_headers = kept_headers or KeptHeaders()

    @app.route("/alive", methods=["GET"])
    def alive(self, request: Request) -> bytes:
        """Say that the server runs."""
        return answer_text(request, b"alive")

    @app.route("/upload", methods=["POST"])
    async def upload(self, request: Request) -> bytes:
        """Keep the body as it stands, with its type, coding and X-* headers; tell the copies made.

        X-* headers that were not meant for that are not kept, and named in the answer.
        """
        said = self._kept_headers.read(request.received_headers)
        metadata = stamped(said.metadata, time.time())
        info = await store_body(request, self._store, None, self._max_size, metadata)
        more = b',"copies":%d' % info.copies
        if said.ignored:
            more += b',"ignored":' + encode_json(said.ignored)
        return answer_stored(request, info, more)


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
        return await answer_blob(request, self._store, ids.check(id), to_client)
