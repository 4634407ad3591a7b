"""Ids, and the partition of each.

An *id* is 1 to 128 lower-case ASCII letters and digits.  40 hex digits are the
SHA-1 of the content, 64 its SHA-256: a *content id*, and the bytes stored
under it must hash to it.  Any other id is an *opaque name*, whose bytes are
fixed by the first write.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha1

from sos.errors import InvalidId

#: The hash of new content ids by default, as in the original system.
DEFAULT_ALGORITHM = "sha1"

#: Length of a content id in hex digits, by the algorithm that makes it.
ALGORITHMS = {"sha1": 40, "sha256": 64}

_ID = re.compile(r"[0-9a-z]{1,128}")
_HEX = re.compile(r"[0-9a-f]+")
_PARTITION = re.compile(r"[0-9a-f]{3}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def check(text: str) -> str:
    """Return *text* if it is an id, or raise :exc:`~sos.errors.InvalidId`."""
    if _ID.fullmatch(text) is None:
        shown = ascii(text if len(text) <= 140 else text[:140] + "...")
        raise InvalidId(f"{shown} is not an id: 1 to 128 of a-z and 0-9")
    return text


@lru_cache(maxsize=1024)  # a request needs it several times for its id
def algorithm(id: str) -> str | None:
    """Return the name of the hash that made *id*, or None for an opaque name."""
    if len(id) == 40 and _HEX.fullmatch(id):
        return "sha1"
    if len(id) == 64 and _HEX.fullmatch(id):
        return "sha256"
    return None


def partition(id: str) -> str:
    """Return the partition of *id*, three hex digits, for placement and comparison.

    There are 4096: the first digits of a content id, or of the SHA-1 of an opaque
    name.
    """
    if algorithm(id) is not None:
        return id[:3]
    return sha1(id.encode("ascii")).hexdigest()[:3]


def check_partition(text: str) -> str:
    """Return *text* if it names a partition, or raise InvalidId."""
    if _PARTITION.fullmatch(text) is None:
        raise InvalidId(f"{text[:20]!a} is not a partition: three hex digits")
    return text


def sort_key(id: str) -> str:
    """Return the key that listings are ordered by: the partition, then the id."""
    return partition(id) + id


def is_store_id(id: object) -> bool:
    """Return whether *id* can be the id of a store: a UUID, as :func:`uuid.uuid4` writes them."""
    return isinstance(id, str) and _UUID.fullmatch(id) is not None
