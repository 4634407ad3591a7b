"""``sos token``: who may use an API server."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sos.auth.tokens import SCOPES, Token, Tokens, date, format_tokens, make_token, parse_tokens
from sos.cli.program import converted
from sos.cli.settings import setting
from sos.daemon.tls import absolute
from sos.errors import ConfigError
from sos.files.watched import read
from sos.model import config


@click.group()
@click.option("--token-file", metavar="FILE", help="The file, instead of that of sos.conf.")
@click.option("--config", "-c", "file", metavar="FILE", help="Read this file for sos.conf.")
@click.pass_context
def token(context: click.Context, token_file: str | None, file: str | None) -> None:
    """Give out tokens for an API server, list them, take them back.

    The file holds no token, but the hash of each. API servers see within a second what
    has changed. Ends with 1 when the file cannot be used. Examples:

    \b
        sos token add backup --scope upload --expires 30d
        sos token list
        sos token revoke backup
    """
    context.obj = lambda: Path(absolute(setting("token-file", token_file, file)))


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What it is good for; can be given several times.",
)
@click.option(
    "--expires",
    metavar="TIME",
    callback=converted(config.duration),
    help="How long it is good: 90s, 15m, 12h, 30d.  [default: until it is revoked]",
)
@click.pass_obj
def add(where: Callable[[], Path], name: str, scopes: tuple[str, ...], expires: int | None) -> None:
    """Make a token for NAME, and print it, this once.

    Example:

        sos token add backup --scope upload --expires 30d
    """
    with _changing(where()) as tokens:
        if any(each.name == name for each in tokens):
            raise click.UsageError(f"there is a token of the name {name} already")
        try:
            secret, made = make_token(name, scopes, time.time(), expires)
            tokens[:] = Tokens([*tokens, made]).all
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    click.echo(secret)


@token.command(name="list")
@click.pass_obj
def list_(where: Callable[[], Path]) -> None:
    """Show who has a token, and what it is good for."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("name", "scopes", "created", "expires"):
        table.add_column(name)
    now = time.time()
    for each in _read(where()):
        expires = "never" if each.expires is None else date(each.expires)
        table.add_row(
            each.name,
            " ".join(each.scopes),
            date(each.created),
            expires if each.holds(now) else f"{expires}, expired",
        )
    Console().print(table)


@token.command()
@click.argument("name")
@click.pass_obj
def revoke(where: Callable[[], Path], name: str) -> None:
    """Take the token of NAME back."""
    with _changing(where(), must_exist=True) as tokens:
        kept = [each for each in tokens if each.name != name]
        if len(kept) == len(tokens):
            raise click.ClickException(f"there is no token of the name {name}")
        tokens[:] = kept


def _read(path: Path) -> Sequence[Token]:
    try:
        return read(str(path), parse_tokens).all
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _changing(path: Path, must_exist: bool = False) -> Iterator[list[Token]]:
    """Give the tokens in the file *path* to be changed, by one at a time; then write them."""
    path = path.resolve()  # what a link points to is replaced, not the link
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise click.ClickException(f"{path.parent}: {error.strerror}") from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        tokens = list(_read(path)) if must_exist or path.exists() else []
        yield tokens
        try:
            _replace(path, format_tokens(tokens))
        except OSError as error:
            raise click.ClickException(f"{path}: {error.strerror}") from None
        os.fsync(directory)
    finally:
        os.close(directory)


def _replace(path: Path, text: str) -> None:
    """Write the file *path*, all of it or nothing, for those alone who could read it before."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".sos-", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            if path.exists():
                status = path.stat()
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
                os.fchmod(file.fileno(), status.st_mode & 0o777)
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
