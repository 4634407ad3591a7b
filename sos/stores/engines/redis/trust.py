"""Checks of a Redis before it gets blobs: its settings, and whether it holds the store."""

from __future__ import annotations

import re
from uuid import uuid4

from attrs import frozen
from twisted.logger import Logger

from sos.errors import NoSpace, ReadOnly, StoreUnusable, Unavailable, printable
from sos.stores.engines.redis import replies
from sos.stores.engines.redis.address import StoreAddress
from sos.stores.engines.redis.connection import RedisConnection, granted
from sos.stores.engines.redis.scripts import OPEN

#: The version of the format: the keys that :mod:`sos.stores.engines.redis.scripts` describes, and
#: pieces of :data:`sos.stores.engines.redis.record.PIECE` bytes.
_FORMAT = b"sos redis 1"
_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# The settings without which Redis can lose acknowledged blobs, and why.
_WANTED = (
    ("appendonly", "yes", "or a restart loses everything since the last snapshot"),
    ("appendfsync", "always", "or a power cut loses what was acknowledged just before"),
    ("no-appendfsync-on-rewrite", "no", "or nothing is synced while Redis rewrites its log"),
)

_log = Logger()


async def check_settings(connection: RedisConnection, address: StoreAddress) -> None:
    """Raise StoreUnusable unless the settings of the Redis keep acknowledged writes."""
    info = replies.text(
        await granted(
            connection, f"{address} forbids INFO: permit its user that command", "INFO", "memory"
        )
    )
    policy = _field(info, b"maxmemory_policy")
    if policy != "noeviction":
        raise _untrusted(address, "maxmemory-policy", policy, "noeviction", "or Redis evicts blobs")
    if not address.durable:
        return
    refused = (
        f"{address} does not show its settings: permit its user the command CONFIG GET, or skip "
        "the check with durability=relaxed"
    )
    for name, wanted, why in _WANTED:
        answer = replies.texts(await granted(connection, refused, "CONFIG", "GET", name))
        value = _shown(answer[1]) if len(answer) == 2 else "missing"
        if value != wanted:
            raise _untrusted(address, name, value, wanted, why)


@frozen
class StoreMark:
    """A key and its value that prove that the store is there: its id, or its format."""

    key: str
    value: bytes

    @property
    def identity(self) -> str | None:
        """The id of the store; None if the store is older than ids, and its mark is its format."""
        return None if self.value == _FORMAT else self.value.decode("ascii")


async def open_store(
    connection: RedisConnection, address: StoreAddress, require: bool
) -> StoreMark:
    """Return the mark of the store in the Redis; make a new store if there is nothing.

    :param require: whether the store must exist already.
    :raises StoreUnusable: if there is no store and *require* forbids a new one, or the prefix
        holds a part of a store or another format.
    """
    prefix = address.prefix
    format, id = f"{prefix}:format", f"{prefix}:id"
    there = await connection.ask("GET", format)
    held = await connection.ask("GET", id) if there == _FORMAT else None
    if held is None:
        new = str(uuid4()).encode("ascii")
        keys = [format, id, f"{prefix}:ids", f"{prefix}:digests"]
        try:
            held = await connection.run(OPEN, keys, (_FORMAT, new, int(require)))
        except (ReadOnly, NoSpace):
            if there != _FORMAT:
                raise
            return StoreMark(format, _FORMAT)  # an old store without an id can be read
        if held == new:
            what = (
                "created a new store in {store}"
                if there is None
                else "gave an id to the store {store}"
            )
            _log.info(f"{what}, id={{id}}", store=address, id=new.decode("ascii"))
    if held == b"none":
        raise StoreUnusable(
            f"{address} contains no store, and --require-store forbids creating one"
        )
    if held == b"lost":
        raise StoreUnusable(
            f"{address} holds part of a store, but its key {format} is missing: restore a backup "
            "of all its keys, or choose another prefix"
        )
    if held == b"format":
        raise StoreUnusable(
            f"{address} does not hold a store of format {_FORMAT!r}; choose another prefix"
        )
    if _ID.fullmatch(replies.text(held)) is None:
        raise StoreUnusable(f"{address}: the key {id} does not contain a store id")
    return StoreMark(id, held)


async def check_store(connection: RedisConnection, address: StoreAddress, mark: StoreMark) -> None:
    """Raise Unavailable unless the Redis holds the store with *mark*, in the known format."""
    if await connection.ask("GET", f"{address.prefix}:format") != _FORMAT:
        raise Unavailable(f"{address} no longer holds the store")
    held = await connection.ask("GET", mark.key)
    if held != mark.value:
        raise Unavailable(f"{address} holds another store, id={held!r:.50}, not {mark.identity}")


def _field(info: bytes, name: bytes) -> str:
    for each in info.splitlines():
        if each.startswith(name + b":"):
            return _shown(each.partition(b":")[2])
    return "unknown"


def _shown(value: bytes) -> str:
    """Return the value of a setting, made printable and cut for the log."""
    text = value[:100].decode("utf-8", "replace")
    return printable(text)


def _untrusted(
    address: StoreAddress, name: str, value: str, wanted: str, why: str
) -> StoreUnusable:
    return StoreUnusable(
        f"{address} cannot be trusted with blobs: its {name} is {value}; set it to {wanted}, {why}"
    )
