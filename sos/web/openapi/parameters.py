"""The parameters and bodies of requests."""

from __future__ import annotations

from sos.model.batch import MEDIA_TYPE, MOST_RECORDS
from sos.model.content_coding import KNOWN
from sos.model.lease import LEASE
from sos.model.membership import MEMBERS
from sos.web.forms import MOST_PARTS
from sos.web.openapi.parts import body, count, header, path, query, record, string
from sos.web.openapi.schemas import BINARY, ID, TYPES

_TOKEN = string(minLength=1)

#: Most ids in one page of a listing.
MAX_PAGE = 10_000

# Reading.
_NAME = string(pattern="^[0-9a-z]{1,128}([.][0-9a-zA-Z.]{0,16})?$")
NAME = path("name", "The id of the object; the server ignores a file extension after it.", _NAME)
BLOB = path("id", "", ID)
OBJECT = path("name", "The id of the object.", ID)
IF_NONE_MATCH = header("If-None-Match", "The ETags of what the client has already.")
CONDITIONS = (
    IF_NONE_MATCH,
    header("If-Modified-Since", "When the client received what it has."),
    header("Want-Repr-Digest", "Send the digest of the content (RFC 9530).", example="sha-256=1"),
)
_RANGE = "One range of bytes (RFC 9110, 14). The server ignores what it does not understand."
RANGES = (
    header("Range", _RANGE, example="bytes=0-99"),
    header("If-Range", "Send the range only if this is still the ETag, else the whole object."),
)

# Storing.
_BYTES = "Any bytes, of any declared type; chunked or not. The server stores them unchanged."
BYTES = body(BINARY, "application/octet-stream", _BYTES, required=False)
_FILES = f"A form with at least one file, and at most {MOST_PARTS} parts."
FORM = body(record("file binary", TYPES), "multipart/form-data", _FILES)
FILE_NAME = path("name", "In UTF-8, percent-encoded; it has no slash.", _TOKEN)
DIGESTS = (
    header("Repr-Digest", "The SHA-256 or SHA-512 of the body, to verify it by (RFC 9530)."),
    header("Content-Digest", "As `Repr-Digest`."),
    header("Content-MD5", "The MD5 of the body, in base64."),
)
_TYPE = "Its type: the Content-Type of answers with it."
_OTHERS = "The server also stores other X-* headers: at most 90, 4 KiB in all."
_FILENAME = header(
    "X-Orig-Filename",
    "The name under which a browser saves it, in UTF-8 or else Latin-1. `X-Orig-Filename*` takes "
    "the extended form of RFC 8187.",
    example="photo.jpg",
)
_METADATA_HEADERS = (
    header(
        "X-Mime-Type",
        f"{_TYPE} By default the Content-Type of the upload, if that is specific. {_OTHERS}",
        example="image/jpeg",
    ),
    _FILENAME,
)
FORM_HEADERS = (*_METADATA_HEADERS, *DIGESTS)
_ENCODING = header(
    "Content-Encoding",
    f"The codings of the body: {', '.join(KNOWN)}. The server stores and sends it in them.",
    example="gzip",
)
OBJECT_HEADERS = (*FORM_HEADERS, _ENCODING)
BLOB_HEADERS = (
    header("X-Mime-Type", f"{_TYPE} {_OTHERS}", example="image/jpeg"),
    _FILENAME,
    header("X-Sos-Manifest", "Marks the manifest of the object with this id, stored in chunks."),
    header(
        "X-Sos-Set-At",
        "When the other X-* headers were set, in units of 10 us since 1970; a value below 10**14 "
        "is in milliseconds, as earlier versions send it. The earliest metadata wins. By default "
        "the time of the request, if there are other X-* headers.",
        string(pattern="^[0-9]{1,15}$"),
    ),
    header(
        "X-Sos-Metadata",
        "All X-* headers to store, `X-Sos-Manifest` and `X-Sos-Set-At` included, as a compact JSON "
        "object with sorted names, not escaped to ASCII. The server then ignores all other X-* "
        "headers, because proxies can add them.",
    ),
)

EXPIRES = query(
    "expires",
    "When the object expires: after a time span (`90s`, `15m`, `12h`, `30d`), or at a time "
    "(RFC 3339). By default never.",
    example="30d",
)

# Resumable uploads.
_VERSION = "The version of tus. The server answers 412 to any other, and to none."
TUS_RESUMABLE = header("Tus-Resumable", _VERSION, {"const": "1.0.0"}, required=True)
UPLOAD = path("token", "From the `Location` of the new upload.", _TOKEN)
_LENGTH = header("Upload-Length", "Bytes of the whole upload.", count(), required=True)
_METADATA = header(
    "Upload-Metadata",
    "Pairs of a key, a space and a value in base64, separated by commas. `filename` becomes "
    "X-Orig-Filename, `filetype` X-Mime-Type, any other KEY X-Meta-KEY. The server stores X-* "
    "headers as in an upload by one request.",
)
_OFFSET = header("Upload-Offset", "Where the part begins, in bytes.", count(), required=True)
_OFFSET_IF_ANY = header("Upload-Offset", "As for PATCH.", count())
_METHODS = {"enum": ["PATCH", "DELETE"]}
_METHOD = header("X-HTTP-Method-Override", "", _METHODS, required=True)
_CHECKSUM = header(
    "Upload-Checksum",
    "The name of a hash (sha1, md5, sha256, sha512), a space, and the hash of the part in base64. "
    "The server discards a part that does not match it, or that breaks off.",
)
NEW_UPLOAD = (TUS_RESUMABLE, _LENGTH, _METADATA, _CHECKSUM)
APPENDING = (UPLOAD, TUS_RESUMABLE, _OFFSET, _CHECKSUM)
OVERRIDING = (UPLOAD, TUS_RESUMABLE, _METHOD, _OFFSET_IF_ANY, _CHECKSUM)
_PART = "Bytes of the upload."
PART = body(BINARY, "application/offset+octet-stream", _PART, required=False)

# Replication.
LISTING = (
    query("after", "List only ids after this one.", ID),
    query("limit", "The most ids to list.", count(minimum=1, maximum=MAX_PAGE)),
    query("partition", "List only this partition.", TYPES["Partition"]),
    query("kind", "List only the manifests of objects in chunks.", {"enum": ["manifest"]}),
)
_PARTITION = "The first three digits of a content id."
PARTITION = path("partition", _PARTITION, TYPES["Partition"])
TIMES = query(
    "times",
    "With any value, send the hash, empty if it is the id, and the time at which the metadata was "
    "set, as in X-Sos-Set-At, if it is known.",
)
RELEASED_LEASE = path("token", "The lease.", _TOKEN)
SECONDS = query("seconds", "", TYPES["Seconds"], required=True)
HELD_LEASE = header(LEASE, "The lease.", required=True)
RENEWED_LEASE = header(LEASE, "A valid lease, to renew it from now on.")
_SIZE = "With `version`, the digest of the blob. The server drops no blob that has changed."
KNOWN_DIGEST = (
    query("size", _SIZE, count(maximum=2**53 - 1)),
    query("version", "The version of the metadata, from `/digests/{partition}`.", TYPES["Version"]),
    query("hash", "The hash of the body of an opaque name, from there as well.", TYPES["Sha256"]),
)
_RECORDS = (
    f"Up to {MOST_RECORDS} binary records, one for each operation: its number (1 read, 2 describe, "
    "3 store), the lengths of what follows (1, 1, 2 and 4 bytes), the id of the client's request, "
    "the id of the blob, its metadata as in X-Sos-Metadata, and its body."
)
BATCH = body(BINARY, MEDIA_TYPE.decode("ascii"), _RECORDS)
_ANNOUNCER = (
    "The fingerprint of the API server's view of the cluster, and the server's unique name."
)
_ANNOUNCERS = string(pattern="^[0-9a-f]{32} [!-~]{1,120}$")
ANNOUNCER = header(MEMBERS, _ANNOUNCER, _ANNOUNCERS, required=True)
ANNOUNCER_IF_ANY = header(MEMBERS, _ANNOUNCER, _ANNOUNCERS)
MEMBERSHIP = body(TYPES["Membership"])
