"""``sos token``: manage the tokens of an API server's clients."""

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
from sos.cli.conf_value import conf_value, config_option
from sos.cli.program import converted
from sos.daemon.tls import absolute
from sos.errors import ConfigError
from sos.files.watched import read
from sos.model import quantities


@click.group()
@click.option(
    "--token-file", metavar="FILE", help="The token file.  [default: token-file of sos.conf]"
)
@config_option
@click.pass_context
def token(context: click.Context, token_file: str | None, file: str | None) -> None:
    """Create, list and revoke the tokens of API clients.

    The token file contains only a hash of each token. API servers notice a change within
    a second. Ends with status 1 if the file cannot be read or written. Examples:

    \b
        sos token add backup --scope upload --expires 30d
        sos token list
        sos token revoke backup
    """
    context.obj = lambda: Path(absolute(conf_value("token-file", token_file, file)))


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What the token permits; repeatable.",
)
@click.option(
    "--expires",
    metavar="TIME",
    callback=converted(quantities.duration),
    help="Lifetime of the token: 90s, 15m, 12h, 30d.  [default: until revoked]",
)
@click.pass_obj
def add(where: Callable[[], Path], name: str, scopes: tuple[str, ...], expires: int | None) -> None:
    """Create a token named NAME, and print it. It cannot be printed again.

    Example:

        sos token add backup --scope upload --expires 30d
    """
    with _changing(where()) as tokens:
        if any(each.name == name for each in tokens):
            raise click.UsageError(
                f"a token named {name} exists already: choose another name, or revoke that one"
            )
        try:
            secret, made = make_token(name, scopes, time.time(), expires)
            tokens[:] = Tokens([*tokens, made]).all
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    click.echo(secret)


@token.command(name="list")
@click.pass_obj
def list_(where: Callable[[], Path]) -> None:
    """List the tokens with their scopes and dates."""
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
    """Revoke the token named NAME."""
    with _changing(where(), must_exist=True) as tokens:
        kept = [each for each in tokens if each.name != name]
        if len(kept) == len(tokens):
            raise click.ClickException(f"there is no token named {name}; see sos token list")
        tokens[:] = kept


def _read(path: Path) -> Sequence[Token]:
    try:
        return read(str(path), parse_tokens).all
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _changing(path: Path, must_exist: bool = False) -> Iterator[list[Token]]:
    """Yield the tokens in the file *path* for changes, under a lock; then write them back."""
    path = path.resolve()  # replace the target of a symbolic link, not the link
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
    """Replace the file *path* atomically, with the same owner and mode."""
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
