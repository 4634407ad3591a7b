"""Requests of tus 1.0.0, for resumable uploads: see :mod:`sos.web.tus_headers`."""

from __future__ import annotations

from twisted.web.http import datetimeToString
from werkzeug.exceptions import MethodNotAllowed

from sos.http.server.request import Request
from sos.interfaces import Upload
from sos.model.metadata import Metadata
from sos.resumable import ResumableUploads
from sos.web import tus_headers
from sos.web.client_headers import KeptHeaders
from sos.web.errors import answer_json
from sos.web.tus_headers import Checksum

#: Response header with the id of the object, once the upload is complete.
ID = b"X-Sos-Id"


class TusServer:
    """Handler of tus requests for *uploads*.

    :param kept_headers: selects the X-* headers that are stored.
    """

    def __init__(self, uploads: ResumableUploads, kept_headers: KeptHeaders) -> None:
        self._uploads = uploads
        self._kept_headers = kept_headers

    async def begin(self, request: Request, expiry: Metadata) -> None:
        """Create an upload, with its first bytes if the request has a body.

        :param expiry: when the object expires, as metadata; empty for never.
        """
        tus_headers.identify(request)
        if request.method == b"OPTIONS":
            self._describe_server(request)
            return
        headers = request.headers
        tus_headers.check_version(headers)
        length = tus_headers.size(headers, b"upload-length")
        upload_metadata = headers.get(b"upload-metadata", b"")
        metadata = {**self._metadata(request, upload_metadata), **expiry}
        upload = Upload(length, metadata, upload_metadata.decode("ascii"))
        checksum = None
        if request.body.length != 0:
            tus_headers.check_type(headers)
            checksum = _checksum(request)
        token, upload = await self._uploads.create(upload, request.body, checksum)
        request.setResponseCode(201)
        # Relative to the request's path, so that a proxy can serve this under another path.
        request.setHeader(b"Location", b"tus/" + token.encode("ascii"))
        self._describe(request, upload)

    async def resume(self, request: Request, token: str) -> bytes | None:
        """Describe the upload *token*, append to it, or remove it."""
        tus_headers.identify(request)
        headers = request.headers
        method = request.method
        if method == b"OPTIONS":
            self._describe_server(request)
            return None
        if method == b"POST":  # from a client whose network blocks PATCH and DELETE
            method = headers.get(b"x-http-method-override", b"")
            if method not in (b"PATCH", b"DELETE"):
                raise MethodNotAllowed(["GET", "HEAD", "OPTIONS", "PATCH", "DELETE"])
        if method != b"GET":
            tus_headers.check_version(headers)
        if method == b"DELETE":
            await self._uploads.remove(token, request.body)
            request.setResponseCode(204)
            return None
        if method == b"PATCH":
            tus_headers.check_type(headers)
            offset, checksum = tus_headers.size(headers, b"upload-offset"), _checksum(request)
            upload = await self._uploads.append(token, offset, request.body, checksum)
            request.setResponseCode(204)
            self._describe(request, upload)
            return None
        upload = await self._uploads.look(token, request.body)
        self._describe(request, upload)
        request.setHeader(b"Upload-Length", b"%d" % upload.length)
        if upload.told:
            request.setHeader(b"Upload-Metadata", upload.told.encode("ascii"))
        state = {"offset": upload.acknowledged, "length": upload.length, "id": upload.id}
        return answer_json(request, state)

    def _metadata(self, request: Request, upload_metadata: bytes) -> dict[str, str]:
        """Return the object's metadata: X-* headers, overridden by ``Upload-Metadata``."""
        headers = tus_headers.metadata_headers(upload_metadata)
        names = {name.lower() for name, _ in headers}
        others = [each for each in request.received_headers if each[0].lower() not in names]
        return self._kept_headers.read([*others, *headers], of_body=False).metadata

    def _describe_server(self, request: Request) -> None:
        request.setResponseCode(204)
        request.setHeader(b"Tus-Extension", tus_headers.EXTENSIONS)
        request.setHeader(b"Tus-Max-Size", b"%d" % self._uploads.max_size)
        request.setHeader(b"Tus-Checksum-Algorithm", tus_headers.ALGORITHMS)

    def _describe(self, request: Request, upload: Upload) -> None:
        request.setHeader(b"Upload-Offset", b"%d" % upload.acknowledged)
        if upload.id is not None:
            request.blob = upload.id
            request.setHeader(ID, upload.id.encode("ascii"))
        elif request.method != b"GET" and request.method != b"HEAD":
            expires = datetimeToString(int(self._uploads.expires_at))
            request.setHeader(b"Upload-Expires", expires)


def _checksum(request: Request) -> Checksum | None:
    value = request.headers.get(b"upload-checksum")
    return None if value is None else Checksum(value)
