"""The blob server's face: store bytes under a name, give them back, list the names."""

from __future__ import annotations

import attrs

from sos import ids
from sos.errors import InvalidRequest
from sos.interfaces import IBlobStore
from sos.web.bodies import answer_blob, store_body
from sos.web.errors import answer_json
from sos.web.routes import Routes
from sos.wire.request import Request

#: Most ids in one page of a listing.
MAX_PAGE = 10_000


class BlobServer:
    """Serves one store.

    :param max_size: most bytes of a blob, None for any.
    """

    app = Routes()

    def __init__(self, store: IBlobStore, max_size: int | None = None) -> None:
        self._store = store
        self._max_size = max_size

    @app.route("/alive", methods=["GET"])
    def alive(self, request: Request) -> bytes:
        """Say that the server runs."""
        request.setHeader(b"Content-Type", b"text/plain")
        request.setHeader(b"Content-Length", b"5")
        return b"alive"

    @app.route("/blob/<id>", methods=["POST", "PUT"])
    async def store(self, request: Request, id: str) -> bytes:
        """Keep the body under *id*, with the X-* headers."""
        info = await store_body(request, self._store, ids.check(id), self._max_size)
        return answer_json(request, {"id": info.id, "size": info.size, "status": "OK"})

    @app.route("/blob/<id>", methods=["GET"])
    async def read(self, request: Request, id: str) -> None:
        """Give the blob *id* back."""
        await answer_blob(request, self._store, ids.check(id))

    @app.route("/blobs", methods=["GET"])
    @app.route("/blob", methods=["GET"], endpoint="listing_as_blob")
    async def listing(self, request: Request) -> None:
        """List the ids: all of them, or ``limit`` from behind ``after``."""
        after = _argument(request, b"after")
        limit = _argument(request, b"limit")
        await self._send_listing(
            request,
            None if after is None else ids.check(after),
            None if limit is None else _page_size(limit),
        )

    async def _send_listing(self, request: Request, after: str | None, limit: int | None) -> None:
        # Page by page, so that memory does not grow with what is stored.
        page = await self._store.listing(after, limit or MAX_PAGE)
        request.setHeader(b"Content-Type", b"application/json")
        separator = b"["
        while page:
            # Ids are letters and digits, and need no escaping.
            request.write(separator + b'"' + '","'.join(page).encode("ascii") + b'"')
            separator = b","
            await request.drained()
            if limit is not None:
                break
            page = await self._store.listing(page[-1], MAX_PAGE)
        request.write(b"]" if separator == b"," else b"[]")

    @app.route("/status", methods=["GET"])
    async def status(self, request: Request) -> bytes:
        """Tell how the store is doing."""
        return answer_json(request, attrs.asdict(await self._store.status()))


def _argument(request: Request, name: bytes) -> str | None:
    values = request.args.get(name)
    if not values:
        return None
    if len(values) > 1:
        raise InvalidRequest(f"{name.decode('ascii')} is given {len(values)} times")
    return values[0].decode("latin-1")


def _page_size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_PAGE):
        raise InvalidRequest(f"limit={text[:20]!r} is not a number from 1 to {MAX_PAGE}")
    return int(text)
