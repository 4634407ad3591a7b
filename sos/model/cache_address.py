"""The address of a cache that API servers share: the text of ``--cache``."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from attrs import field, frozen

_PORTS = {"memcached": 11211, "redis": 6379}
_FORMS = (
    "memcached://host:port, redis://host:port/database, redis://:password@host, or with the "
    "path of a Unix socket memcached:///path, redis:///path"
)


@frozen
class CacheAddress:
    """The address of a cache; ``str()`` of it has no password.

    :param kind: ``memcached`` or ``redis``.
    :param host: empty, and the port 0, if there is a socket.
    :param socket: the path of a Unix socket, or None.
    :param database: the number of the Redis database, 0 for memcached.
    """

    kind: str
    host: str
    port: int
    socket: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0

    def __str__(self) -> str:
        if self.socket is not None:
            return f"{self.kind}://{self.socket}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        database = f"/{self.database}" if self.kind == "redis" else ""
        return f"{self.kind}://{host}:{self.port}{database}"


def cache_address(text: str) -> CacheAddress:
    """Parse the URL of a cache, or raise ValueError, without the password in its text."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"the value is not the URL of a cache: {_FORMS}") from None
    kind, path = parts.scheme, unquote(parts.path)
    if kind not in _PORTS or parts.query or parts.fragment or not text.isprintable():
        raise ValueError(f"the value is not the URL of a cache: {_FORMS}")
    if kind == "memcached" and "@" in parts.netloc:
        raise ValueError("the URL of a memcached server must not contain a user or a password")
    user, password = parts.username, parts.password
    if user and not password:
        raise ValueError("the URL of the cache has a user, but no password")
    secrets = unquote(user) if user else None, unquote(password) if password else None
    if host is None:
        if not path.strip("/") or "\0" in path:
            raise ValueError(f"the URL of the cache has no host: {_FORMS}")
        return CacheAddress(kind, "", 0, path, *secrets)
    database = path.strip("/")
    if database and (kind == "memcached" or not re.fullmatch("[0-9]{1,9}", database)):
        raise ValueError("the path of a cache's URL is empty, or the number of a Redis database")
    port = _PORTS[kind] if port is None else port
    if port == 0:
        raise ValueError("0 is not the port of a cache")
    return CacheAddress(kind, host, port, None, *secrets, int(database or 0))
