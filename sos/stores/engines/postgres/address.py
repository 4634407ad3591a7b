"""The address of a store: the URL of ``--store``, a libpq URL with two more options."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from attrs import field, frozen
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

#: Timeout of a connection attempt in seconds.
CONNECT_SECONDS = 5

_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_DURABILITY = ("strict", "relaxed")
_FORM = "postgresql://user@host:port/database?table=name, or another URL that libpq understands"

# Defaults for options that the URL lacks; the keepalives detect a dead peer.
_DEFAULTS = {
    "application_name": "sos",
    "connect_timeout": str(CONNECT_SECONDS),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


@frozen
class Address:
    """The address of the tables of one store.

    :param conninfo: the connection string for libpq, which may contain a password.
    :param table: the name of the table of blobs, and the prefix of all other table names.
    :param relaxed: whether to accept settings with which a crash can lose acknowledged blobs.
    :param name: the name of the store in the log, without the password.
    """

    conninfo: str = field(repr=False)
    table: str
    relaxed: bool
    name: str


def address(url: str) -> Address:
    """Parse *url*; the message of a ValueError contains no password."""
    base, mark, query = url.partition("?")
    own = {"table": "sos", "durability": "strict"}
    rest = []
    for setting in query.split("&") if mark else ():
        key, _, value = setting.partition("=")
        if key in own:
            own[key] = unquote(value)
        else:
            rest.append(setting)
    if _TABLE.fullmatch(own["table"]) is None:
        raise ValueError(f"{own['table'][:60]!a} is not a table name: a-z, 0-9 and _, at most 41")
    if own["durability"] not in _DURABILITY:
        raise ValueError(f"durability must be strict or relaxed, not {own['durability'][:20]!a}")
    try:
        given = conninfo_to_dict(base + ("?" + "&".join(rest) if rest else ""))
        _check_ports(str(given.get("port") or ""))
    except (ProgrammingError, ValueError):
        # The message of libpq may quote the password.
        raise ValueError(f"not a PostgreSQL URL; expected {_FORM}") from None
    conninfo = make_conninfo("", **{**_DEFAULTS, **given})
    return Address(
        conninfo, own["table"], own["durability"] == "relaxed", _name(given, own["table"])
    )


def _check_ports(text: str) -> None:
    for port in text.split(","):
        if port and not 0 < int(port) < 65536:
            raise ValueError("that is not a port")


def _name(given: dict[str, str | int | None], table: str) -> str:
    text = {key: quote(str(value or ""), safe="/,:[]") for key, value in given.items()}
    user = f"{text['user']}@" if text.get("user") else ""
    hosts, ports = text.get("host", "").split(","), text.get("port", "").split(",")
    if len(ports) != len(hosts):
        ports = ports[:1] * len(hosts)
    pairs = ",".join(
        host + (f":{port}" if port else "") for host, port in zip(hosts, ports, strict=True)
    )
    return f"postgresql://{user}{pairs}/{text.get('dbname', '')}?table={table}"
