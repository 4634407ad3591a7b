"""Whether a Redis can be trusted with blobs: its settings, and what it holds already."""

from __future__ import annotations

from contextlib import suppress

from sos.errors import ReadOnly, StoreUnusable, Unavailable
from sos.stores.redis.address import StoreAddress
from sos.stores.redis.connection import Line, granted

#: The version of what :mod:`sos.stores.redis.scripts` describes, with pieces of
#: :data:`sos.stores.redis.record.PIECE` bytes.
FORMAT = b"sos redis 1"

# What has to be set for nothing acknowledged to be lost, and why.
_WANTED = (
    ("appendonly", "yes", "or a restart loses everything since the last snapshot"),
    ("appendfsync", "always", "or a power cut loses what was acknowledged just before"),
    ("no-appendfsync-on-rewrite", "no", "or nothing is synced while its log is rewritten"),
)


async def check_settings(line: Line, address: StoreAddress) -> None:
    """Raise StoreUnusable unless the Redis is set to keep what it acknowledges."""
    told = await granted(line, f"{address} does not allow INFO", "INFO", "memory")
    policy = _field(told, b"maxmemory_policy")
    if policy != "noeviction":
        raise _untrusted(address, "maxmemory-policy", policy, "noeviction", "or it forgets blobs")
    if not address.durable:
        return
    refused = (
        f"{address} does not tell its settings: allow its user the command CONFIG GET, or vouch "
        "for them with durability=relaxed"
    )
    for name, wanted, why in _WANTED:
        answer = await granted(line, refused, "CONFIG", "GET", name)
        value = answer[1].decode("utf-8", "replace") if len(answer or ()) == 2 else "not there"
        if value != wanted:
            raise _untrusted(address, name, value, wanted, why)


async def check_format(line: Line, address: StoreAddress) -> None:
    """Raise Unavailable unless the store is there, StoreUnusable when it has another format."""
    found = await line.ask("GET", format_key(address.prefix))
    if found is None:
        raise Unavailable(f"{address} does not hold the store, or not any more")
    if found != FORMAT:
        raise StoreUnusable(f"{address} holds something else than a store of format {FORMAT!r}")


async def prepare(line: Line, address: StoreAddress) -> None:
    """Begin a store where there is none.  Raises as :func:`check_format` does."""
    with suppress(ReadOnly):  # one that is there can be read
        await line.ask("SET", format_key(address.prefix), FORMAT, "NX")
    await check_format(line, address)


def format_key(prefix: str) -> str:
    """Return the name of the key that holds the version of the format."""
    return f"{prefix}:format"


def _field(told: bytes, name: bytes) -> str:
    for each in told.splitlines():
        if each.startswith(name + b":"):
            return each.partition(b":")[2].decode("utf-8", "replace")
    return "not told"


def _untrusted(
    address: StoreAddress, name: str, value: str, wanted: str, why: str
) -> StoreUnusable:
    return StoreUnusable(
        f"{address} cannot be trusted with blobs: its {name} is {value}; set it to {wanted}, {why}"
    )
