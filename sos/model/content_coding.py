"""Content codings of stored bodies (RFC 9110, 8.4.1)."""

from __future__ import annotations

from functools import lru_cache

#: Codings that browsers decode by themselves.
KNOWN = ("gzip", "deflate", "br", "zstd")

_SAME_AS = {"x-gzip": "gzip", "identity": ""}


@lru_cache(maxsize=64)  # a server sees the same few in all requests
def parse_codings(value: str) -> str:
    """Return the value of a ``Content-Encoding`` in its shortest form, empty for no coding.

    :raises ValueError: naming the first coding that is not :data:`KNOWN`.
    """
    given = (each.strip(" \t").lower() for each in value.split(","))
    codings = [coding for coding in (_SAME_AS.get(each, each) for each in given) if coding]
    for coding in codings:
        if coding not in KNOWN:
            raise ValueError(coding)
    return ", ".join(codings)
