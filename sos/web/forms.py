"""Files in forms, as browsers and ``curl -F`` send them (RFC 7578)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)
from werkzeug.http import parse_options_header as parse_extended

from sos.errors import InvalidRequest, TooLarge, UnsupportedCoding
from sos.http.server.request import Request
from sos.interfaces import BlobInfo, IBlobStore, IBlobWriter, Pieces
from sos.model.metadata import Metadata, stamped
from sos.web.client_headers import with_defaults
from sos.web.responses import is_media_type, received_body

#: Most parts of a form, files and fields together.
MOST_PARTS = 1000

_FORM = b"multipart/form-data"
# RFC 2046, 5.1.1.
_LONGEST_BOUNDARY = 70
# The type of a part whose sender does not know it.
_NO_TYPE = "application/octet-stream"
_ENCODINGS = frozenset({"7bit", "8bit", "binary"})


def is_form(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether *headers* declare the body of a request as a form."""
    type = headers.get(b"content-type")
    return type is not None and type[: len(_FORM)].lower() == _FORM


async def store_files(
    request: Request,
    store: IBlobStore,
    max_size: int | None,
    metadata: Metadata,
    now: Callable[[], float],
) -> list[BlobInfo]:
    """Store the files of the form in *request*, and return their descriptions, in order.

    A part is a file if it has a filename.  If no file was chosen, browsers send a part with an
    empty filename and no content, which is skipped.  Fields are skipped, too.

    A file is committed when the next file begins, the last one at the end of the form.  So if
    the form breaks off, only complete files can have been stored.

    :param max_size: most bytes of each file, None for no limit.
    :param metadata: of each file; it overrides the name and type that a part declares.
    :param now: returns the time of an upload, in seconds since the epoch.
    :raises UnsupportedCoding: if the form is encoded.
    :raises InvalidRequest: if the body is not a form, is broken, or has no file.
    """
    if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedCoding("the form has a Content-Encoding: send it without one")
    stored: list[BlobInfo] = []
    writer: IBlobWriter | None = None
    file: MultipartSegment | None = None
    async with aclosing(_events(received_body(request), _boundary(request.headers))) as events:
        try:
            async for event in events:
                if isinstance(event, MultipartSegment):
                    file = event if _is_file(event) else None
                    begun = False
                    continue
                if file is None or not (begun or event or file.filename):
                    continue
                if not begun:
                    begun = True
                    if writer is not None:
                        stored.append(await writer.commit())
                    writer = store.writer(None, stamped(_metadata(file, metadata), now()))
                assert writer is not None
                if event:
                    if max_size is not None and file.bytes_received > max_size:
                        raise TooLarge(f"a file exceeds the limit of {max_size} bytes")
                    await writer.write(event)
            if writer is None:
                raise InvalidRequest("the form has no file, that is, no part with a filename")
            stored.append(await writer.commit())
        except BaseException:
            if writer is not None:
                writer.abort()
            raise
    return stored


def _boundary(headers: Mapping[bytes, bytes]) -> str:
    type, options = parse_options_header(headers.get(b"content-type", b"").decode("latin-1"))
    if type.encode("latin-1") != _FORM:
        raise InvalidRequest(
            "the body is not a form: POST /form needs multipart/form-data; send other bodies to "
            "POST /upload"
        )
    boundary: str = options.get("boundary", "")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise InvalidRequest(f"the form's boundary must have 1 to {_LONGEST_BOUNDARY} characters")
    return boundary


async def _events(
    body: Pieces, boundary: str
) -> AsyncGenerator[MultipartSegment | bytes | None, None]:
    """Yield the content of a form: for each part its head, its pieces, and None at its end."""
    async with aclosing(body):
        try:
            # A name can be in any charset: see _text().
            parser = PushMultipartParser(
                boundary, max_segment_count=MOST_PARTS, header_charset="latin-1"
            )
            async for piece in body:
                for event in parser.parse(piece):
                    yield event
            parser.close()
        except MultipartError as error:
            raise InvalidRequest(f"the form is malformed: {error}") from None


def _is_file(part: MultipartSegment) -> bool:
    """Return whether *part* is a file; decode its filename, which can be empty."""
    encoding = part.header("Content-Transfer-Encoding", "binary").strip()
    if encoding.lower() not in _ENCODINGS:
        raise InvalidRequest(
            f"a part has the Content-Transfer-Encoding {encoding[:40]!a}: send it without one"
        )
    disposition = part.header("Content-Disposition")
    if "filename*" in disposition.lower():  # some clients send it (RFC 8187)
        part.filename = parse_extended(disposition)[1].get("filename")
    elif part.filename is not None:
        part.filename = _text(part.filename)
    return part.filename is not None


def _text(raw: str) -> str:
    """Decode text that was read as Latin-1 as UTF-8, if it is UTF-8."""
    try:
        return raw.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _metadata(file: MultipartSegment, metadata: Metadata) -> Metadata:
    defaults: dict[str, str] = {}
    if file.filename:
        defaults["X-Orig-Filename"] = file.filename
    type = file.header("Content-Type", "").strip()
    if file.content_type != _NO_TYPE and is_media_type(type.encode("latin-1")):
        defaults["X-Mime-Type"] = _text(type)
    return with_defaults(metadata, defaults)
