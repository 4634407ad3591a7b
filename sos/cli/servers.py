"""Where the servers are: the options that say it, and what speaks to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click
from attrs import evolve

from sos.aio.threads import threads_of
from sos.cli import address
from sos.cli.access import access_options
from sos.cli.address import Address, credentials_for
from sos.cli.completion import FILE
from sos.cli.program import converted
from sos.cli.redirects import FollowingExchange
from sos.daemon import tls
from sos.errors import ConfigError
from sos.http.client.agent import Agent
from sos.http.client.bodies import ANSWER_SECONDS
from sos.interfaces import Groups, IBlobStore
from sos.model import ids
from sos.model.config import Config
from sos.model.membership import Membership, Speaker
from sos.stores.remote.client import Credentials, Exchange
from sos.stores.remote.store import RemoteStore
from sos.tap import admission, cluster

# As API servers have it.
_DEFAULT_COPIES = 2

#: What comes before an id in the path of an object.
FETCH = "/fetch/"

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def upload_option(help: str) -> Option:
    """Return the option for where uploads go: the parameter ``upload_url``."""
    return _option("--to", "upload_url", "http://localhost:9991", "SOS_UPLOAD", help)


def download_option(help: str) -> Option:
    """Return the option for where fetches come from: the parameter ``download_url``."""
    return _option("--from", "download_url", "http://localhost:9992", "SOS_DOWNLOAD", help)


def _option(flag: str, name: str, default: str, variable: str, help: str) -> Option:
    return click.option(
        flag,
        name,
        metavar="URL",
        default=default,
        envvar=variable,
        show_default=True,
        show_envvar=True,
        callback=converted(address.parse),
        help=help,
    )


def exchange_with(
    option: str, server: Address, agent: Agent, reactor: Any, token: Credentials | None
) -> Exchange:
    """Return what speaks to the API server that the *option* of a command names.

    :param token: see :func:`~sos.cli.address.credentials_for`.
    """
    credentials = credentials_for(server, token)
    return FollowingExchange(option, server.url, agent, reactor, credentials)


def cluster_options(blob_server_help: str) -> Option:
    """Return the options for which servers: the parameters ``blob_server`` and ``file``,

    and ``access``, see :func:`~sos.cli.access.access_options`.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--config",
            "-c",
            "file",
            metavar="FILE",
            type=FILE,
            help="Read this file instead of /etc/sos.conf and ~/.sos.conf.",
        )(command)
        command = click.option("--blob-server", metavar="URL,URL", help=blob_server_help)(command)
        return access_options(command)

    return decorate


def configured(file: str | None, blob_server: str | None, access: Mapping[str, Any]) -> Config:
    """Return the servers that the values of :func:`cluster_options` name: at least one.

    What *access* holds is among the settings, in place of what the files set.
    """
    try:
        found = cluster.load(file, blob_server)
        if not found.groups:
            raise ConfigError("no blob servers: name them in ~/.sos.conf or by --blob-server")
        found = evolve(found, settings={**found.settings, **access})
        admission.signer(found.settings.get("secret-file"))
        tls.client_tls_of(found.settings)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    return found


def groups_of(
    found: Config,
    reactor: Any,
    speaker: Speaker | None = None,
    membership: Membership | None = None,
) -> Groups:
    """Return what speaks to the servers of *found*.

    :param speaker: what they are told of us, by who copies among them.
    :param membership: what others are compared with, by who only looks.
    """
    credentials = admission.signer(found.settings.get("secret-file"))
    agent = Agent(reactor, tls=tls.client_tls_of(found.settings))
    return cluster.remote_groups(
        found, reactor, ids.DEFAULT_ALGORITHM, agent, credentials, speaker, membership
    )


def speaker_of(found: Config, copies: int) -> Speaker:
    """Return what servers are told of who keeps *copies* on those of *found*."""
    return Speaker(cluster.speaker_name(), Membership.of(found.groups, copies))


def fetches(exchange: Exchange, reactor: Any) -> IBlobStore:
    """Return the store of what an API server serves, at the end of *exchange*."""
    # It looks for each chunk of an object before it says that it is there.
    threads = threads_of(reactor)
    return RemoteStore(exchange, threads, path=FETCH, stat_seconds=ANSWER_SECONDS)


def wanted_copies(found: Config) -> int:
    """Return how many copies of each object API servers keep by *found*."""
    kept: int = found.settings.get("min-copies", _DEFAULT_COPIES)
    # As API servers take it: what an upload has waited for is not too much later.
    waited_for: int = found.settings.get("write-copies", 1)
    return max(kept, waited_for)
