"""sos.conf: the blob servers by group, and settings.

Either plain lines of URLs, which are the group ``default``, or INI sections,
one a group, with lines ``-: http://host:port``.  After a URL may stand
``readonly``, ``preferred``, ``weight=NUMBER`` and ``name=NAME``.  The section
``[sos]`` holds settings, ``name = value``.  ``#`` starts a comment.

This is no INI file to :mod:`configparser`: that merges equal lines and forgets
line numbers, and every error here names its line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import urlsplit

from attrs import Factory, evolve, frozen

from sos import ids
from sos.cache_address import cache_address
from sos.errors import ConfigError

DEFAULT_GROUP = "default"
#: Processes of one daemon; past the number of processors more are of no use.
MOST_PROCESSES = 64
_SETTINGS_SECTION = "sos"

_SECTION = re.compile(r"\[([^\[\]]+)\]")
_COMMENT = re.compile(r"(^|\s)#.*")
_DURATION = re.compile(r"(\d{1,9})([smhd])")
# RFC 1123, 2.1; any other could never be connected to.
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(\.{_LABEL})*\.?")
# As names that a proxy or a container platform gives can be, underscores included; a last
# label of digits is part of an address.
_OWN_NAME = re.compile(r"(?=.{1,253}\Z)([a-z0-9_-]{1,63}\.)*(?![0-9]+\Z)[a-z0-9_-]{1,63}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(i?B)?", re.IGNORECASE)


@frozen
class Server:
    """One blob server, as the configuration marks it.

    :param url: its address, without a trailing slash.
    :param readonly: never written to.
    :param preferred: tried before its fellows.
    :param weight: its share of the partitions, relative to its fellows'.
    :param name: what placement knows it by, its URL by default: with the same
        name a server that has moved to another URL keeps its partitions.
    """

    url: str
    readonly: bool = False
    preferred: bool = False
    weight: float = 1.0
    name: str = Factory(lambda self: self.url, takes_self=True)


@frozen
class Config:
    """Servers by group, in the order of the text, and the settings made."""

    groups: Mapping[str, tuple[Server, ...]] = {}
    settings: Mapping[str, Any] = {}


class _Marked(Protocol):
    """A server, or what stands for it."""

    @property
    def readonly(self) -> bool: ...


def too_small(groups: Mapping[str, Sequence[_Marked]], copies: int) -> list[str]:
    """Say which *groups* have too few servers for so many *copies*, and what to do.

    :param groups: the servers of each, by its name.
    """
    said = []
    for name, servers in groups.items():
        # Nothing is written to a group that is read-only as a whole: it has what it has.
        able = sum(not server.readonly for server in servers) or len(servers)
        if able < copies:
            said.append(
                f"group {name} can keep {able} of the {copies} copies of each object that "
                "min-copies asks for: add servers to it, or lower min-copies"
            )
    return said


def parse(text: str, source: str, onto: Config | None = None) -> Config:
    """Read *text*, the content of the file *source*.

    :param onto: an earlier file's configuration, which this one adds to.
    :raises ConfigError: naming *source* and the line.
    """
    config = onto or Config()
    section = DEFAULT_GROUP
    for number, raw_line in enumerate(text.splitlines(), 1):
        line = _COMMENT.sub("", raw_line).strip()
        try:
            if not line:
                continue
            if line.startswith("["):
                section = _section(line)
            elif section == _SETTINGS_SECTION:
                config = _with_setting(config, line)
            else:
                config = _with_server(config, section, line)
        except ValueError as error:
            raise ConfigError(f"{source}, line {number}: {error}") from None
    return config


def from_urls(text: str, source: str) -> Config:
    """Read a comma-separated list of URLs, as ``--blob-server`` takes it.

    :raises ConfigError: naming *source*.
    """
    config = Config()
    for url in text.split(","):
        try:
            config = _with_server(config, DEFAULT_GROUP, url.strip())
        except ValueError as error:
            raise ConfigError(f"{source}: {error}") from None
    return config


def _section(line: str) -> str:
    match = _SECTION.fullmatch(line)
    if match is None or not match[1].strip():
        raise ValueError(f"{line!r} is not a section: [name]")
    return match[1].strip()


def _with_setting(config: Config, line: str) -> Config:
    name, equals, value = (part.strip() for part in line.partition("="))
    if not equals:
        raise ValueError(f"{_shown(line)} is not a setting: name = value")
    if name not in SETTINGS:
        raise ValueError(f"there is no setting {name!r}; there are {', '.join(SETTINGS)}")
    if name in config.settings:
        raise ValueError(f"{name} is set a second time")
    try:
        converted = SETTINGS[name](value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return evolve(config, settings={**config.settings, name: converted})


def _with_server(config: Config, group: str, line: str) -> Config:
    server = _server(line)
    for members in config.groups.values():
        for member in members:
            if member.url == server.url:
                raise ValueError(f"the server {server.url} is listed a second time")
            if member.name == server.name:
                raise ValueError(f"the name {server.name} is that of {member.url} already")
    members = (*config.groups.get(group, ()), server)
    return evolve(config, groups={**config.groups, group: members})


def _server(line: str) -> Server:
    words = line.removeprefix("-:").split()
    if not words:
        raise ValueError("a server's URL is missing")
    server = Server(url=server_url(words[0]))
    for word in words[1:]:
        name, _, value = word.partition("=")
        if word == "readonly":
            server = evolve(server, readonly=True)
        elif word == "preferred":
            server = evolve(server, preferred=True)
        elif name == "weight":
            server = evolve(server, weight=_weight(value))
        elif name == "name":
            server = evolve(server, name=_name(value))
        else:
            raise ValueError(
                f"unknown word {_shown(word)}; known are readonly, preferred, weight=NUMBER, "
                "name=NAME"
            )
    return server


def server_url(text: str) -> str:
    """Return the normal form of a server's URL, or raise ValueError."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"{_shown(text)} is not a URL of a server: http://host:port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{_shown(text)} is not a URL of a server: http://host:port")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL of a server cannot hold a user or a password")
    if parts.query or parts.fragment:
        raise ValueError(f"{text!r} has a query or a fragment, a server's URL has none")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} has characters that a URL cannot have")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if host == parts.hostname and not _HOST.fullmatch(host):
        raise ValueError(f"{host[:100]!r} is no name of a host: letters, digits and - between dots")
    if port not in (None, {"http": 80, "https": 443}[parts.scheme]):
        host = f"{host}:{port}"
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def _shown(text: str) -> str:
    """Quote *text* without the password that there may be in a URL."""
    return repr(re.sub(r"//\S*@", "//...@", text))


def _name(text: str) -> str:
    """Return the name of a server, which can be the URL that it had before it had a name."""
    if "://" in text:
        return server_url(text)
    if _NAME.fullmatch(text) is None:
        raise ValueError(
            f"name={_shown(text)} is not a name: up to 64 letters, digits, dots, hyphens and "
            "underscores, or the URL that the server had before"
        )
    return text


def _weight(text: str) -> float:
    weight = _number(text)
    if not weight > 0:
        raise ValueError(f"weight={text} is not a number above zero")
    return weight


# The values of options and settings: text in, a checked value out, ValueError.


def port(text: str) -> int:
    """A TCP port, 0 to 65535 (0 lets the system choose)."""
    number = _integer(text)
    if not 0 <= number <= 65535:
        raise ValueError(f"{text} is not a port: 0 to 65535")
    return number


def copies(text: str) -> int:
    """How many servers should hold a blob, 1 or more."""
    number = _integer(text)
    if number < 1:
        raise ValueError(f"{text} is not a number of copies: 1 or more")
    return number


def processes(text: str) -> int:
    """How many processes serve, from 1 to :data:`MOST_PROCESSES`."""
    number = _integer(text)
    if not 1 <= number <= MOST_PROCESSES:
        raise ValueError(f"{text} is not a number of processes: 1 to {MOST_PROCESSES}")
    return number


def seconds(text: str) -> float:
    """A time span in seconds, 0 or more."""
    number = _number(text)
    if not number >= 0:
        raise ValueError(f"{text} is not a number of seconds: 0 or more")
    return number


def duration(text: str) -> int:
    """A time span: ``90s``, ``15m``, ``12h``, ``30d``; in seconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise ValueError(f"{text!r} is not a time span: 90s, 15m, 12h, 30d")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def size(text: str) -> int:
    """A number of bytes: ``4096``, ``64K``, ``8M``, ``5G``, ``1T`` (powers of 1024)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size: 4096, 64K, 8M, 5G, 1T")
    exponent = " KMGT".index(match[2].upper() or " ")
    return int(match[1]) * 1024**exponent


@frozen
class Reserve:
    """What is to stay free of a disk: so many bytes, or a percentage of its size."""

    bytes: int = 0
    percent: float = 0.0

    def of(self, capacity: int) -> int:
        """Return the reserve of a disk of *capacity* bytes, in bytes."""
        return self.bytes + int(capacity * self.percent / 100)

    def __str__(self) -> str:
        return f"{self.percent:g}%" if self.percent else f"{self.bytes} bytes"


#: Everything may be filled.
NO_RESERVE = Reserve()


def reserve(text: str) -> Reserve:
    """A size, or a percentage: ``10G``, ``1%``."""
    number = text.strip().removesuffix("%")
    if number == text.strip():
        return Reserve(bytes=size(text))
    percent = _number(number)
    if not 0 <= percent < 100:
        raise ValueError(f"{text!r} is not a reserve: 10G, or 0% to 99%")
    return Reserve(percent=percent)


def limit(text: str) -> int:
    """A size of 1 byte or more."""
    number = size(text)
    if number < 1:
        raise ValueError(f"{text} is not a limit: 1 byte or more")
    return number


def chunk_size(text: str) -> int:
    """A size of 64 KiB or more, or 0."""
    number = size(text)
    if 0 < number < 64 * 1024:
        raise ValueError(f"{text} is not the size of a chunk: 64K or more, or 0")
    return number


def algorithm(text: str) -> str:
    """The hash that names new content: ``sha1`` or ``sha256``."""
    if text not in ids.ALGORITHMS:
        raise ValueError(f"{text!r} is not one of {', '.join(ids.ALGORITHMS)}")
    return text


def is_loopback(host: str) -> bool:
    """Tell whether *host*, a name or an address, is this machine and nothing else."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def hosts(text: str) -> str:
    """Names of this server, separated by commas; returns them in lower case."""
    return ",".join(dict.fromkeys(_own_name(each.strip()) for each in text.split(",")))


def _own_name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if _OWN_NAME.fullmatch(name) is None:
        raise ValueError(
            f"{text[:100]!r} is no name of a host, which has neither scheme nor port; "
            "IP addresses need not be listed"
        )
    return name


def path(text: str) -> str:
    """A file's path, from the root or from the home directory."""
    if not text.startswith(("/", "~/")):
        raise ValueError(f"{text!r} is not the path of a file that begins with / or ~/")
    return text


def yes(text: str) -> bool:
    """``yes`` or ``no``."""
    if text not in ("yes", "no"):
        raise ValueError(f"{text!r} is neither yes nor no")
    return text == "yes"


def _number(text: str) -> float:
    """Return the number that *text* is, which is finite, or else NaN."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _integer(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


#: What ``[sos]`` may set, each as the option of ``sos-api`` of the same name.
SETTINGS: Mapping[str, Callable[[str], object]] = {
    "api-host": str,
    "hosts": hosts,
    "upload-port": port,
    "download-port": port,
    "admin-port": port,
    "write-copies": copies,
    "min-copies": copies,
    "replicate-every": seconds,
    "replicate-rate": limit,
    "hash": algorithm,
    "max-size": limit,
    "chunk-size": chunk_size,
    "cache": cache_address,
    "secret-file": path,
    "token-file": path,
    "private-reads": yes,
    "tls-certificate": path,
    "tls-key": path,
    "tls-client-ca": path,
    "tls-ca": path,
    "tls-client-certificate": path,
    "tls-client-key": path,
}
