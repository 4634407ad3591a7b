"""``sos put``: upload files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import click
from click.core import ParameterSource
from rich.progress import Progress
from twisted.internet.defer import FirstError, ensureDeferred, gatherResults

from sos.aio.threads import RunInThread, threads_of
from sos.cli import progress
from sos.cli.access import tls_options, token_options
from sos.cli.address import Address
from sos.cli.completion import FILE
from sos.cli.files import found_below
from sos.cli.names import list_line, printable
from sos.cli.output import as_json, json_lines_option, tell_line
from sos.cli.program import converted
from sos.cli.reactor import run
from sos.cli.servers import download_option, exchange_with, fetches, upload_option
from sos.cli.uploads import SECONDS, Uploader
from sos.errors import SOSError
from sos.http.client.agent import MOST_CONNECTIONS, Agent
from sos.http.tls import ClientTLS
from sos.model import config
from sos.model import metadata as metadata_format
from sos.model.foreign_headers import is_foreign
from sos.stores.remote.client import Credentials

_STDIN = "-"


def _metadata(values: tuple[str, ...]) -> dict[str, str]:
    headers = []
    for value in values:
        name, colon, text = value.partition(":")
        if not (colon and name.lower().startswith("x-")):
            raise ValueError(f"{value!r} is not a header to keep: 'X-Name: value'")
        if is_foreign(name):
            raise ValueError(f"{name} is not kept: it is for proxies, browsers or credentials")
        headers.append((name.encode(), text.strip().encode("utf-8", "surrogateescape")))
    return metadata_format.from_server(headers)


def _timeout(text: str) -> float:
    seconds = config.seconds(text)
    if not seconds:
        raise ValueError("0 is no time at all")
    return seconds


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=FILE)
@click.option(
    "--recursive",
    "-r",
    is_flag=True,
    help="Upload every regular file below each FILE that is a directory. Symbolic links, "
    "pipes and whatever else is there are not followed or read, but told.",
)
@click.option(
    "--parallel",
    metavar="N",
    type=click.IntRange(1, MOST_CONNECTIONS),
    default=4,
    show_default=True,
    help="With -r, work on so many files at once.",
)
@click.option(
    "--header",
    "-H",
    "metadata",
    multiple=True,
    metavar="'X-NAME: VALUE'",
    callback=converted(_metadata),
    help="Keep this with the object; X-Mime-Type is served as its Content-Type.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    default=f"{SECONDS:g}",
    show_default=True,
    callback=converted(_timeout),
    help="Give a server up that does nothing for so long.",
)
@json_lines_option
@upload_option("Where the API server takes uploads.")
@download_option(
    "Where to ask what is there already. Not asked, unless it is given, when it is --to "
    "alone that is given or set in the environment."
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
    upload_url: Address,
    download_url: Address,
    credentials: Credentials | None,
    tls: ClientTLS,
) -> None:
    """Upload each FILE, and print its id and name.

    A file that is there already is not sent again, though it is read back where
    ids are SHA-1, for two files can have the same; one that is sent is checked by
    the server against the hash that it had before.  With -r the ids come at
    the end, sorted by path.  A FILE of - is standard input, which can be a pipe; a
    FILE cannot.  Names are printed in the format of sha1sum.  Ends with 1 when
    anything could not be uploaded.  Examples:

        sos put photo.jpg -H 'X-Mime-Type: image/jpeg'

        sos put -r photos --parallel 8 > photos.ids
    """
    if recursive and _STDIN in files:
        raise click.UsageError("standard input (-) is not for -r")

    async def upload(reactor: Any) -> bool:
        agent = Agent(reactor, tls=tls)
        stored = None
        if _is_of_the_same_servers(context):
            asked = exchange_with("--from", download_url, agent, reactor, credentials)
            stored = fetches(asked, reactor)
        threads = threads_of(reactor)
        exchange = exchange_with("--to", upload_url, agent, reactor, credentials)
        uploader = Uploader(exchange, threads, metadata, stored, timeout)
        try:
            return await put_files(uploader, threads)
        finally:
            if left_out := sorted(metadata.keys() & exchange.ignored):
                click.echo(f"{upload_url.url} does not keep {', '.join(left_out)}", err=True)

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
            _tell(id, name)
        return not found.errors and len(stored_ids) == len(found.sizes)

    if not run(upload):
        raise SystemExit(1)


def _is_of_the_same_servers(context: click.Context) -> bool:
    """Tell whether --from can be asked for what --to has stored.

    Where the one is named and the other is not, the other would be a default
    that has nothing to do with it: what is there need not be here.
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
            _tell(id, name)
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
    """Do *work* for each of *names*, so many at once; return its results in their order.

    One that fails is told of, and is not among them.
    """
    done: dict[str, str] = {}
    remaining = iter(names)

    async def worker() -> None:
        for name in remaining:
            try:
                done[name] = await work(name)
            except (OSError, SOSError) as error:
                _complain(name, error)

    try:
        workers = [ensureDeferred(worker()) for _ in range(parallel)]
        await gatherResults(workers, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
    return {name: done[name] for name in names if name in done}


def _tell(id: str, name: str) -> None:
    if as_json():
        tell_line({"id": id, "file": name})
    elif sys.stdout.isatty():
        click.echo(f"{id}  {printable(name)}")
    else:
        click.echo(list_line(id, name), nl=False)


def _complain(name: str, error: Exception) -> None:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    click.echo(f"Error: {printable(f'{name}: {reason}')}", err=True)
