"""The X-* headers that are kept with a blob.

Metadata is a ``dict[str, str]`` from header name, in its canonical spelling
(``X-Mime-Type``), to value.  A value is the header's bytes as UTF-8 with
surrogate escapes, so that any bytes come back as they were sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring
from types import MappingProxyType

from sos.errors import InvalidMetadata
from sos.model.content_coding import parse_codings
from sos.model.manifest import MARK

Metadata = Mapping[str, str]

#: The time at which the metadata was set, see :func:`ticks`: the metadata set first wins.
#: Metadata without a time is from before times were kept: it sorts first, but does not replace
#: stored metadata that has a time, see :mod:`sos.model.merge`.
SET_AT = "X-Sos-Set-At"
#: Ticks in a second.  They are so short that an upload which begins after another was
#: acknowledged has a later time, so that :func:`order` does not decide by the hash.
TICKS = 100_000
#: When the blob was last stored as an object, as a chunk, and deleted, see :mod:`sos.model.merge`.
STORED_AT = "X-Sos-Stored-At"
PART_AT = "X-Sos-Part-At"
DELETED_AT = "X-Sos-Deleted-At"
#: When the object expires, see :mod:`sos.model.expiry`.  Beside it is always :data:`STORED_AT`.
EXPIRES_AT = "X-Sos-Expires-At"
_TIMES = (SET_AT, STORED_AT, PART_AT, DELETED_AT, EXPIRES_AT)
#: Names that only servers use: clients neither set nor see them.
INTERNAL = frozenset((MARK, *_TIMES))
#: The header in which servers send each other metadata, see :func:`to_header`.  A proxy may
#: have added the other X-* headers of the message.
HEADER = "X-Sos-Metadata"
#: The media type of an object, as the client set it: the ``Content-Type`` when served.
TYPE = "X-Mime-Type"
#: The content codings of an object's bytes: the ``Content-Encoding`` when served.
ENCODING = "X-Mime-Encoding"

#: No metadata at all.
EMPTY: Metadata = MappingProxyType({})

# Names that are never metadata between servers, and that signatures do not cover: servers of
# all versions have to agree on these.  Clients may set fewer: see
# :mod:`sos.model.foreign_headers`.
_EXCLUDED_PREFIXES = ("X-Forwarded-", "X-Auth-", "X-Accel-", "X-Sendfile", "X-Sos-")
_EXCLUDED = frozenset(
    (
        "X-Access-Token",
        "X-Amz-Security-Token",
        "X-Api-Key",
        "X-Authorization",
        "X-Content-Type-Options",
        "X-Csrf-Token",
        "X-Dns-Prefetch-Control",
        "X-Frame-Options",
        "X-Http-Method-Override",
        "X-Lighttpd-Send-File",
        "X-Permitted-Cross-Domain-Policies",
        "X-Real-Ip",
        "X-Request-Id",
        "X-Xss-Protection",
    )
)
# Not served to clients either.  But older blobs may have some of these, so servers send, sign
# and copy them like all others.
_STEERING = ("X-Envoy-", "X-Lighttpd-", "X-Litespeed-", "X-Reproxy-", "X-Rewrite-")
_WITHHELD_PREFIXES = _EXCLUDED_PREFIXES + _STEERING

#: Most X-* headers that one blob can carry.
MAX_FIELDS = 90
#: Most bytes of X-* headers, names and values together.
MAX_BYTES = 4096

_TOKEN = re.compile(r"X-[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_HEADER = HEADER.encode("ascii")
_EMPTY_HEADER = [(_HEADER, b"{}")]
_FORBIDDEN = re.compile("[\r\n\0]")
# The beginning of the field in the canonical form.
_SET_AT_NAME = SET_AT.encode("ascii")
_SET_AT = b'"%s":"' % _SET_AT_NAME
_TIME = re.compile("[0-9]{1,15}")
_TIME_ALONE = re.compile(rb'\{%b([0-9]{1,15})"\}' % re.escape(_SET_AT))
#: A time after every time that metadata can have.
NEVER = 10**15
# A smaller number is a time in milliseconds: in ticks it would be in 2001 or before.
_LEAST_IN_TICKS = 10**14


def from_server(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the metadata that another server sent in *headers*, pairs of name and value.

    It is the value of :data:`HEADER`.  Servers of earlier versions and of the original system do
    not send that header: then it is the plain X-* headers.  Repeated headers are joined by a
    comma (RFC 9110, 5.3).  Raises :exc:`~sos.errors.InvalidMetadata` as :func:`check` does.

    Do not use this for requests of clients: see :mod:`sos.web.client_headers`.
    """
    found: dict[str, str] = {}
    encoded: bytes | None = None
    for raw_name, raw_value in headers:
        if raw_name[:2] not in (b"X-", b"x-"):
            continue
        name, is_metadata = _judge(raw_name)
        if is_metadata:
            add(found, name, raw_value)
        elif name == HEADER:
            encoded = raw_value if encoded is None else encoded + b", " + raw_value
    return check(found) if encoded is None else from_header(encoded)


def add(found: dict[str, str], name: str, raw_value: bytes) -> None:
    """Add a header to *found*; append its value to an earlier one of the same *name*."""
    value = raw_value.decode("utf-8", "surrogateescape")
    found[name] = f"{found[name]}, {value}" if name in found else value


def from_header(value: bytes) -> dict[str, str]:
    """Decode the result of :func:`to_header`; raise InvalidMetadata for anything else."""
    if value == b"{}":
        return {}
    alone = _TIME_ALONE.fullmatch(value)
    if alone is not None:
        return {SET_AT: alone[1].decode("ascii")}
    try:
        found = received(json.loads(value.decode("utf-8", "surrogateescape")))
    except (ValueError, RecursionError):
        raise InvalidMetadata(f"{HEADER} is not JSON") from None
    if to_header(found) != value:
        raise InvalidMetadata(f"{HEADER} is not in its canonical form")
    return found


def to_header(metadata: Metadata) -> bytes:
    """Encode *metadata* as the value of :data:`HEADER`.

    It is the JSON of :func:`encode`, except that bytes beyond ASCII are not escaped.  So each
    takes at most two bytes rather than six: servers limit the size of headers.
    """
    if not metadata or (len(metadata) == 1 and SET_AT in metadata):
        return encode(metadata)
    members = [
        f'"{name}":{encode_basestring(value)}'  # no name has anything to escape
        for name, value in sorted(metadata.items())
        if name in INTERNAL or not (name in _EXCLUDED or name.startswith(_EXCLUDED_PREFIXES))
    ]
    return b"{%b}" % ",".join(members).encode("utf-8", "surrogateescape")


def for_server(metadata: Metadata) -> Metadata:
    """Return the headers that carry *metadata* to a server of any version."""
    return {**metadata, HEADER: to_header(metadata).decode("utf-8", "surrogateescape")}


def received(found: object) -> dict[str, str]:
    """Validate *found*, the parsed JSON that another server sent, and return it as metadata.

    Raises InvalidMetadata, also for names that servers do not send each other.
    """
    if not isinstance(found, dict):
        raise InvalidMetadata("the metadata is not a JSON object of strings")
    for name, value in found.items():
        if not (isinstance(value, str) and name == canonical_name(name) and _is_metadata(name)):
            raise InvalidMetadata(f"{name[:80]!a} is not a metadata header")
    return check(found)


def to_headers(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Return *metadata* as header pairs, sorted by name."""
    return [
        (name.encode("ascii"), value.encode("utf-8", "surrogateescape"))
        for name, value in sorted(metadata.items())
    ]


def to_client(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Return *metadata* as header pairs for a client, without the names that :func:`is_withheld`.

    Adds ``Content-Encoding`` if :data:`ENCODING` holds known codings.  :func:`to_server` does
    not, so that nothing between servers decodes the body.
    """
    if len(metadata) == 1 and SET_AT in metadata:  # as of most objects
        return []
    headers = [
        (name.encode("ascii"), value.encode("utf-8", "surrogateescape"))
        for name, value in sorted(metadata.items())
        if not (name in _EXCLUDED or name.startswith(_WITHHELD_PREFIXES))
    ]
    if ENCODING in metadata:
        with suppress(ValueError):  # a client can have set any value
            codings = parse_codings(metadata[ENCODING])
            if codings:
                headers.append((b"Content-Encoding", codings.encode("ascii")))
    return headers


def to_server(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Return *metadata* as header pairs for servers of any version: :data:`HEADER` and plain."""
    if not metadata:
        return _EMPTY_HEADER
    if len(metadata) == 1 and SET_AT in metadata:  # as of most objects
        time = metadata[SET_AT].encode("ascii")
        return [(_HEADER, b'{%b%b"}' % (_SET_AT, time)), (_SET_AT_NAME, time)]
    return [(_HEADER, to_header(metadata)), *to_headers(metadata)]


def check(metadata: Metadata) -> dict[str, str]:
    """Return a copy of *metadata* if it can be kept, or raise InvalidMetadata.

    The limits are :data:`MAX_FIELDS` and :data:`MAX_BYTES`, which do not count
    :data:`INTERNAL` headers.  A value must not contain CR, LF or NUL.
    """
    if not metadata or _is_time_alone(metadata):
        return dict(metadata)
    fields = len(metadata.keys() - INTERNAL)
    if fields > MAX_FIELDS:
        raise InvalidMetadata(f"{fields} X-* headers, at most {MAX_FIELDS} are kept")
    total = 0
    for name, value in metadata.items():
        if _TOKEN.fullmatch(name) is None:
            raise InvalidMetadata(f"{name[:80]!a} is not the name of an X-* header")
        if _FORBIDDEN.search(value):
            raise InvalidMetadata(f"the value of {name} contains a CR, LF or NUL")
        try:
            size = len(value.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            raise InvalidMetadata(f"the value of {name} cannot be encoded as UTF-8") from None
        if name not in INTERNAL:
            total += len(name) + size
    if total > MAX_BYTES:
        raise InvalidMetadata(f"{total} bytes of X-* headers, at most {MAX_BYTES} are kept")
    for name in _TIMES:
        if not _TIME.fullmatch(metadata.get(name, "0")):
            raise InvalidMetadata(f"{name} is not a time: up to 15 digits")
    return dict(metadata)


def _is_time_alone(metadata: Metadata) -> bool:
    """Return whether there is a time and no more: a fast path, for most objects have no more."""
    return len(metadata) == 1 and _TIME.fullmatch(metadata.get(SET_AT, "")) is not None


def canonical_name(name: str) -> str:
    """Return a header's name with a capital at the start and after each hyphen, as Go does."""
    return "-".join(part.capitalize() for part in name.split("-"))


@lru_cache(maxsize=256)  # a server sees the same few names in all requests
def _judge(raw_name: bytes) -> tuple[str, bool]:
    """Return a header's name in canonical spelling, and whether it is metadata between servers."""
    name = canonical_name(raw_name.decode("latin-1"))
    return name, _is_metadata(name)


def is_excluded(name: str) -> bool:
    """Return whether *name*, in canonical spelling, is not metadata between servers."""
    return name in _EXCLUDED or name.startswith(_EXCLUDED_PREFIXES)


def _is_metadata(name: str) -> bool:
    return name in INTERNAL or not is_excluded(name)


def is_withheld(name: str) -> bool:
    """Return whether *name*, in canonical spelling, is neither kept from nor served to clients."""
    return name in _EXCLUDED or name.startswith(_WITHHELD_PREFIXES)


def encode(metadata: Metadata) -> bytes:
    """Encode *metadata* in its canonical form: compact JSON, sorted names."""
    if not metadata:
        return b"{}"
    if _is_time_alone(metadata):
        return b'{%b%b"}' % (_SET_AT, metadata[SET_AT].encode("ascii"))
    return _ENCODER.encode(dict(metadata)).encode("ascii")


def ticks(seconds: float) -> int:
    """Convert a time, in *seconds* since the epoch, to the ticks of :data:`SET_AT`."""
    return int(seconds * TICKS)


def stamped(metadata: Metadata, seconds: float) -> Metadata:
    """Return *metadata* of an upload with its time, in *seconds* since the epoch."""
    time = str(ticks(seconds))
    if EXPIRES_AT in metadata:
        return {**metadata, SET_AT: time, STORED_AT: time}
    return {**metadata, SET_AT: time}


def part_of_object(seconds: float) -> Metadata:
    """Return the metadata of a chunk that is stored at a time, in *seconds* since the epoch."""
    return {PART_AT: str(ticks(seconds))}


def timed(metadata: Metadata, ticks: int) -> Metadata:
    """Return *metadata* with the time *ticks*, unless it has a time already or is empty.

    Use it for metadata from other servers.  Chunks have none, and no time: so theirs never
    replaces metadata that a client set.
    """
    if SET_AT in metadata or is_empty(metadata):
        return metadata
    return {**metadata, SET_AT: str(ticks)}


def set_at(metadata: Metadata) -> int:
    """Return the time in *metadata*, as it stands there: see :func:`in_ticks`.

    Without a time, return 0, or :data:`NEVER` if the metadata is empty.
    """
    text = metadata.get(SET_AT)
    if text is None:
        return NEVER if is_empty(metadata) else 0
    return int(text)


def is_tombstone(metadata: Metadata) -> bool:
    """Return whether *metadata* is a tombstone's: the object was deleted, and has no body."""
    return len(metadata) == 1 and DELETED_AT in metadata


def is_empty(metadata: Metadata) -> bool:
    """Return whether *metadata* has no headers but :data:`INTERNAL` ones."""
    return not metadata or not metadata.keys() - INTERNAL


def untimed(encoded: bytes) -> bytes:
    """Return *encoded*, metadata in its canonical form, without the time at which it was set."""
    start = encoded.find(_SET_AT)  # no value contains this: quotes in values are escaped
    if start < 0:
        return encoded
    end = encoded.index(b'"', start + len(_SET_AT)) + 1
    if encoded[end : end + 1] == b",":
        return encoded[:start] + encoded[end + 1 :]
    return encoded[: start - (encoded[start - 1 : start] == b",")] + encoded[end:]


def version(metadata: Metadata) -> str:
    """Return a string that differs between copies of a blob with different metadata.

    It begins with 0 for the object itself, with 1 for its manifest, and with 2 for a tombstone,
    and ends with the SHA-256 of the metadata without its time.
    """
    kind = "1" if MARK in metadata else "2" if is_tombstone(metadata) else "0"
    return kind + sha256(untimed(encode(metadata))).hexdigest()


#: The version of empty metadata, without its first digit.
NONE = version(EMPTY)[1:]


def assumed(version: str) -> int:
    """Return what :func:`set_at` returns for metadata of this *version* without a time."""
    return NEVER if version[1:] == NONE else 0


def order(version: str, set_at: int) -> tuple[str, int, str]:
    """Return the sort key of a blob's copies: all replicas are to hold the one that sorts first.

    An object sorts before its manifest, then metadata by its time.  At equal times the hash
    decides, so that all servers agree.

    :param set_at: in ticks or, from earlier versions, in milliseconds.
    """
    return version[:1], in_ticks(set_at), version[1:]


def in_ticks(set_at: int) -> int:
    """Convert a time that is in ticks or milliseconds to ticks."""
    return set_at if set_at >= _LEAST_IN_TICKS else set_at * (TICKS // 1000)


def with_kind_of(metadata: Metadata, other: Metadata) -> Metadata:
    """Return *metadata* marked as a manifest's if *other* is, and unmarked otherwise."""
    without_mark = unmarked(metadata)
    return {**without_mark, MARK: other[MARK]} if MARK in other else without_mark


def unmarked(metadata: Metadata) -> dict[str, str]:
    """Return *metadata* without the mark of a manifest: the metadata of the object."""
    return {name: value for name, value in metadata.items() if name != MARK}


def decode(data: bytes) -> dict[str, str]:
    """Decode the result of :func:`encode`; raise InvalidMetadata for anything else."""
    if data == b"{}":
        return {}
    alone = _TIME_ALONE.fullmatch(data)
    if alone is not None:
        return {SET_AT: alone[1].decode("ascii")}
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidMetadata(f"stored metadata is not JSON: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise InvalidMetadata("stored metadata is not an object of strings")
    return check(found)
