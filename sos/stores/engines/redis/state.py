"""The capacity of a Redis, from its answer to ``INFO memory``."""

from __future__ import annotations


def room(info: bytes) -> tuple[int | None, int | None]:
    """Return the capacity of a Redis and its free part, in bytes; None for what is unknown.

    The capacity is its maxmemory or, without one, the memory of its machine.

    :param info: the answer to ``INFO memory``.
    """
    fields = dict(line.partition(b":")[::2] for line in info.splitlines())
    capacity = _number(fields, b"maxmemory") or _number(fields, b"total_system_memory")
    used = _number(fields, b"used_memory")
    if capacity is None or used is None:
        return capacity, None
    return capacity, max(0, capacity - used)


def _number(fields: dict[bytes, bytes], name: bytes) -> int | None:
    text = fields.get(name, b"")
    return int(text) or None if text.isdigit() and len(text) < 20 else None
