"""How a Redis is doing, from what it tells of itself."""

from __future__ import annotations

from sos.interfaces import StoreStatus


def state(info: bytes, blobs: int, size: int) -> StoreStatus:
    """Return the status of a store of so many *blobs*, of *size* bytes together.

    :param info: the answer to ``INFO``.
    """
    fields = dict(_fields(info))
    capacity = _number(fields, "maxmemory") or _number(fields, "total_system_memory")
    used = _number(fields, "used_memory") or 0
    free = None if capacity is None else max(0, capacity - used)
    reason = _reason(fields, free)
    return StoreStatus(reason is None, reason, blobs, size, capacity, free)


def _reason(fields: dict[str, str], free: int | None) -> str | None:
    """Return why it takes no blobs now, None when it does."""
    if fields.get("role") == "slave":
        return "this Redis is a replica of another, to which blobs have to go"
    if fields.get("aof_last_write_status", "ok") != "ok":
        return "the Redis cannot write to its disk, see its log"
    if free == 0:
        return "the Redis is full: it has reached its maxmemory"
    return None


def _fields(info: bytes) -> list[tuple[str, str]]:
    lines = info.decode("utf-8", "replace").splitlines()
    return [
        (name, value) for name, colon, value in (line.partition(":") for line in lines) if colon
    ]


def _number(fields: dict[str, str], name: str) -> int | None:
    text = fields.get(name, "")
    return int(text) if text.isdecimal() and text != "0" else None
