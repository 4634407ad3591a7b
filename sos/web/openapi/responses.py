"""The responses."""

from __future__ import annotations

from collections.abc import Mapping

from sos.model.batch import MEDIA_TYPE
from sos.model.content_coding import KNOWN
from sos.web import tus_headers
from sos.web.openapi import schemas
from sos.web.openapi.parts import (
    Part,
    Response,
    array,
    count,
    response,
    sent,
    sometimes,
    string,
)
from sos.web.openapi.schemas import TYPES

_TEXT = "text/plain"


def error(
    status: int, name: str, description: str, headers: Mapping[str, Part] | None = None
) -> Response:
    """Return a response with an error; *name* is its name among the components."""
    return response(status, description, TYPES["Error"], headers, name=name)


# Errors that mostly follow from the rest of an operation.
MALFORMED = error(400, "Malformed", "The path, the query, a header or the framing is malformed.")
CHANGED = error(
    400, "Changed", "The request is malformed, or its body does not match a digest in the headers."
)
_SCHEME = "The scheme of the credentials."
NO_TOKEN = error(
    401,
    "NoToken",
    "The server requires a token (`--token-file`, `--private-reads`), or for a fetch a token or a "
    "signed URL, and the request has none, or one that is wrong or has expired.",
    {"WWW-Authenticate": sent(string(pattern="^Bearer"), _SCHEME)},
)
NOT_SIGNED = error(
    401,
    "NotSigned",
    "The server requires signed requests (`--secret-file`), and the signature is missing, wrong, "
    "too old or already used.",
    {"WWW-Authenticate": sent(string(pattern="^SOS1"), _SCHEME)},
)
OTHER_SCOPE = error(403, "OtherScope", "The token lacks the scope.")
OTHER_SITE = error(403, "OtherSite", "A page of another site sent the request.")
OTHER_SCOPE_OR_SITE = error(
    403, "OtherScopeOrSite", "The token lacks the scope, or a page of another site sent this."
)
TOO_SLOW = error(408, "TooSlow", "The body arrives at less than 512 bytes a second.")
TOO_LARGE = error(413, "TooLarge", "The body is larger than `--max-size`.")
LONG_TARGET = error(414, "LongTarget", "The path and query are longer than 16 KiB.")
OTHER_HOST = error(421, "OtherHost", "`Host` is not a name of this server (`--hosts`).")
_LONG = "The headers are longer than 16 KiB, or there are more than 200."
LONG_HEADERS = error(431, "LongHeaders", _LONG)
UNAVAILABLE = error(
    503,
    "Unavailable",
    "The store or its servers are unreachable or read-only, or there are too many connections. "
    "Try again.",
    {"Retry-After": sent(count(minimum=1), "Seconds to wait before the next try.")},
)

# Other errors.
NO_OBJECT = error(404, "NoObject", "There is no such object: every server has said so.")
NO_BLOB = error(404, "NoBlob", "The server has no such blob.")
_NO_STORE = {"Cache-Control": sent({"const": "no-store"})}
DELETED_OBJECT = error(410, "DeletedObject", "The object was deleted.", _NO_STORE)
NO_DELETING = error(
    403,
    "NoDeleting",
    "The server does not delete (`--allow-delete`), the object is younger than `--min-retention`, "
    "the token lacks the scope `delete`, or a page of another site sent this.",
)
CANNOT_DELETE = error(
    409,
    "CannotDelete",
    "A server cannot remember deletions, because it has an older version, or has a copy and is "
    "read-only.",
)
DELETED_BLOB = error(
    410,
    "DeletedBlob",
    "The object was deleted after the time of the upload, if there is one in the request.",
    {"X-Sos-Metadata": sent(string(), "Of the tombstone.")},
)
NO_UPLOAD = error(
    404, "NoUpload", "The upload does not exist or has expired, or `--unfinished-dir` is not set."
)
OTHER_METHOD = error(405, "OtherMethod", "The method is neither PATCH nor DELETE.")
_CANNOT_EXPIRE = "a server cannot record when it expires, because it has an older version."
TAKEN = error(
    409,
    "Taken",
    f"Other bytes with this id, or with the same hash, are stored; or {_CANNOT_EXPIRE}",
)
CANNOT_EXPIRE = error(409, "CannotExpire", _CANNOT_EXPIRE.capitalize())
OTHER_KIND = error(409, "OtherKind", "One is the object, and the other its manifest.")
LEASED = error(409, "Leased", "Another client holds the lease.")
NO_LEASE = error(409, "NoLease", "The lease is not valid, or the blob has changed.")
OTHER_OFFSET = error(
    409,
    "OtherOffset",
    "`Upload-Offset` is not where the upload ends, or other bytes with the same hash are stored.",
)
OTHER_VERSION = error(412, "OtherVersion", "`Tus-Resumable` is not 1.0.0.")
LARGE_BATCH = error(413, "LargeBatch", "The batch is larger than 512 KiB.")
LARGE_MEMBERSHIP = error(413, "LargeMembership", "The body is larger than 64 KiB.")
TOO_LONG = error(
    413,
    "TooLong",
    "The upload exceeds `--max-size` or `--unfinished-limit`, or the part its length.",
)
_CODINGS = sent(
    {"enum": [", ".join(KNOWN), "identity"]}, "The accepted content codings; a form must have none."
)
OTHER_CODING = error(
    415, "OtherCoding", "Clients could not decode the body.", {"Accept-Encoding": _CODINGS}
)
OTHER_TYPE = error(415, "OtherType", "The body is not application/offset+octet-stream.")
_SIZE = sent(string(pattern=r"^bytes \*/[0-9]+$"))
UNSATISFIABLE = error(
    416, "Unsatisfiable", "The `Range` lies outside of it.", {"Content-Range": _SIZE}
)
OTHER_HASH = error(422, "OtherHash", "The body does not hash to its id, or is not its manifest.")
BUSY = error(423, "Busy", "Another request works on the upload. Try again.")
WRONG_CHECKSUM = error(460, "WrongChecksum", "The part does not match its `Upload-Checksum`.")
NO_ROOM = error(507, "NoRoom", "There is no room. Reads still work.")

# The state of a server.
ALIVE = response(200, "The server runs.", {"const": "alive"}, media_type=_TEXT)
READY = response(200, "The server accepts uploads.", {"const": "ready"}, media_type=_TEXT)
METRICS = response(200, "The text format of Prometheus.", string(), media_type=_TEXT)
_STATUS = "The state since the daemon started. Later versions may add members."
BLOB_STATUS = response(200, _STATUS, schemas.BLOB_STATUS)
API_STATUS = response(200, _STATUS, schemas.API_STATUS)
DESCRIPTION = response(200, "OpenAPI 3.1.", {"type": "object"})
_NOSNIFF = {"X-Content-Type-Options": sent({"const": "nosniff"})}
_PAGE_HEADERS = {
    **_NOSNIFF,
    "Content-Security-Policy": sent(string(pattern="^default-src 'none'; ")),
    "Cache-Control": sent({"const": "no-store"}),
}
PAGE = response(200, "It polls `/status` every two seconds.", string(), _PAGE_HEADERS, "text/html")

# Storing.
_STORED = "It is on stable storage."
STORED_BLOB = (response(200, _STORED, TYPES["StoredBlob"]), TAKEN, DELETED_BLOB, NO_ROOM)
_OBJECT_ERRORS = (TAKEN, OTHER_CODING, NO_ROOM)
STORED_OBJECT = (response(200, _STORED, TYPES["StoredObject"]), *_OBJECT_ERRORS)
RENEWED_OBJECT = (
    response(200, _STORED, TYPES["StoredObject"]),
    NO_OBJECT,
    CANNOT_EXPIRE,
    DELETED_OBJECT,
)
DELETED = (
    response(200, "The write quorum has recorded the deletion.", TYPES["Deleted"]),
    NO_DELETING,
    NO_OBJECT,
    CANNOT_DELETE,
    DELETED_OBJECT,
)
_FILES = array(TYPES["StoredObject"], "Several files, in the order of the form.", minItems=2)
_FILE_OR_FILES = {"oneOf": [TYPES["StoredObject"], _FILES]}
STORED_FORM = (response(200, _STORED, _FILE_OR_FILES), *_OBJECT_ERRORS)

# Replication.
_DONE = "It is done, durably."
DONE = response(200, _DONE, TYPES["Done"])
DONE_FOR_BLOB = (response(200, _DONE, TYPES["BlobDone"]), NO_ROOM)
LISTING = response(
    200,
    "The ids, sorted by partition, then by id.",
    array(schemas.ID),
    {"Link": sometimes("The next page, if `limit` cuts the list.")},
)
_DIGESTS_ETAG = {"ETag": sent(string(pattern='^"[0-9a-z]+"$'), "The version of the digests.")}
DIGESTS = (
    response(
        200,
        "Count, bytes and a sum of each partition that has blobs, by name.",
        schemas.DIGESTS,
        _DIGESTS_ETAG,
    ),
    response(304, "The client has them already.", None, _DIGESTS_ETAG),
)
_BLOB_DIGESTS = "By id: the size, the version of the metadata, and the hash and times if need be."
BLOB_DIGESTS = response(200, _BLOB_DIGESTS, schemas.BLOB_DIGESTS)
_ANSWERS = (
    "A binary record for each operation, in the same order: its status (2 bytes; 303 if it has to "
    "be requested by itself), the lengths of the last two parts (2 and 4 bytes), the size of the "
    "body (8 bytes, all ones if it is not known), the metadata, and the body, or the ids of the "
    "store and of the stored blob, or the reason of an error."
)
BATCH = response(200, _ANSWERS, schemas.BINARY, None, MEDIA_TYPE.decode("ascii"))
LEASE = response(
    200, "No other client gets a lease until this one ends or is released.", TYPES["GrantedLease"]
)

# Reading.
_ETAG = '^"[0-9a-z]{1,128}"$'
_VERSION = {
    "ETag": sent(string(pattern=_ETAG), "The id, in quotation marks."),
    "Cache-Control": sent(
        string(pattern="^(public|private), max-age=[0-9]+(, immutable)?$"),
        "Private if the request needed credentials.",
    ),
    "Last-Modified": sometimes("When this copy was stored, if that is known."),
}


def _read(noun: str, own: Mapping[str, Part]) -> tuple[Response, ...]:
    """Return the responses to a GET or HEAD of an object or a blob that is stored.

    :param own: headers of its own.
    """
    headers = {
        **_VERSION,
        "Accept-Ranges": sent({"const": "bytes"}),
        **_NOSNIFF,
        "Content-Security-Policy": sent(string(pattern="^(sandbox; )?default-src 'none'")),
        "Content-Disposition": sometimes("The file name, from `X-Orig-Filename`."),
        "Repr-Digest": sometimes("If the client asks for a SHA-256, and the id is one."),
        **own,
    }
    span = {"Content-Range": sent(string(pattern="^bytes [0-9]+-[0-9]+/[0-9]+$"))}
    whole = f"The {noun}, with its X-* headers. A valid `X-Mime-Type` is also its Content-Type."
    return (
        response(200, whole, {}, headers, "*/*", "Whole"),
        response(206, f"A part of the {noun}.", {}, {**headers, **span}, "*/*", "Part"),
        response(304, "The client has it already.", None, _VERSION, name="Current"),
        UNSATISFIABLE,
    )


_OWN_CODINGS = sometimes("The codings of the upload, whatever `Accept-Encoding` says.")
_SUNSET = sometimes("When the object expires (RFC 8594).")
READ_OBJECT = (
    *_read("object", {"Content-Encoding": _OWN_CODINGS, "Sunset": _SUNSET}),
    NO_OBJECT,
    DELETED_OBJECT,
)
READ_BLOB = (
    *_read("blob", {"X-Sos-Metadata": sent(string(), "As in an upload.")}),
    NO_BLOB,
    DELETED_BLOB,
)

# Resumable uploads.
_TUS = {"Tus-Resumable": sent({"const": tus_headers.VERSION.decode()})}
_OFFSET = "Bytes that need not be sent again. The last one counts once the object is stored."
_PROGRESS = {
    **_TUS,
    "Upload-Offset": sent(count(), _OFFSET),
    "X-Sos-Id": sometimes("The id of the object, once it is stored.", schemas.ID),
}
_EXPIRES = {"Upload-Expires": sometimes("When the upload expires if nothing more arrives.")}
_LOCATION = string(pattern="^tus/[A-Za-z0-9_-]{32}$")
BEGUN = response(
    201,
    "The upload exists. If the request has all of its bytes, the object is stored.",
    headers={
        **_PROGRESS,
        **_EXPIRES,
        "Location": sent(_LOCATION, "The upload, relative to the parent of this path."),
    },
)
UPLOAD = response(
    200,
    "The state of the upload.",
    TYPES["Upload"],
    {
        **_PROGRESS,
        "Upload-Length": sent(count()),
        "Upload-Metadata": sometimes("As the client sent it."),
    },
)
APPENDED = response(
    204,
    "The part is on stable storage; with the last byte, the object is stored.",
    headers={**_PROGRESS, **_EXPIRES},
)
REMOVED = response(204, "The upload is removed.", headers=_TUS)
OVERRIDDEN = response(204, "As for PATCH or DELETE.", headers=_TUS)
_SUPPORT = response(
    204,
    "The supported parts of tus 1.0.0.",
    headers={
        **_TUS,
        "Tus-Version": sent({"const": tus_headers.VERSION.decode()}),
        "Tus-Extension": sent({"const": tus_headers.EXTENSIONS.decode()}),
        "Tus-Checksum-Algorithm": sent({"const": tus_headers.ALGORITHMS.decode()}),
        "Tus-Max-Size": sent(count(), "Most bytes of an upload."),
    },
)
TUS = (_SUPPORT, NO_UPLOAD)
_PART_REFUSED = (OTHER_OFFSET, TOO_LONG, OTHER_TYPE, WRONG_CHECKSUM, NO_ROOM)
BEGIN_ERRORS = (NO_UPLOAD, OTHER_VERSION, *_PART_REFUSED)
CHANGE_ERRORS = (NO_UPLOAD, OTHER_VERSION, BUSY)
APPEND_ERRORS = (*CHANGE_ERRORS, *_PART_REFUSED)
