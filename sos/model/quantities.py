"""Numbers, times and sizes: from text to a checked value.

Each function raises ValueError for text that is not valid.
"""

from __future__ import annotations

import math
import re

from attrs import frozen

from sos.model.addresses import shown

_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_SIZE = re.compile(r"([0-9]{1,19})\s*([KMGT]?)(i?B)?", re.IGNORECASE)
# Values beyond these are mistakes, and arithmetic with them would fail later.
_MOST_COPIES = 1000
_MOST_SECONDS = 1e9


def port(text: str) -> int:
    """A TCP port, 0 to 65535 (0 lets the system choose)."""
    number = _integer(text)
    if not 0 <= number <= 65535:
        raise ValueError(f"{text} is not a port from 0 to 65535")
    return number


def copies(text: str) -> int:
    """A number of copies of each blob, 1 or more."""
    number = _integer(text)
    if not 1 <= number <= _MOST_COPIES:
        raise ValueError(f"{text} is not a number of copies from 1 to {_MOST_COPIES}")
    return number


def seconds(text: str) -> float:
    """A time span in seconds, 0 or more."""
    number = number_of(text)
    if not 0 <= number <= _MOST_SECONDS:
        raise ValueError(f"{shown(text)} is not a number of seconds from 0 to {_MOST_SECONDS:.0f}")
    return number


def timeout(text: str) -> float:
    """A time span of 1 second or more."""
    number = seconds(text)
    if number < 1:
        raise ValueError(f"{shown(text)} is not a timeout of at least 1 second")
    return number


def duration(text: str) -> int:
    """A time span: ``90s``, ``15m``, ``12h``, ``30d``; in seconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise ValueError(f"{shown(text)} is not a time span; write it like 90s, 15m, 12h or 30d")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def interval(text: str) -> int:
    """A time span as :func:`duration` takes it, or ``0`` for never; in seconds."""
    return 0 if text.strip() == "0" else duration(text)


def grace(text: str) -> int:
    """A time span of an hour or more, in seconds."""
    found = duration(text)
    if found < 3600:
        raise ValueError(f"{shown(text)} is less than 1h")
    return found


def size(text: str) -> int:
    """A number of bytes: ``4096``, ``64K``, ``8M``, ``5G``, ``1T`` (powers of 1024)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{shown(text)} is not a size; write it like 4096, 64K, 8M, 5G or 1T")
    number = int(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")
    if number >= 1 << 63:
        raise ValueError(f"{text} is too large: a size is below 8388608T")
    return number


@frozen
class Reserve:
    """The space of a disk to keep free: in bytes, or as a percentage of its size."""

    bytes: int = 0
    percent: float = 0.0

    def of(self, capacity: int) -> int:
        """Return the reserve of a disk of *capacity* bytes, in bytes."""
        return self.bytes + int(capacity * self.percent / 100)

    def __str__(self) -> str:
        return f"{self.percent:g}%" if self.percent else f"{self.bytes} bytes"


#: No reserve: the whole disk may be filled.
NO_RESERVE = Reserve()


def reserve(text: str) -> Reserve:
    """A size, or a percentage: ``10G``, ``1%``."""
    number = text.strip().removesuffix("%")
    if number == text.strip():
        return Reserve(bytes=size(text))
    percent = number_of(number)
    if not 0 <= percent < 100:
        raise ValueError(f"{shown(text)} is not a reserve; write a size (10G), or 0% to 99%")
    return Reserve(percent=percent)


@frozen
class Quota:
    """The most that a store takes: bytes of bodies, and blobs; None for any number."""

    bytes: int | None = None
    blobs: int | None = None

    def allows(self, blobs: int, bytes: int) -> bool:
        """Return whether a store may hold *blobs* of *bytes* together."""
        too_many = self.blobs is not None and blobs > self.blobs
        return not too_many and (self.bytes is None or bytes <= self.bytes)

    def __str__(self) -> str:
        limits = ((self.bytes, "bytes"), (self.blobs, "blobs"))
        return " and ".join(f"{most} {unit}" for most, unit in limits if most is not None)


#: No quota.
NO_QUOTA = Quota()


def count(text: str) -> int:
    """A number of 1 or more."""
    number = _integer(text)
    if number < 1:
        raise ValueError(f"{text} is not a number of at least 1")
    return number


def limit(text: str) -> int:
    """A size of 1 byte or more."""
    number = size(text)
    if number < 1:
        raise ValueError(f"{text} is not a limit of at least 1 byte")
    return number


def chunk_size(text: str) -> int:
    """A size of 64 KiB or more, or 0."""
    number = size(text)
    if 0 < number < 64 * 1024:
        raise ValueError(f"{text} is not a chunk size: it must be at least 64K, or 0")
    return number


def number_of(text: str) -> float:
    """Return the number *text* if it is finite, or else NaN."""
    if not text.isascii():  # Python also parses digits of other scripts
        return math.nan
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _integer(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"{shown(text)} is not a whole number, or is too large")
    return int(text)
