"""How a command shows who it is: its options."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from sos.cli.reactor import converted
from sos.errors import ConfigError
from sos.stores.exchange import Credentials
from sos.tokens import check_bearer
from sos.watched_file import read

_CLUSTER_FILES = {
    "secret-file": "The key that blob servers ask for.",
}


def access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for how blob servers are spoken to: the parameter ``access``.

    That holds those that are given, by the names of the settings that they stand for.
    """

    @wraps(command)
    def with_access(**values: Any) -> Any:
        given = {name: values.pop(name.replace("-", "_")) for name in _CLUSTER_FILES}
        access = {name: value for name, value in given.items() if value is not None}
        return command(access=access, **values)

    for name, help in reversed(_CLUSTER_FILES.items()):
        with_access = click.option(f"--{name}", metavar="FILE", help=help)(with_access)
    return with_access


def token_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the token of a client: the parameter ``credentials``."""

    @wraps(command)
    def with_credentials(token: str | None, token_from: str | None, **values: Any) -> Any:
        return command(credentials=_bearer(token, token_from), **values)

    with_credentials = click.option(
        "--token-from",
        metavar="FILE",
        help="Read the token from this file, which others may not be able to read.",
    )(with_credentials)
    return click.option(
        "--token",
        metavar="TOKEN",
        envvar="SOS_TOKEN",
        show_envvar=True,
        callback=converted(check_bearer),
        help="The token that the API server asks for. All users of this machine can see what "
        "stands on a command line: better set it in the environment, or use --token-from.",
    )(with_credentials)


def _bearer(token: str | None, file: str | None) -> Credentials | None:
    if file is not None:
        try:
            token = read(file, lambda text: check_bearer(text.strip()))
        except ConfigError as error:
            raise click.UsageError(str(error)) from None
    if token is None:
        return None
    value = f"Bearer {token}".encode("ascii")
    return lambda *_: value
