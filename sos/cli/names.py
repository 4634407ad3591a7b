"""Escape file names for output, and read ids from input.

A name can contain any byte but NUL and a slash.
"""

from __future__ import annotations

import os

from sos.model import ids

# The escapes of sha1sum and similar tools, which they read with --check.
_ESCAPED = {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r"}


def printable(text: str) -> str:
    """Return the file name *text* with escapes for unprintable characters and invalid UTF-8."""
    return shown(os.fsencode(text).decode("utf-8", "backslashreplace"))


def shown(text: str) -> str:
    """Return *text*, other than a file name, with escapes for unprintable characters."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def list_line(id: str, name: str) -> bytes:
    r"""Return the line for the *id* of the file *name*, in the format of sha1sum.

    It contains the bytes of the name.  If the name needs escapes (a newline ``\n``, a
    carriage return ``\r``, a backslash ``\\``), the line starts with a backslash.
    """
    escaped = name.translate(_ESCAPED)
    mark = "" if escaped == name else "\\"
    return os.fsencode(f"{mark}{id}  {escaped}\n")


def listed_id(line: str) -> str | None:
    """Return the id at the start of a line, which may be one of :func:`list_line`; None if blank.

    Raises InvalidId.
    """
    words = line.split(maxsplit=1)
    return object_id(words[0].removeprefix("\\")) if words else None


def object_id(text: str) -> str:
    """Return the id in *text*, which may have an extension as in /fetch/ID.jpg."""
    return ids.check(text.partition(".")[0])
