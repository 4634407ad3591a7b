"""What the headers of an upload say of the object: its metadata, and what is not taken for that."""

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

# Types that clients declare when they know none.
_SAYS_NOTHING = re.compile(
    rb"(?:application/(?:x-www-form-urlencoded|octet-stream|x-octet-stream|unknown)"
    rb"|binary/octet-stream)[ \t]*(?:;.*)?|.*\*.*",
    re.IGNORECASE,
)
# Two names of 127 characters each (RFC 6838, 4.2), with room for parameters.
_LONGEST_TYPE = 512
_CONTENT = frozenset(map(len, ("Content-Type", "Content-Encoding")))


@frozen
class Said:
    """What a client says of an object.

    :ivar metadata: what is kept.
    :ivar ignored: names of the X-* headers that are not, in their canonical spelling.
    """

    metadata: dict[str, str]
    ignored: tuple[str, ...]


class KeptHeaders:
    """Which X-* headers of clients are kept.

    :param patterns: names, and beginnings of names with ``*`` behind them, separated by commas,
        as :func:`sos.model.config.header_patterns` gives them: no other is kept.  A name is also
        good for its extended form (``X-Orig-Filename*``, see RFC 8187).  None keeps
        whatever is not foreign, see :mod:`sos.model.foreign_headers`.
    """

    def __init__(self, patterns: str | None = None) -> None:
        self._judge = lru_cache(maxsize=256)(self._judged)
        self._listed = patterns is not None
        listed = [canonical_name(each.strip()) for each in (patterns or "").split(",")]
        self._names = frozenset(each for each in listed if not each.endswith("*"))
        self._prefixes = tuple(each[:-1] for each in listed if each.endswith("*"))

    def _judged(self, raw_name: bytes) -> tuple[str, bool]:
        """Return a header's name as it is kept, and whether it is."""
        name = canonical_name(raw_name.decode("latin-1"))
        if not self._listed:
            return name, not is_foreign(name)
        is_listed = name.removesuffix("*") in self._names or name.startswith(self._prefixes)
        return name, is_listed and not is_withheld(canonical_name(name.replace("_", "-")))

    def read(self, headers: Iterable[tuple[bytes, bytes]], of_body: bool = True) -> Said:
        """Return what the *headers* of an upload, or of a part of a form, say of the object.

        ``Content-Type`` is its type, unless ``X-Mime-Type`` is; ``Content-Encoding`` the coding
        that it was sent in, and is kept and served in.

        :param headers: pairs of name and value, as they came.
        :param of_body: whether the body is the object, so that what they say of the body holds
            for that; a form has it in each part.
        :raises InvalidMetadata: see :func:`sos.model.metadata.check`.
        :raises UnsupportedCoding: of a coding that could not be served.
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
            elif of_body and len(raw_name) in _CONTENT:  # most are told apart by that already
                lower = raw_name.lower()
                if lower == b"content-type" and _is_type(raw_value):
                    add(content, TYPE, raw_value)
                elif lower == b"content-encoding":
                    add(content, ENCODING, raw_value)
        return Said(
            _with_content(check(found), content) if content else check(found), tuple(ignored)
        )


def with_defaults(found: Metadata, defaults: Metadata) -> dict[str, str]:
    """Return the metadata that was *found*, and of the *defaults* what is not among it."""
    return check({**defaults, **found})


@lru_cache(maxsize=256)  # a server sees the same few in all requests
def _is_type(value: bytes) -> bool:
    return (
        len(value) <= _LONGEST_TYPE
        and is_media_type(value)
        and _SAYS_NOTHING.fullmatch(value) is None
    )


def _with_content(found: dict[str, str], content: dict[str, str]) -> dict[str, str]:
    """Return the metadata that was *found*, and what *content* adds to it."""
    try:
        encoding = parse_codings(content.get(ENCODING, ""))
    except ValueError as error:
        raise UnsupportedCoding(
            f"a body in the coding {str(error)[:80]!a} cannot be served as one: send it in "
            f"{', '.join(KNOWN)} or in none, without Content-Encoding",
            KNOWN,
        ) from None
    if encoding and ENCODING not in found:
        found = check({**found, ENCODING: encoding})
    if TYPE in content and TYPE not in found:
        with suppress(InvalidMetadata):  # with what it is in addition to it is too much
            found = check({**found, TYPE: content[TYPE]})
    return found
