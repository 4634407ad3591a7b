"""The HTTP interface of the API server: upload on one port, fetch on another."""

from __future__ import annotations

import time

from sos.errors import NotFound
from sos.http.server.request import Request
from sos.interfaces import BlobInfo, IBlobStore
from sos.model import ids
from sos.model.metadata import stamped, to_client
from sos.web.client_headers import KeptHeaders, with_defaults
from sos.web.errors import answer_text, encode_json
from sos.web.filenames import NAME
from sos.web.forms import is_form, store_files
from sos.web.responses import answer_blob, answer_stored, store_body
from sos.web.resumable import TusServer
from sos.web.stock_site import App

# The end of the answer to ``POST /upload`` of a form, which is stored unparsed.
_HINT = b',"hint":"the body is a form, and was stored as it is: POST /form stores the files in it"}'


def _answer(request: Request, info: BlobInfo, ignored: tuple[str, ...]) -> bytes:
    more = b',"copies":%d' % info.copies
    if ignored:
        more += b',"ignored":' + encode_json(ignored)
    return answer_stored(request, info, more)


class UploadServer:
    """HTTP server that stores objects and answers with their ids.

    :param max_size: most bytes of an object, None for no limit.
    :param kept_headers: selects the X-* headers that are stored; by default those that are
        not foreign.
    :param resumable: handles resumable uploads; None to answer them 404.
    """

    app = App()

    def __init__(
        self,
        store: IBlobStore,
        max_size: int | None = None,
        kept_headers: KeptHeaders | None = None,
        resumable: TusServer | None = None,
    ) -> None:
        self._store = store
        self._max_size = max_size
        self._kept_headers = kept_headers or KeptHeaders()
        self._resumable = resumable

    @app.route("/alive", methods=["GET"])
    def alive(self, request: Request) -> bytes:
        """Say that the server runs."""
        return answer_text(request, b"alive")

    @app.route("/upload", methods=["POST", "PUT"])
    async def upload(self, request: Request, name: str | None = None) -> bytes:
        """Store the body unchanged, with its type, coding and X-* headers.

        The answer has the number of copies, and names the X-* headers that were not stored.
        """
        said = self._kept_headers.read(request.received_headers)
        found = said.metadata if name is None else with_defaults(said.metadata, {NAME: name})
        metadata = stamped(found, time.time())
        info = await store_body(request, self._store, None, self._max_size, metadata)
        answer = _answer(request, info, said.ignored)
        return answer[:-1] + _HINT if is_form(request.headers) else answer

    @app.route("/upload/<name>", methods=["PUT"])
    async def upload_file(self, request: Request, name: str) -> bytes:
        """Store the body as ``/upload`` does, with *name* as its file name by default."""
        return await self.upload(request, name)

    @app.route("/form", methods=["POST"])
    async def form(self, request: Request) -> bytes:
        """Store the files in a form; answer one as ``/upload`` does, several with a list."""
        said = self._kept_headers.read(request.received_headers, of_body=False)
        stored = await store_files(request, self._store, self._max_size, said.metadata)
        answers = [_answer(request, info, said.ignored) for info in stored]
        return answers[0] if len(answers) == 1 else b"[%s]" % b",".join(answers)

    @app.route("/tus", methods=["OPTIONS", "POST"])
    async def begin(self, request: Request) -> None:
        """Begin a resumable upload, or describe the supported parts of tus."""
        await self._resumed().begin(request)

    @app.route("/tus/<token>", methods=["OPTIONS", "GET", "PATCH", "DELETE", "POST"])
    async def resume(self, request: Request, token: str) -> bytes | None:
        """Continue a resumable upload."""
        return await self._resumed().resume(request, token)

    def _resumed(self) -> TusServer:
        if self._resumable is None:
            raise NotFound(
                "resumable uploads are disabled on this server (sos-api --unfinished-dir)"
            )
        return self._resumable


class DownloadServer:
    """HTTP server that sends objects."""

    app = App()

    def __init__(self, store: IBlobStore) -> None:
        self._store = store

    @app.route("/alive", methods=["GET"])
    def alive(self, request: Request) -> bytes:
        """Say that the server runs."""
        return answer_text(request, b"alive")

    @app.route("/fetch/<name>", methods=["GET"])
    async def fetch(self, request: Request, name: str) -> bytes | None:
        """Send the object *name*: an id, optionally followed by a file extension."""
        id, _, _ = name.partition(".")
        return await answer_blob(request, self._store, ids.check(id), to_client)
