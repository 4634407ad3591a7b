"""Checks of the types of Redis replies: the server at the address can be anything.

Each function returns a *reply* of its type, and raises :exc:`~sos.errors.Unavailable` for any
other.
"""

from __future__ import annotations

from typing import Any

from sos.errors import Unavailable


def text(reply: Any) -> bytes:
    """Return a text."""
    if not isinstance(reply, bytes):
        raise _unexpected(reply, "a text")
    return reply


def text_or_none(reply: Any) -> bytes | None:
    """Return a text, or None."""
    return None if reply is None else text(reply)


def number(reply: Any) -> int:
    """Return a whole number, of 0 or more."""
    if type(reply) is not int or reply < 0:
        raise _unexpected(reply, "a number")
    return reply


def texts(reply: Any) -> list[bytes]:
    """Return a list of texts."""
    return [text(each) for each in _list(reply)]


def texts_or_none(reply: Any, count: int) -> list[bytes | None]:
    """Return a list of *count* texts, each of which may be missing."""
    if len(_list(reply)) != count:
        raise _unexpected(reply, f"a list of {count}")
    return [text_or_none(each) for each in reply]


def pairs(reply: Any) -> list[tuple[bytes, bytes]]:
    """Return a flat list of texts as pairs."""
    found = texts(reply)
    if len(found) % 2:
        raise _unexpected(reply, "a list of pairs")
    return list(zip(found[::2], found[1::2], strict=True))


def _list(reply: Any) -> list[Any]:
    if not isinstance(reply, list):
        raise _unexpected(reply, "a list")
    return reply


def _unexpected(reply: Any, wanted: str) -> Unavailable:
    # Name the type and not the content, which could be anything.
    return Unavailable(f"Redis answered with {type(reply).__name__} where {wanted} was expected")
