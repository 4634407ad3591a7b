"""The metadata of an object, read from the headers of its upload."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

from attrs import frozen

from sos.errors import InvalidMetadata, UnsupportedCoding
from sos.model.content_coding import KNOWN, parse_codings
from sos.model.foreign_headers import is_foreign
from sos.model.metadata import ENCODING, TYPE, Metadata, add, canonical_name, check, is_withheld
from sos.web.responses import is_media_type

# Types that clients declare when they do not know the type.
_SAYS_NOTHING = re.compile(
    rb"(?:application/(?:x-www-form-urlencoded|octet-stream|x-octet-stream|unknown)"
    rb"|binary/octet-stream)[ \t]*(?:;.*)?|.*\*.*",
    re.IGNORECASE,
)
# Two names of 127 characters each (RFC 6838, 4.2), with room for parameters.
_LONGEST_TYPE = 512
_CONTENT = frozenset(map(len, ("Content-Type", "Content-Encoding")))


@frozen
class UploadMetadata:
    """Metadata of an upload, and the headers that are not part of it.

    :ivar metadata: the metadata to store.
    :ivar ignored: canonical names of the X-* headers that are not stored.
    """

    metadata: dict[str, str]
    ignored: tuple[str, ...]


class KeptHeaders:
    """Selection of the clients' X-* headers that are stored.

    :param patterns: the names to store, separated by commas, as
        :func:`sos.model.settings.header_patterns` returns them.  A final ``*`` matches any rest.
        A name also matches its extended form (``X-Orig-Filename*``, see RFC 8187).  None stores
        all headers that are not foreign, see :mod:`sos.model.foreign_headers`.
    """

    def __init__(self, patterns: str | None = None) -> None:
        self._judge = lru_cache(maxsize=256)(self._judged)
        self._listed = patterns is not None
        listed = [canonical_name(each.strip()) for each in (patterns or "").split(",")]
        self._names = frozenset(each for each in listed if not each.endswith("*"))
        self._prefixes = tuple(each[:-1] for each in listed if each.endswith("*"))

    def _judged(self, raw_name: bytes) -> tuple[str, bool]:
        """Return the canonical name of a header, and whether the header is stored."""
        name = canonical_name(raw_name.decode("latin-1"))
        if not self._listed:
            return name, not is_foreign(name)
        is_listed = name.removesuffix("*") in self._names or name.startswith(self._prefixes)
        return name, is_listed and not is_withheld(canonical_name(name.replace("_", "-")))

    def read(self, headers: Iterable[tuple[bytes, bytes]], of_body: bool = True) -> UploadMetadata:
        """Return the metadata in the *headers* of an upload, or of a part of a form.

        ``X-Mime-Type``, or else ``Content-Type``, is the type of the object.
        ``Content-Encoding`` is the coding in which the object is stored and served.

        :param headers: pairs of name and value, as received.
        :param of_body: whether the request's body is the object.  If not, as for a form,
            ``Content-Type`` and ``Content-Encoding`` are ignored.
        :raises InvalidMetadata: see :func:`sos.model.metadata.check`.
        :raises UnsupportedCoding: if the server could not serve the coding.
        """
        found: dict[str, str] = {}
        ignored: list[str] = []
        content: dict[str, str] = {}
        for raw_name, raw_value in headers:
            if raw_name[:2] in (b"X-", b"x-"):
                name, is_kept = self._judge(raw_name)
                if is_kept:
                    add(found, name, raw_value)
                elif name not in ignored:
                    ignored.append(name)
            elif of_body and len(raw_name) in _CONTENT:  # a cheap test that excludes most names
                lower = raw_name.lower()
                if lower == b"content-type" and _is_type(raw_value):
                    add(content, TYPE, raw_value)
                elif lower == b"content-encoding":
                    add(content, ENCODING, raw_value)
        return UploadMetadata(
            _with_content(check(found), content) if content else check(found), tuple(ignored)
        )


def with_defaults(found: Metadata, defaults: Metadata) -> dict[str, str]:
    """Return *found*, completed with the *defaults* that it lacks."""
    return check({**defaults, **found})


@lru_cache(maxsize=256)  # a server sees the same few in all requests
def _is_type(value: bytes) -> bool:
    return (
        len(value) <= _LONGEST_TYPE
        and is_media_type(value)
        and _SAYS_NOTHING.fullmatch(value) is None
    )


def _with_content(found: dict[str, str], content: dict[str, str]) -> dict[str, str]:
    """Return *found*, completed with the type and the coding in *content*."""
    try:
        encoding = parse_codings(content.get(ENCODING, ""))
    except ValueError as error:
        raise UnsupportedCoding(
            f"the Content-Encoding {str(error)[:80]!a} is not supported: use {', '.join(KNOWN)}, "
            "or send the body without one",
            KNOWN,
        ) from None
    if encoding and ENCODING not in found:
        found = check({**found, ENCODING: encoding})
    if TYPE in content and TYPE not in found:
        with suppress(InvalidMetadata):  # the metadata would be too large with the type
            found = check({**found, TYPE: content[TYPE]})
    return found
