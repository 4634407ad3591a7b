"""The address of a Redis that stores blobs: the text of ``--store``."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from attrs import evolve, field, frozen

from sos.model.cache_address import CacheAddress, cache_address

#: The prefix of all keys, unless the URL has another.
PREFIX = "sos"

_FORMS = (
    "redis://host:port/database, redis://:password@host, redis://user:password@host, rediss:// "
    "for TLS, or redis:///path?db=1 for a Unix socket; options after the ?, with & between "
    "them: prefix=NAME, password-file=PATH, ca-file=PATH and durability=relaxed"
)
_OPTIONS = frozenset(("prefix", "password-file", "ca-file", "durability", "db"))
_PREFIX = re.compile("[0-9A-Za-z][0-9A-Za-z_.:-]{0,63}")
_DATABASE = re.compile("[0-9]{1,9}")


@frozen
class StoreAddress:
    """The address of a Redis, and the options of its store; ``str()`` omits the password.

    :param server: its host or socket, and the database.
    :param tls: whether to speak TLS with it.
    :param password_file: the file to read the password from for each connection, or None.
    :param ca_file: a file with the certificates to trust instead of the system's, or None.
    :param prefix: the prefix of all keys.
    :param durable: False if the operator accepts that Redis can lose acknowledged blobs.
    """

    server: CacheAddress
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    ca_file: str | None = None
    prefix: str = PREFIX
    durable: bool = True

    def __str__(self) -> str:
        text = str(self.server)
        options = []
        if self.server.socket is not None and self.server.database:
            options.append(f"db={self.server.database}")
        if self.prefix != PREFIX:
            options.append(f"prefix={self.prefix}")
        text = text.replace("redis:", "rediss:", 1) if self.tls else text
        return "?".join([text, "&".join(options)]) if options else text


def store_address(text: str) -> StoreAddress:
    """Parse the URL of a store; the message of a ValueError contains no password."""
    try:
        parts = urlsplit(text)
        userinfo, _, place = parts.netloc.rpartition("@")
        server = cache_address(urlunsplit(("redis", place, parts.path, "", "")))
        pairs = parse_qsl(parts.query, True, True) if parts.query else []
    except ValueError:
        raise ValueError(f"not a Redis URL; expected {_FORMS}") from None
    if not text.isprintable() or parts.fragment or parts.scheme not in ("redis", "rediss"):
        raise ValueError(f"not a Redis URL; expected {_FORMS}")
    options = dict(pairs)
    if len(pairs) != len(options) or not _OPTIONS.issuperset(options):
        raise ValueError(f"an option is unknown or given twice; expected {_FORMS}")
    user, _, password = map(unquote, userinfo.partition(":"))
    address = StoreAddress(
        server=_with_database(server, options.get("db")),
        tls=parts.scheme == "rediss",
        user=user or None,
        password=password or None,
        password_file=_absolute(options.get("password-file")),
        ca_file=_absolute(options.get("ca-file")),
        prefix=options.get("prefix", PREFIX),
        durable="durability" not in options,
    )
    if options.get("durability", "relaxed") != "relaxed":
        raise ValueError("the only value of durability= is relaxed")
    _check(address)
    return address


def _with_database(server: CacheAddress, database: str | None) -> CacheAddress:
    if database is None:
        return server
    if server.socket is None:
        raise ValueError("with a host, write the database as a path: redis://host/1")
    if _DATABASE.fullmatch(database) is None:
        raise ValueError("the database must be a number: db=1")
    return evolve(server, database=int(database))


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def _check(address: StoreAddress) -> None:
    if address.password is not None and address.password_file is not None:
        raise ValueError("give either a password or a password-file, not both")
    if address.user is not None and address.password is address.password_file is None:
        raise ValueError("the URL has a user but no password")
    if address.ca_file is not None and not address.tls:
        raise ValueError("ca-file= needs TLS: write rediss://")
    if address.tls and address.server.socket is not None:
        raise ValueError("a Unix socket does not use TLS: write redis:///path")
    if _PREFIX.fullmatch(address.prefix) is None:
        raise ValueError("a prefix has up to 64 letters, digits, and any of _ . : -")
