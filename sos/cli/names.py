"""Escape file names for output: a name can contain any byte but NUL and a slash."""

from __future__ import annotations

import os

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
