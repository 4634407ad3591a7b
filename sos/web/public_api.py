"""The HTTP interface of the API server: upload on one port, fetch on another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from twisted.logger import Logger
from twisted.web.http import datetimeToString

from sos.errors import Deleted, Forbidden, InvalidRequest, NotFound, Unavailable
from sos.http.server.access_log_lines import peer
from sos.http.server.request import Request
from sos.interfaces import BlobInfo, IBlobStore
from sos.model import ids
from sos.model.expiry import has_expired, parse
from sos.model.merge import times
from sos.model.metadata import (
    DELETED_AT,
    EMPTY,
    EXPIRES_AT,
    TICKS,
    Metadata,
    stamped,
    to_client,
)
from sos.model.upload_clock import UploadClock
from sos.web.client_headers import KeptHeaders, with_defaults
from sos.web.errors import answer_json, answer_text, encode_json
from sos.web.filenames import NAME
from sos.web.forms import is_form, store_files
from sos.web.openapi import Operation, parameters, responses
from sos.web.query import argument
from sos.web.responses import YEAR, Answer, answer_blob, answer_stored, store_body
from sos.web.stock_site import App
from sos.web.tus_server import TusServer

# The end of the answer to ``POST /upload`` of a form, which is stored unparsed.
_HINT = b',"hint":"the body is a form, and was stored as it is: POST /form stores the files in it"}'

_SUPPORT = "List the parts of tus that the server supports."


def _answer(request: Request, info: BlobInfo, ignored: tuple[str, ...], expiry: Metadata) -> bytes:
    more = b',"copies":%d' % info.copies
    if EXPIRES_AT in expiry:
        more += b',"expires_at":' + encode_json(_seconds(expiry))
    if ignored:
        more += b',"ignored":' + encode_json(ignored)
    return answer_stored(request, info, more)


_log = Logger()


class Keeper(Protocol):
    """Renews and deletes objects, see :mod:`sos.stores.replicated.deletion`."""

    async def renew(self, id: str, expires: int | None = None) -> int:
        """Record that an object is stored now; return the number of its copies that do.

        :param expires: when it expires, in ticks; None for never.
        """
        ...

    async def delete(self, id: str) -> int:
        """Delete an object; return the number of servers that have recorded it."""
        ...


class UploadServer:
    """HTTP server that stores objects and answers with their ids.

    :param max_size: most bytes of an object, None for no limit.
    :param kept_headers: selects the X-* headers that are stored; by default those that are
        not foreign.
    :param resumable: handles resumable uploads; None to answer them 404.
    :param keeper: renews and deletes objects.
    :param may_delete: whether clients may delete.
    :param clock: dates the uploads; a store of chunks has its own.
    """

    app = App()

    def __init__(
        self,
        store: IBlobStore,
        max_size: int | None = None,
        kept_headers: KeptHeaders | None = None,
        resumable: TusServer | None = None,
        keeper: Keeper | None = None,
        may_delete: bool = False,
        clock: UploadClock | None = None,
    ) -> None:
        self._store = store
        self._max_size = max_size
        self._kept_headers = kept_headers or KeptHeaders()
        self._resumable = resumable
        self._keeper = keeper
        self._may_delete = may_delete
        self._clock = clock or UploadClock()

    @app.route("/alive", methods=["GET"])
    @Operation("state", answers=[responses.ALIVE])
    def alive(self, request: Request) -> bytes:
        """Confirm that the server runs, without credentials."""
        return answer_text(request, b"alive")

    @app.route("/upload", methods=["POST", "PUT"])
    @Operation(
        "objects",
        takes=(*parameters.OBJECT_HEADERS, parameters.EXPIRES),
        body=parameters.BYTES,
        answers=responses.STORED_OBJECT,
    )
    async def upload(self, request: Request, name: str | None = None) -> bytes:
        """Store the body unchanged, with its type, coding and X-* headers.

        The answer has the number of copies, and names the X-* headers that were not stored.
        An object that is stored several times has the latest end of all, and none if it was once
        stored without `expires`.
        """
        read = self._kept_headers.read(request.received_headers)
        found = read.metadata if name is None else with_defaults(read.metadata, {NAME: name})
        expiry = self._expiry(request)
        metadata = stamped({**found, **expiry}, self._clock())
        with self._in_time():
            info = await store_body(request, self._store, None, self._max_size, metadata)
        answer = _answer(request, info, read.ignored, expiry)
        return answer[:-1] + _HINT if is_form(request.headers) else answer

    @app.route("/upload/<name>", methods=["PUT"])
    @Operation(
        "objects",
        takes=(parameters.FILE_NAME, *parameters.OBJECT_HEADERS, parameters.EXPIRES),
        body=parameters.BYTES,
        answers=responses.STORED_OBJECT,
    )
    async def upload_file(self, request: Request, name: str) -> bytes:
        """Store a file under its name, as ``curl -T`` sends it.

        The name becomes its ``X-Orig-Filename``, unless the request has that header.
        """
        return await self.upload(request, name)

    @app.route("/upload/<name>", methods=["POST"], endpoint="renew")
    @Operation(
        "objects",
        takes=(parameters.OBJECT, parameters.EXPIRES),
        answers=responses.RENEWED_OBJECT,
    )
    async def renew(self, request: Request, name: str) -> bytes:
        """Store an object again that is stored already, without sending it.

        So a deletion before this does not delete it.  The request has no body.  If the server
        answers 404 or 410, upload the object.
        """
        if request.body.length != 0:
            raise InvalidRequest(
                "the body of this request must be empty: to upload a file, use PUT, or POST /upload"
            )
        id = request.blob = ids.check(name)
        expiry = self._expiry(request)
        info = await self._store.stat(id)
        _of_object(info.metadata)
        if self._keeper is None:
            raise NotFound(f"this server cannot renew {id}: upload it")
        copies = await self._keeper.renew(id, int(expiry[EXPIRES_AT]) if expiry else None)
        end = {"expires_at": _seconds(expiry)} if expiry else {}
        return answer_json(
            request, {"id": id, "size": info.size, "status": "OK", "copies": copies, **end}
        )

    @app.route("/upload/<name>", methods=["DELETE"], endpoint="delete")
    @Operation("objects", takes=[parameters.OBJECT], answers=responses.DELETED)
    async def delete(self, request: Request, name: str) -> bytes:
        """Delete an object on all servers.

        The answer comes when the write quorum has recorded it, and has the number of servers that
        have.  The others hear of it by replication.  Clients that have it cached may keep it.
        """
        if self._keeper is None or not self._may_delete:
            raise Forbidden("this server does not delete objects (sos-api --allow-delete)")
        id = request.blob = ids.check(name)
        count = await self._keeper.delete(id)
        _log.info(
            "deleted an object, id={id}, token={token}, peer={peer}, servers={count}",
            id=id,
            token=request.user,
            peer=peer(request),
            count=count,
        )
        return answer_json(request, {"id": id, "status": "OK", "deleted": count})

    @app.route("/form", methods=["POST"])
    @Operation(
        "objects",
        takes=(*parameters.FORM_HEADERS, parameters.EXPIRES),
        body=parameters.FORM,
        answers=responses.STORED_FORM,
    )
    async def form(self, request: Request) -> bytes:
        """Store the files in a form; answer one as ``/upload`` does, several with a list.

        The parts with a filename are files; other fields are ignored.  Their names and types
        become ``X-Orig-Filename`` and ``X-Mime-Type``, unless the request has these headers.  The
        answer comes after the last file is stored.  If the form breaks off, or is rejected, files
        before the last one may be stored.
        """
        read = self._kept_headers.read(request.received_headers, of_body=False)
        expiry = self._expiry(request)
        metadata = {**read.metadata, **expiry}
        with self._in_time():
            stored = await store_files(request, self._store, self._max_size, metadata, self._clock)
        answers = [_answer(request, info, read.ignored, expiry) for info in stored]
        return answers[0] if len(answers) == 1 else b"[%s]" % b",".join(answers)

    @app.route("/tus", methods=["OPTIONS", "POST"])
    @Operation(
        "uploads",
        "POST",
        summary="Create a resumable upload, by tus 1.0.0 (https://tus.io).",
        takes=(*parameters.NEW_UPLOAD, parameters.EXPIRES),
        body=parameters.PART,
        answers=(responses.BEGUN, *responses.BEGIN_ERRORS),
    )
    @Operation("uploads", "OPTIONS", summary=_SUPPORT, answers=responses.TUS)
    async def begin(self, request: Request) -> None:
        """Begin a resumable upload, or describe the supported parts of tus."""
        with self._in_time():
            await self._resumed().begin(request, self._expiry(request))

    @app.route("/tus/<token>", methods=["OPTIONS", "GET", "PATCH", "DELETE", "POST"])
    @Operation(
        "uploads",
        "PATCH",
        summary="Append a part to an upload.",
        takes=parameters.APPENDING,
        body=parameters.PART,
        answers=(responses.APPENDED, *responses.APPEND_ERRORS),
    )
    @Operation(
        "uploads",
        "HEAD",
        summary="Return where an upload continues. This ends a request that is appending to it.",
        takes=(parameters.UPLOAD, parameters.TUS_RESUMABLE),
        answers=(responses.UPLOAD, *responses.CHANGE_ERRORS),
    )
    @Operation(
        "uploads",
        "GET",
        summary="Show the progress of an upload.",
        takes=[parameters.UPLOAD],
        answers=(responses.UPLOAD, responses.NO_UPLOAD, responses.BUSY),
    )
    @Operation(
        "uploads",
        "DELETE",
        summary="Remove an upload. An object that is stored already stays.",
        takes=(parameters.UPLOAD, parameters.TUS_RESUMABLE),
        answers=(responses.REMOVED, *responses.CHANGE_ERRORS),
    )
    @Operation(
        "uploads",
        "POST",
        summary="Do what `X-HTTP-Method-Override` says, for networks that block PATCH and DELETE.",
        takes=parameters.OVERRIDING,
        body=parameters.PART,
        answers=(responses.OVERRIDDEN, responses.OTHER_METHOD, *responses.APPEND_ERRORS),
    )
    @Operation(
        "uploads", "OPTIONS", summary=_SUPPORT, takes=[parameters.UPLOAD], answers=responses.TUS
    )
    async def resume(self, request: Request, token: str) -> bytes | None:
        """Continue a resumable upload."""
        with self._in_time():
            return await self._resumed().resume(request, token)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Turn Deleted into Unavailable: a deletion is dated after the upload, so try again."""
        try:
            yield
        except Deleted as error:
            self._clock.see(error.metadata)
            raise Unavailable(f"{error} meanwhile; try again") from error

    def _expiry(self, request: Request) -> Metadata:
        """Return when the query says that the object expires, as metadata."""
        text = argument(request, b"expires")
        if text is None:
            return EMPTY
        try:
            return {EXPIRES_AT: str(parse(text, self._clock.time_of_day()))}
        except ValueError as error:
            raise InvalidRequest(f"expires: {error}") from None

    def _resumed(self) -> TusServer:
        if self._resumable is None:
            raise NotFound(
                "resumable uploads are disabled on this server (sos-api --unfinished-dir)"
            )
        return self._resumable


class DownloadServer:
    """HTTP server that sends objects.

    :param max_age: seconds for which caches may keep one without asking again.
    """

    app = App()

    def __init__(self, store: IBlobStore, max_age: int = YEAR) -> None:
        self._store = store
        self._max_age = max_age

    @app.route("/alive", methods=["GET"])
    @Operation("state", answers=[responses.ALIVE])
    def alive(self, request: Request) -> bytes:
        """Confirm that the server runs, without credentials."""
        return answer_text(request, b"alive")

    @app.route("/fetch/<name>", methods=["GET"])
    @Operation(
        "objects",
        "GET HEAD",
        takes=(parameters.NAME, *parameters.RANGES, *parameters.CONDITIONS),
        answers=responses.READ_OBJECT,
    )
    def fetch(self, request: Request, name: str) -> Answer:
        """Send an object, or a range of it."""
        id, _, _ = name.partition(".")
        return answer_blob(request, self._store, ids.check(id), _of_object, self._max_age)


def _of_object(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Return the headers for a client.

    Raises Deleted for a chunk whose own object was deleted, and for an object that has expired.
    """
    if DELETED_AT in metadata and not times(metadata).is_object:
        raise Deleted("the object was deleted", EMPTY)
    if EXPIRES_AT not in metadata:
        return to_client(metadata)
    if has_expired(metadata, time.time()):
        raise Deleted("the object has expired", EMPTY)
    return [*to_client(metadata), (b"Sunset", datetimeToString(int(_seconds(metadata))))]


def _seconds(expiry: Metadata) -> float:
    """Return when an object expires, in seconds since the epoch."""
    return int(expiry[EXPIRES_AT]) / TICKS
