"""``sos sign``: a link to an object that is good for a time."""

from __future__ import annotations

import time

import click

from sos.auth.request_signing import parse_keys
from sos.auth.signed_urls import signed_path
from sos.cli.objects import object_id
from sos.cli.program import converted
from sos.cli.settings import setting
from sos.daemon.tls import absolute
from sos.errors import ConfigError
from sos.files.watched import read
from sos.model import config


@click.command()
@click.argument("id", callback=converted(object_id))
@click.option(
    "--expires",
    metavar="TIME",
    default="1h",
    show_default=True,
    callback=converted(config.duration),
    help="How long it is good: 90s, 15m, 12h, 30d.",
)
@click.option(
    "--base",
    metavar="URL",
    default="",
    callback=converted(lambda text: text and config.server_url(text)),
    help="Where the API server serves fetches, to go before it.",
)
@click.option("--secret-file", metavar="FILE", help="The key, instead of that of sos.conf.")
@click.option("--config", "-c", "file", metavar="FILE", help="Read this file for sos.conf.")
def sign(id: str, expires: int, base: str, secret_file: str | None, file: str | None) -> None:
    """Print a link by which the object ID can be fetched without a token.

    It holds on API servers with --private-reads that have the same secret file, until
    it expires or the key is changed. An extension may be put behind the ID. Ends with 0.
    Example:

        sos sign cd5bd649c4dc46b0bbdf8c94ee53c1198780e430 --expires 1h \\
            --base https://files.example
    """
    path = setting("secret-file", secret_file, file)
    try:
        keys = read(absolute(path), parse_keys)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    click.echo(base + signed_path(keys, id, int(time.time()) + expires))
