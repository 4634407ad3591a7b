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

#: When the rest was set, see :func:`ticks`: of several, those that were set first stay.  What has
#: none is from before there was this, and comes before what has one.
SET_AT = "X-Sos-Set-At"
#: Ticks in a second.  An upload that begins once another was acknowledged is set later by more
#: than one, so that no hash decides between the two.
TICKS = 100_000
#: Names that servers keep for each other, and clients neither set nor see.
INTERNAL = frozenset((MARK, SET_AT))
#: The header by which servers tell each other metadata, in the form of :func:`to_header`: other
#: X-* headers beside it may have been added on the way, by a proxy.
HEADER = "X-Sos-Metadata"
#: A client's name for the media type of an object, which is its ``Content-Type`` when served.
TYPE = "X-Mime-Type"
#: The codings that the bytes of an object are in, its ``Content-Encoding`` when served.
ENCODING = "X-Mime-Encoding"

#: No metadata at all.
EMPTY: Metadata = MappingProxyType({})

# Names that are never metadata between servers, and that no signature counts: servers of all
# versions have to agree on these.  Clients may set less: see :mod:`sos.model.foreign_headers`.
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
# Not served to clients either; but blobs may have some of these from before, which servers tell
# each other, sign, and copy as all others.
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
# How it stands in the canonical form.
_SET_AT_NAME = SET_AT.encode("ascii")
_SET_AT = b'"%s":"' % _SET_AT_NAME
_TIME = re.compile("[0-9]{1,15}")
_TIME_ALONE = re.compile(rb'\{%b([0-9]{1,15})"\}' % re.escape(_SET_AT))
#: A time behind all that can be said.
NEVER = 10**15
# Times that are less were told in milliseconds: in ticks they were in 2001 or before.
_LEAST_IN_TICKS = 10**14


def from_server(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the metadata that another server tells in *headers*, pairs of name and value.

    That is what :data:`HEADER` says.  Servers that do not send it, those of earlier versions and
    of the original system, mean the plain X-* headers; one sent twice is joined by a comma
    (RFC 9110, 5.3).  Raises :exc:`~sos.errors.InvalidMetadata` as :func:`check` does.

    Never of what a client sends: see :mod:`sos.web.client_headers`.
    """
    found: dict[str, str] = {}
    told: bytes | None = None
    for raw_name, raw_value in headers:
        if raw_name[:2] not in (b"X-", b"x-"):
            continue
        name, is_metadata = _judge(raw_name)
        if is_metadata:
            add(found, name, raw_value)
        elif name == HEADER:
            told = raw_value if told is None else told + b", " + raw_value
    return check(found) if told is None else from_header(told)


def add(found: dict[str, str], name: str, raw_value: bytes) -> None:
    """Add a header's value to what was *found*, behind one of the same *name*."""
    value = raw_value.decode("utf-8", "surrogateescape")
    found[name] = f"{found[name]}, {value}" if name in found else value


def from_header(value: bytes) -> dict[str, str]:
    """Read what :func:`to_header` wrote; raises InvalidMetadata for anything else."""
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
    """Write *metadata* as the value of :data:`HEADER`.

    It is the JSON of :func:`encode`, but for bytes that are not ASCII: these stand for
    themselves, for one takes at most two bytes then, and not six, and heads have a limit.
    """
    if not metadata or (len(metadata) == 1 and SET_AT in metadata):
        return encode(metadata)
    said = [
        f'"{name}":{encode_basestring(value)}'  # no name has anything to escape
        for name, value in sorted(metadata.items())
        if name in INTERNAL or not (name in _EXCLUDED or name.startswith(_EXCLUDED_PREFIXES))
    ]
    return b"{%b}" % ",".join(said).encode("utf-8", "surrogateescape")


def for_server(metadata: Metadata) -> Metadata:
    """Return the headers that tell a server of any version the *metadata* of a blob."""
    return {**metadata, HEADER: to_header(metadata).decode("utf-8", "surrogateescape")}


def received(found: object) -> dict[str, str]:
    """Return the metadata that another server sent as JSON, once it is parsed and *found* sound.

    Raises InvalidMetadata, also for names that servers do not tell each other.
    """
    if not isinstance(found, dict):
        raise InvalidMetadata("metadata that is no object of strings")
    for name, value in found.items():
        if not (isinstance(value, str) and name == canonical_name(name) and _is_metadata(name)):
            raise InvalidMetadata(f"{name[:80]!a} is no metadata")
    return check(found)


def to_headers(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Spell *metadata* as header pairs, sorted by name."""
    return [
        (name.encode("ascii"), value.encode("utf-8", "surrogateescape"))
        for name, value in sorted(metadata.items())
    ]


def to_client(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Spell *metadata* as :func:`to_headers`, without what :func:`is_withheld` names.

    ``Content-Encoding`` is among them, where one is known.  Between servers bodies are bytes, and
    nobody on the way is to decode them.
    """
    if len(metadata) == 1 and SET_AT in metadata:  # most objects have no other
        return []
    headers = [
        (name.encode("ascii"), value.encode("utf-8", "surrogateescape"))
        for name, value in sorted(metadata.items())
        if not (name in _EXCLUDED or name.startswith(_WITHHELD_PREFIXES))
    ]
    if ENCODING in metadata:
        with suppress(ValueError):  # a client can have said anything
            codings = parse_codings(metadata[ENCODING])
            if codings:
                headers.append((b"Content-Encoding", codings.encode("ascii")))
    return headers


def to_server(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Spell *metadata* as header pairs for servers of any version: :data:`HEADER` and the plain."""
    if not metadata:
        return _EMPTY_HEADER
    if len(metadata) == 1 and SET_AT in metadata:  # most objects have no other
        time = metadata[SET_AT].encode("ascii")
        return [(_HEADER, b'{%b%b"}' % (_SET_AT, time)), (_SET_AT_NAME, time)]
    return [(_HEADER, to_header(metadata)), *to_headers(metadata)]


def check(metadata: Metadata) -> dict[str, str]:
    """Return *metadata* if it can be kept, or raise InvalidMetadata.

    The limits are :data:`MAX_FIELDS` and :data:`MAX_BYTES`; a value holds no
    CR, LF or NUL.  Those that are :data:`INTERNAL` come on top of what the limits leave.
    """
    if _is_time_alone(metadata):
        return dict(metadata)
    fields = len(metadata.keys() - INTERNAL)
    if fields > MAX_FIELDS:
        raise InvalidMetadata(f"{fields} X-* headers, at most {MAX_FIELDS} are kept")
    total = 0
    for name, value in metadata.items():
        if _TOKEN.fullmatch(name) is None:
            raise InvalidMetadata(f"{name[:80]!a} is not the name of an X-* header")
        if _FORBIDDEN.search(value):
            raise InvalidMetadata(f"the value of {name} holds a CR, LF or NUL")
        try:
            size = len(value.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            raise InvalidMetadata(f"the value of {name} stands for no bytes") from None
        if name not in INTERNAL:
            total += len(name) + size
    if total > MAX_BYTES:
        raise InvalidMetadata(f"{total} bytes of X-* headers, at most {MAX_BYTES} are kept")
    if not _TIME.fullmatch(metadata.get(SET_AT, "0")):
        raise InvalidMetadata(f"{SET_AT} is not a time: up to 15 digits")
    return dict(metadata)


def _is_time_alone(metadata: Metadata) -> bool:
    """Tell whether there is a time and no more, as of most objects: these are to cost little."""
    return len(metadata) == 1 and _TIME.fullmatch(metadata.get(SET_AT, "")) is not None


def canonical_name(name: str) -> str:
    """Spell a header's name with a capital after each hyphen, as Go does."""
    return "-".join(part.capitalize() for part in name.split("-"))


@lru_cache(maxsize=256)  # a server sees the same few names in all requests
def _judge(raw_name: bytes) -> tuple[str, bool]:
    """Return a header's name in its canonical spelling, and whether servers mean metadata by it."""
    name = canonical_name(raw_name.decode("latin-1"))
    return name, _is_metadata(name)


def is_excluded(name: str) -> bool:
    """Tell whether *name*, in canonical spelling, is not metadata between servers."""
    return name in _EXCLUDED or name.startswith(_EXCLUDED_PREFIXES)


def _is_metadata(name: str) -> bool:
    return name in INTERNAL or not is_excluded(name)


def is_withheld(name: str) -> bool:
    """Tell whether *name*, in canonical spelling, is never kept, nor served to clients."""
    return name in _EXCLUDED or name.startswith(_WITHHELD_PREFIXES)


def encode(metadata: Metadata) -> bytes:
    """Write *metadata* in its one canonical form: compact JSON, sorted names."""
    if not metadata:
        return b"{}"
    if _is_time_alone(metadata):
        return b'{%b%b"}' % (_SET_AT, metadata[SET_AT].encode("ascii"))
    return _ENCODER.encode(dict(metadata)).encode("ascii")


def ticks(seconds: float) -> int:
    """Return a time, in *seconds* since the epoch, as it is told with metadata."""
    return int(seconds * TICKS)


def stamped(metadata: Metadata, seconds: float) -> Metadata:
    """Return the *metadata* of an object, set then: that it has none is said then as well."""
    return {**metadata, SET_AT: str(ticks(seconds))}


def timed(metadata: Metadata, ticks: int) -> Metadata:
    """Return *metadata*, set then unless it says when; of none there is nothing to say.

    It is for what servers tell each other, as the chunks of objects, of which nobody has said
    anything: so that these never take the place of what was said.
    """
    if SET_AT in metadata or is_empty(metadata):
        return metadata
    return {**metadata, SET_AT: str(ticks)}


def set_at(metadata: Metadata) -> int:
    """Return when *metadata* was set, as it says.

    If it does not say, that is 0, and :data:`NEVER` if there is none.
    """
    told = metadata.get(SET_AT)
    if told is None:
        return NEVER if is_empty(metadata) else 0
    return int(told)


def is_empty(metadata: Metadata) -> bool:
    """Tell whether there is nothing that a client has said."""
    return not metadata.keys() - INTERNAL


def untimed(encoded: bytes) -> bytes:
    """Return the canonical form of what is *encoded*, without the time at which it was set."""
    start = encoded.find(_SET_AT)  # which no value holds: a quote in one is escaped
    if start < 0:
        return encoded
    end = encoded.index(b'"', start + len(_SET_AT)) + 1
    if encoded[end : end + 1] == b",":
        return encoded[:start] + encoded[end + 1 :]
    return encoded[: start - (encoded[start - 1 : start] == b",")] + encoded[end:]


def version(metadata: Metadata) -> str:
    """Return what tells copies of a blob apart that differ in their metadata.

    It begins with 0 for those that are the object itself, and with 1 for its manifest.  The
    time at which they were set does not matter.
    """
    return ("1" if MARK in metadata else "0") + sha256(untimed(encode(metadata))).hexdigest()


#: The end of the version of no metadata at all.
NONE = version(EMPTY)[1:]


def assumed(version: str) -> int:
    """Return what :func:`set_at` is of metadata of this *version* of which nothing is told."""
    return NEVER if version[1:] == NONE else 0


def order(version: str, set_at: int) -> tuple[str, int, str]:
    """Return what orders the copies of a blob: the one that comes first is to be had everywhere.

    An object comes before its manifest, and what was set first before what was set later, or
    never.  Where nothing else tells the hash does, so that all who compare agree.

    :param set_at: in ticks or, as earlier versions tell it, in milliseconds.
    """
    return version[:1], in_ticks(set_at), version[1:]


def in_ticks(set_at: int) -> int:
    """Return a time in ticks that may be told in milliseconds."""
    return set_at if set_at >= _LEAST_IN_TICKS else set_at * (TICKS // 1000)


def first_said(told: Iterable[Metadata]) -> Metadata | None:
    """Return what of all that is *told* of an object was said first; None where nothing was."""
    said = [each for each in told if set_at(each) < NEVER]
    return min(said, key=lambda each: order(version(each), set_at(each))[1:], default=None)


def precedes(told: Metadata, stored: Metadata) -> bool:
    """Tell whether *told* is to be had in the place of what is *stored*, see :func:`order`.

    What does not say when it was set was told by a server that does not know of that: it
    does not take the place of what was set at a known time.
    """
    if SET_AT in stored and SET_AT not in told:
        return False
    return order(version(told), set_at(told)) < order(version(stored), set_at(stored))


def with_kind_of(metadata: Metadata, other: Metadata) -> Metadata:
    """Return *metadata* as that of an object or of its manifest, whichever *other* is."""
    said = {name: value for name, value in metadata.items() if name != MARK}
    return {**said, MARK: other[MARK]} if MARK in other else said


def decode(data: bytes) -> dict[str, str]:
    """Read what :func:`encode` wrote; raises InvalidMetadata for anything else."""
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
