"""``sos put``: upload files."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import click
from click.core import ParameterSource
from rich.progress import Progress

from sos.aio.gather import for_each
from sos.aio.threads import RunInThread, threads_of
from sos.cli import progress
from sos.cli.access import tls_options, token_options
from sos.cli.address import Address
from sos.cli.completion import FILE
from sos.cli.files import found_below
from sos.cli.names import list_line, printable
from sos.cli.output import as_json, json_lines_option_for, print_line
from sos.cli.program import converted
from sos.cli.reactor import run
from sos.cli.servers import download_option, exchange_with, fetches, upload_option
from sos.cli.uploads import SECONDS, Uploader
from sos.errors import SOSError
from sos.http.client.agent import MOST_CONNECTIONS, Agent
from sos.http.tls import ClientTLS
from sos.model import expiry, quantities
from sos.model import metadata as metadata_format
from sos.model.foreign_headers import is_foreign
from sos.stores.remote.client import Credentials

_STDIN = "-"


def _metadata(values: tuple[str, ...]) -> dict[str, str]:
    headers = []
    for value in values:
        name, colon, text = value.partition(":")
        if not (colon and name.lower().startswith("x-")):
            raise ValueError(f"{value!r} is not a metadata header: write 'X-Name: value'")
        if is_foreign(name):
            raise ValueError(
                f"servers do not store {name}: it is for proxies, browsers or credentials"
            )
        headers.append((name.encode(), text.strip().encode("utf-8", "surrogateescape")))
    return metadata_format.from_server(headers)


def _timeout(text: str) -> float:
    seconds = quantities.seconds(text)
    if not seconds:
        raise ValueError("the timeout must be more than 0 seconds")
    return seconds


def _expiry(text: str) -> str:
    expiry.parse(text, time.time())  # raises ValueError
    return text


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=FILE)
@click.option(
    "--recursive",
    "-r",
    is_flag=True,
    help="Upload all regular files below each FILE that is a directory. Symbolic links, "
    "pipes and other special files below it are errors.",
)
@click.option(
    "--parallel",
    metavar="N",
    type=click.IntRange(1, MOST_CONNECTIONS),
    default=4,
    show_default=True,
    help="With -r, upload up to N files in parallel.",
)
@click.option(
    "--header",
    "-H",
    "metadata",
    multiple=True,
    metavar="'X-NAME: VALUE'",
    callback=converted(_metadata),
    help="Store this header with the object; repeatable. X-Mime-Type sets the Content-Type of "
    "downloads.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    default=f"{SECONDS:g}",
    show_default=True,
    callback=converted(_timeout),
    help="Give up after SECONDS without progress.",
)
@click.option(
    "--expires",
    metavar="WHEN",
    callback=converted(_expiry),
    help="Let the files expire: after a time span (90s, 15m, 12h, 30d), or at a time "
    "(2030-12-31T23:59:59Z). If a file was stored before, the later end counts.",
)
@json_lines_option_for("file")
@upload_option("URL of the API server's upload port.")
@download_option(
    "URL of the API server's download port, to look for files that are stored already. If you "
    "set --to, set --from as well, or every file is uploaded."
)
@token_options
@tls_options
@click.pass_context
def put(
    context: click.Context,
    files: tuple[str, ...],
    recursive: bool,
    parallel: int,
    metadata: dict[str, str],
    timeout: float,
    expires: str | None,
    upload_url: Address,
    download_url: Address,
    credentials: Credentials | None,
    tls: ClientTLS,
) -> None:
    """Upload files and print their ids.

    Does not send a file that is stored already, but renews it, so that an earlier
    deletion does not delete it. Where ids are SHA-1, it reads the
    stored object back to compare it, since two files can have the same SHA-1. The
    server verifies each upload against the hash of the file.  A FILE of - is
    standard input, which can be a pipe; any other FILE cannot.  Prints each id and
    name in the format of sha1sum; with -r at the end, sorted by path.  Ends with
    status 1 if a file could not be uploaded.  Examples:

        sos put photo.jpg -H 'X-Mime-Type: image/jpeg'

        sos put -r photos --parallel 8 > photos.ids
    """
    if recursive and _STDIN in files:
        raise click.UsageError("-r cannot upload standard input (-)")

    async def upload(reactor: Any) -> bool:
        agent = Agent(reactor, tls=tls)
        stored = None
        if _is_of_the_same_servers(context):
            asked = exchange_with("--from", download_url, agent, reactor, credentials)
            stored = fetches(asked, reactor)
        threads = threads_of(reactor)
        exchange = exchange_with("--to", upload_url, agent, reactor, credentials)
        uploader = Uploader(exchange, threads, metadata, stored, timeout, expires)
        try:
            return await put_files(uploader, threads)
        finally:
            if left_out := sorted(metadata.keys() & exchange.ignored):
                click.echo(
                    f"Warning: {upload_url.url} did not store the headers {', '.join(left_out)}",
                    err=True,
                )

    async def put_files(uploader: Uploader, threads: RunInThread) -> bool:
        with progress.of_bytes() as bar:
            if not recursive:
                return await _put_each(files, uploader, bar)
            found = await found_below(files, threads)
            for error in found.errors:
                _complain(error.filename, error)
            task = bar.add_task("uploading", total=sum(found.sizes.values()))
            advance = partial(bar.advance, task)
            stored_ids = await put_all(
                found.sizes, lambda path: uploader.put(path, advance, path in files), parallel
            )
        for name, id in stored_ids.items():
            _print_id(id, name)
        return not found.errors and len(stored_ids) == len(found.sizes)

    if not run(upload):
        raise SystemExit(1)


def _is_of_the_same_servers(context: click.Context) -> bool:
    """Return whether --from and --to name ports of the same API server.

    If only --to is set, the default of --from may be the port of an unrelated server,
    which holds other objects.
    """
    source = context.get_parameter_source("download_url")
    named = source is ParameterSource.COMMANDLINE
    return named or source is context.get_parameter_source("upload_url")


async def _put_each(files: Iterable[str], uploader: Uploader, bar: Progress) -> bool:
    """Upload one file after the other; return whether all are stored."""
    whole = True
    for name in files:
        task = bar.add_task(printable(name), total=_size(name))
        advance = partial(bar.advance, task)
        try:
            if name == _STDIN:
                id = await uploader.stream(sys.stdin.buffer, advance)
            else:
                id = await uploader.put(name, advance)
        except (OSError, SOSError) as error:
            _complain(name, error)
            whole = False
        else:
            _print_id(id, name)
        bar.remove_task(task)
    return whole


def _size(name: str) -> int | None:
    try:
        return os.stat(name).st_size or None
    except OSError:
        return None


async def put_all(
    names: Iterable[str], work: Callable[[str], Coroutine[Any, Any, str]], parallel: int
) -> dict[str, str]:
    """Run *work* for each of *names*, up to *parallel* at once; return the results by name.

    They are in the order of *names*.  An error is printed, and its name is left out.
    """
    done: dict[str, str] = {}

    async def put(name: str) -> None:
        try:
            done[name] = await work(name)
        except (OSError, SOSError) as error:
            _complain(name, error)

    await for_each(names, put, parallel)
    return {name: done[name] for name in names if name in done}


def _print_id(id: str, name: str) -> None:
    if as_json():
        print_line({"id": id, "file": name})
    elif sys.stdout.isatty():
        click.echo(f"{id}  {printable(name)}")
    else:
        click.echo(list_line(id, name), nl=False)


def _complain(name: str, error: Exception) -> None:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    click.echo(f"Error: {printable(f'{name}: {reason}')}", err=True)
