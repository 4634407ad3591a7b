"""Names of files as they are printed: any byte can be in one, but NUL and a slash."""

from __future__ import annotations

import os

# As sha1sum and its like escape a name, and understand it with --check.
_ESCAPED = {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r"}


def printable(text: str) -> str:
    """Return *text* with escapes for what no terminal should see, and no text file hold."""
    return shown(os.fsencode(text).decode("utf-8", "backslashreplace"))


def shown(text: str) -> str:
    """Return *text*, which is no name of a file, in the same way."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def list_line(id: str, name: str) -> bytes:
    r"""Return the line that tells the *id* of the file *name*, in the format of sha1sum.

    The name's bytes are as they are, and the line begins with a backslash when some
    of them had to be escaped: a newline ``\n``, a carriage return ``\r``, a
    backslash ``\\``.
    """
    escaped = name.translate(_ESCAPED)
    mark = "" if escaped == name else "\\"
    return os.fsencode(f"{mark}{id}  {escaped}\n")
