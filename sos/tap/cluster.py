"""The configured servers, from their files to stores."""

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
from sos.model import config
from sos.model.config import Config, Server
from sos.model.membership import Membership, Speaker
from sos.stores.remote.client import Credentials, Exchange
from sos.stores.remote.store import RemoteStore

# Seconds that servers have to take note that we go.
_LEAVE_SECONDS = 1.0

#: Read one after the other, each adding to what came before.
CONFIG_FILES = ("/etc/sos.conf", "~/.sos.conf")
# Bytes of one of them: of ten thousand servers.
_LONGEST_FILE = 1024 * 1024


def present() -> list[str]:
    """Return those of :data:`CONFIG_FILES` that there are."""
    return [path for path in CONFIG_FILES if os.path.exists(os.path.expanduser(path))]


def load(file: str | None, blob_servers: str | None, needed: Collection[str] = ()) -> Config:
    """Return the configuration.

    :param file: read this file, and none of :data:`CONFIG_FILES`.
    :param needed: those of :data:`CONFIG_FILES` that have to be there: what one that is gone
        has listed would else be forgotten, and what its servers hold with it.
    :param blob_servers: URLs, separated by commas, instead of the servers that
        the files list.
    :raises ConfigError: naming the file and the line, or the option.
    """
    found = _read([file], [file]) if file else _read(CONFIG_FILES, needed)
    if blob_servers is not None:
        servers = config.from_urls(blob_servers, "--blob-server")
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
            raise ConfigError(f"{path}: there is no such file") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path} cannot be read: it is not text in UTF-8") from None
        found = config.parse(text, path, onto=found)
    return found


def check_copies(found: Config, write_copies: int) -> None:
    """Raise ConfigError when no upload could ever be answered, for want of servers."""
    most = max(map(len, found.groups.values()))
    if write_copies > most:
        raise ConfigError(
            f"--write-copies, or write-copies in sos.conf: no group has {write_copies} servers "
            f"for the copies that an upload waits for, the largest has {most}"
        )


def describe(found: Config, settings: bool = False) -> str:
    """Tell the servers by group, each with its marks, and the *settings* if asked to."""
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


def speaker_name() -> str:
    """Return what tells this process from all others: host, process, and a number by chance."""
    host = re.sub("[^!-~]", "?", gethostname())[:64]
    return f"{host}/{os.getpid()}/{token_hex(4)}"


async def leave(groups: Groups, clock: Any) -> None:
    """Tell the servers of *groups* that they will not hear of us any more."""
    leaving = (
        within(_LEAVE_SECONDS, member.store.leave(), clock)
        for members in groups.values()
        for member in members
        if isinstance(member.store, RemoteStore)
    )
    with suppress(SOSError):  # who is not told forgets us after a while
        await together(leaving)


def remote_groups(
    found: Config,
    reactor: Any,
    algorithm: str,
    agent: Agent | None = None,
    credentials: Credentials | None = None,
    speaker: Speaker | None = None,
    membership: Membership | None = None,
) -> Groups:
    """Return the stores that the configured servers are.

    :param credentials: who we are to them.
    :param speaker: what they are told of us.
    :param membership: what they are not told, and others are compared with.
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
                    speaker=speaker,
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
