"""Where the API servers are: the options that say it, and what speaks to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from sos import config
from sos.cli.reactor import converted
from sos.interfaces import IBlobStore
from sos.stores.exchange import Exchange
from sos.stores.lane import threads_of
from sos.stores.remote import RemoteStore

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
        callback=converted(config.server_url),
        help=help,
    )


def fetches(exchange: Exchange, reactor: Any) -> IBlobStore:
    """Return the store of what an API server serves, at the end of *exchange*."""
    return RemoteStore(exchange, threads_of(reactor), path=FETCH)
