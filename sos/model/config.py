"""The parser of ``sos.conf``: blob servers by group, and settings.

Plain lines of URLs belong to the group ``default``.  Each INI section is a group,
with lines ``-: http://host:port``.  The words ``readonly``, ``preferred``,
``weight=NUMBER`` and ``name=NAME`` can follow a URL.  The section ``[sos]``
contains settings, ``name = value``.  ``#`` starts a comment.

This does not use :mod:`configparser`, which merges equal lines and forgets line
numbers: every error here names its line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network, ip_network
from typing import Any, Protocol
from urllib.parse import urlsplit

from attrs import Factory, evolve, frozen

from sos.errors import ConfigError
from sos.model import ids, metadata
from sos.model.cache_address import cache_address

DEFAULT_GROUP = "default"
#: In trusted-proxies, all clients of a Unix socket.
UNIX_PEERS = "unix"
_SETTINGS_SECTION = "sos"

_SECTION = re.compile(r"\[([^\[\]]+)\]")
_COMMENT = re.compile(r"(^|\s)#.*")
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
# RFC 1123, 2.1; no connection to another name could succeed.
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(\.{_LABEL})*\.?")
# Names that a proxy or a container platform can give, underscores included.  A last label of
# digits would be part of an address.
_OWN_NAME = re.compile(r"(?=.{1,253}\Z)([a-z0-9_-]{1,63}\.)*(?![0-9]+\Z)[a-z0-9_-]{1,63}")
_HEADER_PATTERN = re.compile(r"[Xx]-(?:[!#$%&'+.^_`|~0-9A-Za-z-]+\*?|\*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SIZE = re.compile(r"([0-9]{1,19})\s*([KMGT]?)(i?B)?", re.IGNORECASE)
# Pages of browser extensions and of applications have their own schemes.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]{0,30})://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Most characters of a group's name, and of a quotation in an error.
_LONGEST_GROUP = 200
_LONGEST_SHOWN = 100
_LONGEST_URL = 2000
# Values beyond these are mistakes, and arithmetic with them would fail later.
_MOST_COPIES = 1000
_MOST_SECONDS = 1e9
_LEAST_WEIGHT = 1e-18


@frozen
class Server:
    """A blob server in the configuration.

    :param url: its address, without a trailing slash.
    :param readonly: never write to it.
    :param preferred: read from it before the other members of its group.
    :param weight: its share of the partitions, relative to the other members.
    :param name: its name for placement, its URL by default: a server that moves
        to another URL and keeps its name keeps its partitions.
    """

    url: str
    readonly: bool = False
    preferred: bool = False
    weight: float = 1.0
    name: str = Factory(lambda self: self.url, takes_self=True)


@frozen
class Config:
    """Servers by group, in the order of the text, and the settings in it."""

    groups: Mapping[str, tuple[Server, ...]] = {}
    settings: Mapping[str, Any] = {}


class _Marked(Protocol):
    """A server, or an object that stands for one."""

    @property
    def readonly(self) -> bool: ...


def too_small(groups: Mapping[str, Sequence[_Marked]], copies: int) -> list[str]:
    """Return a message for each of *groups* that has too few servers for *copies*.

    :param groups: the servers of each group, by its name.
    """
    said = []
    for name, servers in groups.items():
        # Nothing is written to a group of read-only servers, so all of them count.
        able = sum(not server.readonly for server in servers) or len(servers)
        if able < copies:
            said.append(
                f"group {name} can keep {able} of the {copies} copies of each object that "
                "min-copies asks for: add servers to it, or lower min-copies"
            )
    return said


def parse(text: str, source: str, onto: Config | None = None) -> Config:
    """Parse *text*, the content of the file *source*.

    :param onto: the configuration of an earlier file, to add to.
    :raises ConfigError: naming *source* and the line.
    """
    reader = _Reader(onto or Config())
    # Not splitlines(), which also splits where editors show no line break, as at U+2028.
    for number, raw_line in enumerate(text.split("\n"), 1):
        line = _COMMENT.sub("", raw_line).strip()
        try:
            reader.read(line)
        except ValueError as error:
            raise ConfigError(f"{source}, line {number}: {error}") from None
    return reader.config


def from_urls(text: str, source: str) -> Config:
    """Parse a comma-separated list of URLs, the value of ``--blob-server``.

    :raises ConfigError: naming *source*.
    """
    reader = _Reader(Config())
    for url in text.split(","):
        try:
            reader.add(_server(url.strip()))
        except ValueError as error:
            raise ConfigError(f"{source}: {error}") from None
    return reader.config


class _Reader:
    """A parser that adds lines to *config*."""

    def __init__(self, config: Config) -> None:
        self._section = DEFAULT_GROUP
        self._groups = {name: list(servers) for name, servers in config.groups.items()}
        self._settings = dict(config.settings)
        servers = [server for members in self._groups.values() for server in members]
        self._urls = {server.url for server in servers}
        self._names = {server.name: server for server in servers}

    @property
    def config(self) -> Config:
        """The configuration so far."""
        groups = {name: tuple(servers) for name, servers in self._groups.items()}
        return Config(groups, self._settings)

    def read(self, line: str) -> None:
        """Parse a *line* without its comment; raise ValueError if it is invalid."""
        if line.startswith("["):
            self._section = _section(line)
        elif line and self._section == _SETTINGS_SECTION:
            self._set(line)
        elif line:
            self.add(_server(line))

    def _set(self, line: str) -> None:
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise ValueError(f"{_shown(line)} is not a setting; write name = value")
        if name not in SETTINGS:
            raise ValueError(
                f"unknown setting {_shown(name)}; the settings are {', '.join(SETTINGS)}"
            )
        if name in self._settings:
            raise ValueError(f"{name} is set a second time")
        try:
            self._settings[name] = SETTINGS[name].convert(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def add(self, server: Server) -> None:
        """Add a *server* to the current group; raise ValueError if it is a duplicate."""
        if server.url in self._urls:
            raise ValueError(f"the server {server.url} is listed a second time")
        if server.name in self._names:
            url = self._names[server.name].url
            raise ValueError(f"the server {url} already has the name {server.name}")
        self._urls.add(server.url)
        self._names[server.name] = server
        self._groups.setdefault(self._section, []).append(server)


def _section(line: str) -> str:
    match = _SECTION.fullmatch(line)
    name = "" if match is None else match[1].strip()
    # Logs, terminals and metrics show the name.
    if not name or not name.isprintable() or len(name) > _LONGEST_GROUP:
        raise ValueError(f"{_shown(line)} is not a section; write [name]")
    return name


def _server(line: str) -> Server:
    words = line.removeprefix("-:").split()
    if not words:
        raise ValueError("the URL of the server is missing")
    if any("@" in word for word in words[1:]):  # any word can be part of a password
        raise ValueError("the URL of a server must not contain a user or a password, or a space")
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
                f"unknown word {_shown(word)}; use readonly, preferred, weight=NUMBER or name=NAME"
            )
    return server


def server_url(text: str) -> str:
    """Return the normal form of a server's URL, or raise ValueError."""
    if len(text) > _LONGEST_URL:
        raise ValueError(
            f"{_shown(text)} is too long: the URL of a server has at most {_LONGEST_URL} characters"
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(
            f"{_shown(text)} is not the URL of a server; write http://host:port"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{_shown(text)} is not the URL of a server; write http://host:port")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL of a server must not contain a user or a password")
    if parts.query or parts.fragment:
        raise ValueError(
            f"the URL of a server must not contain a query or a fragment: {_shown(text)}"
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{_shown(text)} contains characters that are not allowed in a URL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if host == parts.hostname and not _HOST.fullmatch(host):
        raise ValueError(
            f"{host[:100]!r} is not a host name: use letters, digits, hyphens and dots"
        )
    if port not in (None, _DEFAULT_PORTS[parts.scheme]):
        host = f"{host}:{port}"
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def _shown(text: str) -> str:
    """Quote the beginning of *text* for an error, without the password that a URL can contain."""
    _, at, behind = text.rpartition("@")
    return repr((f"...@{behind}" if at else behind)[:_LONGEST_SHOWN])


def _name(text: str) -> str:
    """Return a server's name, which can be the URL that it had before it had a name."""
    if "://" in text:
        return server_url(text)
    if _NAME.fullmatch(text) is None:
        raise ValueError(
            f"name={_shown(text)} is not a server name: use up to 64 letters, digits, dots, "
            "hyphens and underscores, or the old URL of the server"
        )
    return text


def _weight(text: str) -> float:
    weight = _number(text)
    if not _LEAST_WEIGHT <= weight <= 1 / _LEAST_WEIGHT:
        raise ValueError(f"{_shown('weight=' + text)} is not a number above 0 and below 1e18")
    return weight


# Converters of options and settings: from text to a checked value, or raise ValueError.


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
    number = _number(text)
    if not 0 <= number <= _MOST_SECONDS:
        raise ValueError(f"{_shown(text)} is not a number of seconds from 0 to {_MOST_SECONDS:.0f}")
    return number


def timeout(text: str) -> float:
    """A time span of 1 second or more."""
    number = seconds(text)
    if number < 1:
        raise ValueError(f"{_shown(text)} is not a timeout of at least 1 second")
    return number


def duration(text: str) -> int:
    """A time span: ``90s``, ``15m``, ``12h``, ``30d``; in seconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise ValueError(f"{_shown(text)} is not a time span; write it like 90s, 15m, 12h or 30d")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def size(text: str) -> int:
    """A number of bytes: ``4096``, ``64K``, ``8M``, ``5G``, ``1T`` (powers of 1024)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{_shown(text)} is not a size; write it like 4096, 64K, 8M, 5G or 1T")
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
    percent = _number(number)
    if not 0 <= percent < 100:
        raise ValueError(f"{_shown(text)} is not a reserve; write a size (10G), or 0% to 99%")
    return Reserve(percent=percent)


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


def algorithm(text: str) -> str:
    """The hash that names new content: ``sha1`` or ``sha256``."""
    if text not in ids.ALGORITHMS:
        raise ValueError(f"{_shown(text)} is not one of {', '.join(ids.ALGORITHMS)}")
    return text


def hosts(text: str) -> str:
    """Names of this server, separated by commas, in lower case."""
    return ",".join(dict.fromkeys(_own_name(each.strip()) for each in text.split(",")))


def header_patterns(text: str) -> str:
    """Names of X-* headers, or prefixes of names before a ``*``, separated by commas."""
    patterns = list(dict.fromkeys(each.strip() for each in text.split(",")))
    for each in patterns:
        if _HEADER_PATTERN.fullmatch(each) is None:
            raise ValueError(
                f"{_shown(each)} is not an X-* header; write it like X-Mime-Type or X-Meta-*"
            )
        if metadata.is_withheld(metadata.canonical_name(each)):
            raise ValueError(
                f"servers do not store {each}: it is for proxies, browsers or credentials"
            )
    return ", ".join(patterns)


def _own_name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if _OWN_NAME.fullmatch(name) is None:
        raise ValueError(
            f"{text[:100]!r} is not a host name: leave out the scheme and the port; do not list IP "
            "addresses, which are always accepted"
        )
    return name


def proxies(text: str) -> str:
    """Addresses and networks of proxies, or ``unix``, separated by commas, in normal form."""
    return ",".join(dict.fromkeys(_proxy(each.strip()) for each in text.split(",")))


def _proxy(text: str) -> str:
    if text == UNIX_PEERS:
        return text
    try:
        network = ip_network(text)
    except ValueError:
        try:
            better = ip_network(text, strict=False)
        except ValueError:
            raise ValueError(
                f"{_shown(text)} is neither an address, nor a network like 10.0.0.0/8, nor unix"
            ) from None
        raise ValueError(f"{text} is not a network address; the network is {better}") from None
    if "%" in text:
        raise ValueError(f"{_shown(text)} contains a zone: remove it")
    if not network.prefixlen:
        raise ValueError(
            f"{text} includes all clients, who could then forge their addresses: list the proxies"
        )
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text} is a mapped IPv4 address: write it as IPv4")
    return network.compressed.removesuffix(f"/{network.max_prefixlen}")


def origins(text: str) -> str:
    """Origins of pages, or ``*``, separated by commas, as browsers send them."""
    return ",".join(dict.fromkeys(_origin(each.strip()) for each in text.split(",")))


def _origin(text: str) -> str:
    """Return the serialization of an origin, without the default port (RFC 6454, 6.2)."""
    if text == "*":
        return text
    found = _ORIGIN.fullmatch(text.lower())
    try:
        if found is None:
            raise ValueError
        scheme, host, port = found.groups()
        if host.startswith("["):
            host = f"[{IPv6Address(host[1:-1])}]"
        elif not _HOST.fullmatch(host):
            raise ValueError
        if port is None or int(port) == _DEFAULT_PORTS.get(scheme):
            return f"{scheme}://{host}"
        if not 0 < int(port) < 65536:
            raise ValueError
        return f"{scheme}://{host}:{int(port)}"
    except ValueError:
        raise ValueError(
            f"{_shown(text)} is not a web origin; write scheme://host or scheme://host:port, "
            "without a path, or *"
        ) from None


def path(text: str) -> str:
    """A file's path, from the root or from the home directory."""
    if not text.startswith(("/", "~/")) or _CONTROL.search(text):
        # Do not quote the text: it may be the secret that belongs into the file.
        raise ValueError("the value is not a path that starts with / or ~/")
    return text


def host(text: str) -> str:
    """The name or the address of an interface to listen on."""
    if not text.isprintable() or len(text) > 254:
        raise ValueError(f"{_shown(text)} is not a host name or an IP address")
    return text


def yes(text: str) -> bool:
    """``yes`` or ``no``."""
    if text not in ("yes", "no"):
        raise ValueError(f"{_shown(text)} is neither yes nor no")
    return text == "yes"


def _number(text: str) -> float:
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
        raise ValueError(f"{_shown(text)} is not a whole number, or is too large")
    return int(text)


@frozen
class Setting:
    """A setting of a cluster: an option of ``sos-api``, and a line in the section ``[sos]``.

    :param convert: returns the value for its text in ``sos.conf``; raises ValueError.
    :param text: its description, for ``--help``.
    :param default: its value if neither sets it.
    :param shown: the default as a user would write it.
    :param option: replaces *convert* on the command line, where paths may be relative.
    """

    convert: Callable[[str], object]
    text: str
    default: object = None
    shown: str | None = None
    option: Callable[[str], object] | None = None

    @property
    def help(self) -> str:
        """Its description and default, for ``--help``."""
        return self.text if self.shown is None else f"{self.text} [default: {self.shown}]"


#: All settings by name: the only place that declares them.
SETTINGS: Mapping[str, Setting] = {
    "api-host": Setting(
        host, "Address to listen on for uploads and downloads.", "0.0.0.0", "0.0.0.0", str
    ),
    "hosts": Setting(
        hosts,
        "Host names to accept in requests, besides localhost and IP addresses, separated by "
        "commas.",
    ),
    "idle-timeout": Setting(timeout, "Seconds until an idle connection is closed.", 75.0, "75"),
    "trusted-proxies": Setting(
        proxies,
        "Proxies whose forwarded client addresses to trust: IP addresses, networks (10.0.0.0/8), "
        "or unix for Unix sockets, separated by commas.",
    ),
    "upload-port": Setting(port, "Port for uploads.", 9991, "9991"),
    "download-port": Setting(port, "Port for downloads.", 9992, "9992"),
    "admin-port": Setting(
        port,
        "Admin port on 127.0.0.1, for the status page, /status and /metrics; 0 for none.",
        9993,
        "9993",
    ),
    "write-copies": Setting(
        copies,
        "Write quorum: the number of copies to store before an upload is acknowledged.",
        1,
        "1",
    ),
    "min-copies": Setting(copies, "Number of copies of each blob to keep in its group.", 2, "2"),
    "replicate-every": Setting(
        seconds, "Seconds between anti-entropy passes; 0 for none.", 60.0, "60"
    ),
    "replicate-rate": Setting(
        limit, "Bytes per second that anti-entropy passes may copy (64K, 8M); by default unlimited."
    ),
    "hash": Setting(
        algorithm, "Hash for the ids of new objects: sha1 or sha256.", ids.DEFAULT_ALGORITHM, "sha1"
    ),
    "max-size": Setting(
        limit, "Largest upload to accept, in bytes (64K, 8M, 5G); by default unlimited."
    ),
    "kept-headers": Setting(
        header_patterns,
        "X-* headers of uploads to store, separated by commas (X-Mime-Type, X-Meta-*); by default "
        "all but those of proxies, browsers and credentials.",
    ),
    "cors-origins": Setting(
        origins,
        "Web origins whose pages may upload and download, separated by commas "
        "(https://app.example); * lets all pages download.",
    ),
    "chunk-size": Setting(
        chunk_size,
        "Split larger objects into chunks of this many bytes (64K or more); 0 for no chunks.",
        8 << 20,
        "8M",
    ),
    "cache": Setting(
        cache_address,
        "Shared cache for the locations of blobs and for small blobs: memcached://host:port or "
        "redis://host:port/database.",
    ),
    "secret-file": Setting(
        path,
        "File of the secret keys with which API servers sign requests to blob servers.",
        option=str,
    ),
    "token-file": Setting(
        path, "File of the access tokens. Clients need one to upload.", option=str
    ),
    "private-reads": Setting(
        yes, "Require a token or a signed link for downloads, not only for uploads.", False
    ),
    "tls-certificate": Setting(
        path, "Serve HTTPS with the certificate in this file (PEM).", option=str
    ),
    "tls-key": Setting(
        path, "File of the private key of tls-certificate, if not in the same file.", option=str
    ),
    "tls-client-ca": Setting(
        path, "Require a client certificate that a CA in this file has signed (PEM).", option=str
    ),
    "tls-ca": Setting(
        path,
        "Trust only https blob servers with a certificate from a CA in this file (PEM); by default "
        "from a CA that the system trusts.",
        option=str,
    ),
    "tls-client-certificate": Setting(
        path, "Present the certificate in this file to https blob servers (PEM).", option=str
    ),
    "tls-client-key": Setting(
        path,
        "File of the private key of tls-client-certificate, if not in the same file.",
        option=str,
    ),
    "unfinished-dir": Setting(
        path, "Enable resumable uploads (tus), and store their parts in this directory.", option=str
    ),
    "unfinished-limit": Setting(
        limit, "Most bytes that the parts of resumable uploads may take (8M, 5G).", 64 << 30, "64G"
    ),
    "unfinished-expiry": Setting(
        duration,
        "Time without progress after which a resumable upload is deleted (15m, 12h, 30d).",
        86_400,
        "1d",
    ),
}
