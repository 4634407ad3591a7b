"""How a command shows who it is: its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import click

from sos.auth.tokens import check_bearer
from sos.cli.program import converted
from sos.daemon.tls import client_tls_of
from sos.errors import ConfigError
from sos.files.watched import read
from sos.http.tls import ClientTLS
from sos.stores.remote.client import Credentials

_TLS_FILES = {
    "tls-ca": "https servers need a certificate of one of these.",
    "tls-client-certificate": "The certificate to show them.",
    "tls-client-key": "Its key, if that is not in the same file.",
}
_CLUSTER_FILES = {"secret-file": "The key that blob servers ask for.", **_TLS_FILES}

Command = Callable[..., Any]


def access_options(command: Command) -> Command:
    """Add the options for how blob servers are spoken to: the parameter ``access``.

    That holds those that are given, by the names of the settings that they stand for.
    """
    return _with_files(_CLUSTER_FILES, lambda given: {"access": given}, command)


def tls_options(command: Command) -> Command:
    """Add the options for how https API servers are spoken to: the parameter ``tls``."""
    return _with_files(_TLS_FILES, lambda given: {"tls": tls_of(given)}, command)


def tls_of(given: Mapping[str, Any]) -> ClientTLS:
    """Return how https servers are spoken to, by options of these names."""
    try:
        return client_tls_of(given)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _with_files(
    files: Mapping[str, str],
    meaning: Callable[[dict[str, str]], dict[str, Any]],
    command: Command,
) -> Command:
    """Add an option for each of *files*, and give *command* what those given mean."""

    @wraps(command)
    def with_files(**values: Any) -> Any:
        given = {name: values.pop(name.replace("-", "_")) for name in files}
        named = {name: value for name, value in given.items() if value is not None}
        return command(**meaning(named), **values)

    for name, help in reversed(list(files.items())):
        with_files = click.option(f"--{name}", metavar="FILE", help=help)(with_files)
    return with_files


def token_options(command: Command) -> Command:
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
