"""The API server's two faces: upload on one port, fetch on another."""

from __future__ import annotations

from klein import Klein

from sos import ids
from sos.interfaces import BlobInfo, IBlobStore
from sos.metadata import EMPTY, Metadata
from sos.web.bodies import answer_blob, answer_stored, store_body
from sos.web.errors import answer_text
from sos.web.forms import is_form, store_files
from sos.wire.request import Request

# The end of the answer to a form that is kept as it stands.
_HINT = b',"hint":"this is a form, and was stored as it stands: POST /form stores the files in it"}'


def _answer(request: Request, info: BlobInfo) -> bytes:
    return answer_stored(request, info, b',"copies":%d' % info.copies)


class UploadServer:
    """Takes objects in, and tells the ids by which they can be fetched.

    :param max_size: most bytes of an object, None for any.
    """

    app = Klein()

    def __init__(self, store: IBlobStore, max_size: int | None = None) -> None:
        self._store = store
        self._max_size = max_size

    @app.route("/alive", methods=["GET"])
    def alive(self, request: Request) -> bytes:
        """Say that the server runs."""
        return answer_text(request, b"alive")

    @app.route("/upload", methods=["POST", "PUT"])
    async def upload(self, request: Request, said: Metadata = EMPTY) -> bytes:
        """Keep the body, whatever its Content-Type, with the X-* headers; tell the copies made.

        Those that servers set among themselves are not for clients to set.
        """
        info = await store_body(request, self._store, None, self._max_size, said=said)
        answer = _answer(request, info)
        return answer[:-1] + _HINT if is_form(request.headers) else answer

    @app.route("/upload/<name>", methods=["PUT"])
    async def upload_file(self, request: Request, name: str) -> bytes:
        """Keep the body as ``/upload`` does, as a file of this *name*."""
        return await self.upload(request, {"X-Orig-Filename": name})

    @app.route("/form", methods=["POST"])
    async def form(self, request: Request) -> bytes:
        """Keep the files in a form; tell of the only one as of an upload, of several in a list."""
        stored = await store_files(request, self._store, self._max_size)
        answers = [_answer(request, info) for info in stored]
        return answers[0] if len(answers) == 1 else b"[%s]" % b",".join(answers)


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
