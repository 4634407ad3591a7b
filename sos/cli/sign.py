"""``sos sign``: make a signed URL of an object, valid for a limited time."""

from __future__ import annotations

import time

import click

from sos.auth.request_signing import parse_keys
from sos.auth.signed_urls import signed_path
from sos.cli.conf_value import conf_value, config_option
from sos.cli.names import object_id
from sos.cli.program import converted
from sos.daemon.tls import absolute
from sos.errors import ConfigError
from sos.files.watched import read
from sos.model import addresses, quantities


@click.command()
@click.argument("id", callback=converted(object_id))
@click.option(
    "--expires",
    metavar="TIME",
    default="1h",
    show_default=True,
    callback=converted(quantities.duration),
    help="Lifetime of the link: 90s, 15m, 12h, 30d.",
)
@click.option(
    "--base",
    metavar="URL",
    default="",
    callback=converted(lambda text: text and addresses.server_url(text)),
    help="URL of the API server's download port, to put before the link's path.",
)
@click.option(
    "--secret-file",
    metavar="FILE",
    help="Sign with the key in this file.  [default: secret-file of sos.conf]",
)
@config_option
def sign(id: str, expires: int, base: str, secret_file: str | None, file: str | None) -> None:
    """Print a signed link to the object ID.

    Whoever has the link can fetch the object without a token. API servers with
    --private-reads and the same secret file accept it until it expires, or until you remove
    the key. The ID may have an extension. Ends with status 0. Example:

        sos sign cd5bd649c4dc46b0bbdf8c94ee53c1198780e430 --expires 1h \\
            --base https://files.example
    """
    path = conf_value("secret-file", secret_file, file)
    try:
        keys = read(absolute(path), parse_keys)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    click.echo(base + signed_path(keys, id, int(time.time()) + expires))
