"""Options by which a command authenticates itself to servers."""

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
    "tls-ca": "Trust only https servers with a certificate from a CA in this file.  "
    "[default: the CAs that the system trusts]",
    "tls-client-certificate": "Present the certificate in this file to https servers.",
    "tls-client-key": "File of the private key of --tls-client-certificate, if not in the same "
    "file.",
}
_CLUSTER_FILES = {
    "secret-file": "Sign requests to blob servers with the key in this file.",
    **_TLS_FILES,
}

Command = Callable[..., Any]


def access_options(command: Command) -> Command:
    """Add the options for requests to blob servers: the parameter ``access``.

    It is a dictionary from the names of settings to the values of the options given.
    """
    return _with_files(_CLUSTER_FILES, lambda given: {"access": given}, command)


def tls_options(command: Command) -> Command:
    """Add the options for connections to https API servers: the parameter ``tls``."""
    return _with_files(_TLS_FILES, lambda given: {"tls": tls_of(given)}, command)


def tls_of(given: Mapping[str, Any]) -> ClientTLS:
    """Return the TLS settings of a client from the options *given*, by name."""
    try:
        return client_tls_of(given)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _with_files(
    files: Mapping[str, str],
    meaning: Callable[[dict[str, str]], dict[str, Any]],
    command: Command,
) -> Command:
    """Add an option for each of *files*; pass *command* the result of *meaning* for them."""

    @wraps(command)
    def with_files(**values: Any) -> Any:
        given = {name: values.pop(name.replace("-", "_")) for name in files}
        named = {name: value for name, value in given.items() if value is not None}
        return command(**meaning(named), **values)

    for name, help in reversed(list(files.items())):
        with_files = click.option(f"--{name}", metavar="FILE", help=help)(with_files)
    return with_files


def token_options(command: Command) -> Command:
    """Add the options for an API token: the parameter ``credentials``."""

    @wraps(command)
    def with_credentials(token: str | None, token_from: str | None, **values: Any) -> Any:
        return command(credentials=_bearer(token, token_from), **values)

    with_credentials = click.option(
        "--token-from",
        metavar="FILE",
        help="Read the token from this file, which other users must not be able to read.",
    )(with_credentials)
    return click.option(
        "--token",
        metavar="TOKEN",
        envvar="SOS_TOKEN",
        show_envvar=True,
        callback=converted(check_bearer),
        help="Token to send to the API server. Other users of this machine can see command "
        "lines, so set the environment variable instead, or use --token-from.",
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
