"""The name under which a browser saves an object (RFC 6266)."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from werkzeug.http import dump_options_header

from sos.model.metadata import Metadata

#: The file name that a client has sent.
NAME = "X-Orig-Filename"
#: The same name, percent-encoded: the extended form of a header's value (RFC 8187).
EXTENDED_NAME = "X-Orig-Filename*"

# RFC 8187, 3.2.1, and ISO-8859-1, which its predecessor (RFC 5987) had as well.
_EXTENDED = re.compile(
    r"(UTF-8|ISO-8859-1)'[A-Za-z0-9-]*'((?:%[0-9A-F]{2}|[!#$&+.^_`|~0-9A-Za-z-])+)", re.IGNORECASE
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def disposition(metadata: Metadata) -> bytes | None:
    """Return the ``Content-Disposition`` of an object, or None if it has no usable name.

    Directories are removed from the name, and control characters replaced: a percent-encoded
    value can contain any character.
    """
    found = _extended(metadata.get(EXTENDED_NAME, ""))
    if found is None and NAME in metadata:
        found = _extended(metadata[NAME]) or _as_text(metadata[NAME])
    parts = (part.strip() for part in (found or "").replace("\\", "/").split("/"))
    last = [part for part in parts if part][-1:]
    if not last or last in (["."], [".."]):
        return None
    name = _CONTROL.sub("_", last[0])
    names = {"filename": name.encode("ascii", "replace").decode("ascii")}
    if not name.isascii():
        names["filename*"] = f"UTF-8''{quote(name, safe='')}"
    return dump_options_header("inline", names).encode("ascii")


def _extended(value: str) -> str | None:
    """Decode *value*; return None if it is not in the extended form."""
    match = _EXTENDED.fullmatch(value)
    try:
        return None if match is None else unquote(match[2], match[1], "strict")
    except UnicodeDecodeError:
        return None


def _as_text(value: str) -> str:
    """Decode the bytes of a header as UTF-8 or, if they are not UTF-8, as Latin-1."""
    if value.isascii():
        return value
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
