"""The parser of ``sos.conf``: blob servers by group, and settings.

Plain lines of URLs belong to the group ``default``.  Each INI section is a group,
with lines ``-: http://host:port``.  The words ``readonly``, ``preferred``,
``weight=NUMBER`` and ``name=NAME`` can follow a URL.  The section ``[sos]``
contains settings, ``name = value``.  ``#`` starts a comment.

This does not use :mod:`configparser`, which merges equal lines and forgets line
numbers: every error here names its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import Factory, evolve, frozen

from sos.errors import ConfigError
from sos.model.addresses import server_url, shown
from sos.model.quantities import number_of
from sos.model.settings import SETTINGS

DEFAULT_GROUP = "default"
_SETTINGS_SECTION = "sos"
_SECTION = re.compile(r"\[([^\[\]]+)\]")
_COMMENT = re.compile(r"(^|\s)#.*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Most characters of a group's name, and of a quotation in an error.
_LONGEST_GROUP = 200
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
    messages = []
    for name, servers in groups.items():
        # Nothing is written to a group of read-only servers, so all of them count.
        able = sum(not server.readonly for server in servers) or len(servers)
        if able < copies:
            messages.append(
                f"group {name} can keep {able} of the {copies} copies of each object that "
                "min-copies asks for: add servers to it, or lower min-copies"
            )
    return messages


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
            raise ValueError(f"{shown(line)} is not a setting; write name = value")
        if name not in SETTINGS:
            raise ValueError(
                f"unknown setting {shown(name)}; the settings are {', '.join(SETTINGS)}"
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
        raise ValueError(f"{shown(line)} is not a section; write [name]")
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
                f"unknown word {shown(word)}; use readonly, preferred, weight=NUMBER or name=NAME"
            )
    return server


def _name(text: str) -> str:
    """Return a server's name, which can be the URL that it had before it had a name."""
    if "://" in text:
        return server_url(text)
    if _NAME.fullmatch(text) is None:
        raise ValueError(
            f"name={shown(text)} is not a server name: use up to 64 letters, digits, dots, "
            "hyphens and underscores, or the old URL of the server"
        )
    return text


def _weight(text: str) -> float:
    weight = number_of(text)
    if not _LEAST_WEIGHT <= weight <= 1 / _LEAST_WEIGHT:
        raise ValueError(f"{shown('weight=' + text)} is not a number above 0 and below 1e18")
    return weight
