"""OpenAPI 3.1 descriptions of the HTTP interface of each kind of server."""

from __future__ import annotations

from importlib.resources import files

from sos.http.server.request import Request

#: The API server: its ports for uploads and fetches, and its admin port.
API = files("sos.web.openapi").joinpath("api.json").read_bytes()
#: The blob server.
BLOB = files("sos.web.openapi").joinpath("blob.json").read_bytes()


def answer(request: Request, description: bytes) -> bytes:
    """Return *description* as the body of an answer, and set the ``Content-Type``."""
    request.setHeader(b"Content-Type", b"application/json")
    return description
