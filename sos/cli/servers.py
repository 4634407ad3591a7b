"""Options that name the servers, and connections to these servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click
from attrs import evolve

from sos.aio.threads import threads_of
from sos.cli import address
from sos.cli.access import access_options
from sos.cli.address import Address, credentials_for
from sos.cli.conf_value import config_option
from sos.cli.program import converted
from sos.cli.redirects import FollowingExchange
from sos.daemon import tls
from sos.errors import ConfigError
from sos.http.client.agent import Agent
from sos.http.client.bodies import ANSWER_SECONDS
from sos.interfaces import Groups, IBlobStore
from sos.model import ids
from sos.model.conf_parser import Config
from sos.model.membership import Announcer, Membership
from sos.stores.remote.client import Credentials, Exchange
from sos.stores.remote.store import RemoteStore
from sos.tap import admission, cluster

# The default of API servers.
_DEFAULT_COPIES = 2

#: The path of an object, without its id.
FETCH = "/fetch/"

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def upload_option(help: str) -> Option:
    """Return the option for the upload port of an API server: the parameter ``upload_url``."""
    return _option("--to", "upload_url", "http://localhost:9991", "SOS_UPLOAD", help)


def download_option(help: str) -> Option:
    """Return the option for its download port: the parameter ``download_url``."""
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
    """Return an exchange with the API server that the *option* of a command names.

    :param token: see :func:`~sos.cli.address.credentials_for`.
    """
    credentials = credentials_for(server, token)
    return FollowingExchange(option, server.url, agent, reactor, credentials)


def cluster_options(blob_server_help: str) -> Option:
    """Return the options that select blob servers.

    The parameters are ``blob_server``, ``file`` and those of
    :func:`~sos.cli.access.access_options`.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = config_option(command)
        command = click.option("--blob-server", metavar="URL,URL", help=blob_server_help)(command)
        return access_options(command)

    return decorate


def configured(file: str | None, blob_server: str | None, access: Mapping[str, Any]) -> Config:
    """Return the configuration from the values of :func:`cluster_options`.

    It has at least one server.  The values in *access* override the settings of the files.
    """
    try:
        found = cluster.load(file, blob_server)
        if not found.groups:
            raise ConfigError(
                "no blob servers are configured: list them in /etc/sos.conf or ~/.sos.conf, or "
                "name them with --blob-server"
            )
        found = evolve(found, settings={**found.settings, **access})
        admission.signer(found.settings.get("secret-file"))
        tls.client_tls_of(found.settings)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    return found


def groups_of(
    found: Config,
    reactor: Any,
    announcer: Announcer | None = None,
    membership: Membership | None = None,
) -> Groups:
    """Return stores for the servers of *found*.

    :param announcer: announced to the servers by a command that copies among them.
    :param membership: a command that only reads compares it with the views of API servers.
    """
    credentials = admission.signer(found.settings.get("secret-file"))
    agent = Agent(reactor, tls=tls.client_tls_of(found.settings))
    return cluster.remote_groups(
        found, reactor, ids.DEFAULT_ALGORITHM, agent, credentials, announcer, membership
    )


def announcer_of(found: Config, copies: int) -> Announcer:
    """Return the announcement of a client that keeps *copies* on the servers of *found*."""
    return Announcer(cluster.announcer_name(), Membership.of(found.groups, copies))


def fetches(exchange: Exchange, reactor: Any) -> IBlobStore:
    """Return a store of the objects on the API server of *exchange*."""
    # A stat takes long: the server looks for each chunk of the object.
    threads = threads_of(reactor)
    return RemoteStore(exchange, threads, path=FETCH, stat_seconds=ANSWER_SECONDS)


def wanted_copies(found: Config) -> int:
    """Return how many copies of each object API servers keep, according to *found*."""
    kept: int = found.settings.get("min-copies", _DEFAULT_COPIES)
    # Like API servers, never delete copies that an upload has waited for.
    waited_for: int = found.settings.get("write-copies", 1)
    return max(kept, waited_for)
