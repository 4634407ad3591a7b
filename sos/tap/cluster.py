"""The blob servers of a cluster: from configuration files to stores."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from secrets import token_hex
from socket import gethostname
from typing import Any

from sos.aio.gather import together, within
from sos.aio.threads import threads_of
from sos.errors import ConfigError, SOSError
from sos.files.regular import read_regular
from sos.http.client.agent import Agent
from sos.interfaces import Groups, Member
from sos.model import conf_parser
from sos.model.conf_parser import Config, Server
from sos.model.membership import Announcer, Membership
from sos.stores.remote.client import Credentials, Exchange
from sos.stores.remote.store import RemoteStore

# The timeout for servers to acknowledge that this client leaves.
_LEAVE_SECONDS = 1.0

#: The configuration files, in the order of reading.  Each adds to the ones before.
CONFIG_FILES = ("/etc/sos.conf", "~/.sos.conf")
# The most bytes of a configuration file: enough for ten thousand servers.
_LONGEST_FILE = 1024 * 1024


def present() -> list[str]:
    """Return those of :data:`CONFIG_FILES` that exist."""
    return [path for path in CONFIG_FILES if os.path.exists(os.path.expanduser(path))]


def load(file: str | None, blob_servers: str | None, needed: Collection[str] = ()) -> Config:
    """Return the configuration.

    :param file: a file to read instead of :data:`CONFIG_FILES`.
    :param blob_servers: URLs, separated by commas, that replace the servers in the files.
    :param needed: those of :data:`CONFIG_FILES` that must exist.  At a reload, a missing file
        would remove its servers, and the objects on them, from the cluster.
    :raises ConfigError: naming the file and the line, or the option.
    """
    found = _read([file], [file]) if file else _read(CONFIG_FILES, needed)
    if blob_servers is not None:
        servers = conf_parser.from_urls(blob_servers, "--blob-server")
        return Config(groups=servers.groups, settings=found.settings)
    return found


def _read(paths: Sequence[str], needed: Collection[str]) -> Config:
    found = Config()
    for name in paths:
        path = os.path.expanduser(name)
        try:
            text = read_regular(path, _LONGEST_FILE, named=True).decode("utf-8")
        except FileNotFoundError:
            if name not in needed:
                continue
            raise ConfigError(f"cannot read {path}: there is no such file") from None
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"cannot read {path}: it is not UTF-8 text") from None
        found = conf_parser.parse(text, path, onto=found)
    return found


def check_copies(found: Config, write_copies: int) -> None:
    """Raise ConfigError if no group has enough servers for the write quorum of an upload."""
    most = max(map(len, found.groups.values()))
    if write_copies > most:
        raise ConfigError(
            f"uploads can never succeed: write-copies is {write_copies}, but the largest group has "
            f"{most} {'server' if most == 1 else 'servers'}; add servers, or lower --write-copies "
            "or write-copies in sos.conf"
        )


def describe(found: Config, settings: bool = False) -> str:
    """Return a text that lists the servers by group, and the settings if *settings* is set."""
    lines = [] if found.groups else ["no servers"]
    for group, servers in found.groups.items():
        lines.append(f"{group}:")
        lines.extend(f"  {_describe_server(server)}" for server in servers)
    if settings and found.settings:
        lines.append("settings:")
        lines.extend(f"  {name} = {value}" for name, value in found.settings.items())
    return "\n".join(lines)


def _describe_server(server: Server) -> str:
    words = [server.url]
    if server.readonly:
        words.append("readonly")
    if server.preferred:
        words.append("preferred")
    if server.weight != 1:
        words.append(f"weight={server.weight:g}")
    if server.name != server.url:
        words.append(f"name={server.name}")
    return " ".join(words)


def announcer_name() -> str:
    """Return a unique name for this process: host, process id, and a random number."""
    host = re.sub("[^!-~]", "?", gethostname())[:64]
    return f"{host}/{os.getpid()}/{token_hex(4)}"


async def leave(groups: Groups, clock: Any) -> None:
    """Announce to the servers of *groups* that this client leaves."""
    leaving = (
        within(_LEAVE_SECONDS, member.store.leave(), clock)
        for members in groups.values()
        for member in members
        if isinstance(member.store, RemoteStore)
    )
    with suppress(SOSError):  # a server that does not hear of it forgets this client later
        await together(leaving)


def remote_groups(
    found: Config,
    reactor: Any,
    algorithm: str,
    agent: Agent | None = None,
    credentials: Credentials | None = None,
    announcer: Announcer | None = None,
    membership: Membership | None = None,
) -> Groups:
    """Return a store for each configured server, by group.

    :param credentials: the credentials for requests to them.
    :param announcer: announced to them.
    :param membership: compared with the views of API servers, but not announced.
    """
    agent = agent or Agent(reactor)
    run_in_thread = threads_of(reactor)
    return {
        group: tuple(
            Member(
                RemoteStore(
                    Exchange(server.url, agent, reactor, credentials),
                    run_in_thread,
                    algorithm,
                    announcer=announcer,
                    membership=membership,
                ),
                server.readonly,
                server.preferred,
                server.weight,
                server.name,
            )
            for server in servers
        )
        for group, servers in found.groups.items()
    }
