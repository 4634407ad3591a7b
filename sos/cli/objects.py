"""``sos get``, ``sos stat``: what API servers have stored."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import click

from sos.cli import progress
from sos.cli.access import tls_options, token_options
from sos.cli.address import Address
from sos.cli.completion import FILE
from sos.cli.downloads import PART_SIZE, Downloader
from sos.cli.names import shown
from sos.cli.output import json_option, tell
from sos.cli.program import converted
from sos.cli.reactor import run
from sos.cli.servers import download_option, exchange_with, fetches
from sos.http.client.agent import MOST_CONNECTIONS, Agent
from sos.http.tls import ClientTLS
from sos.model import ids
from sos.stores.remote.client import Credentials


def object_id(text: str) -> str:
    """Take the id from *text*, which may have an extension as in /fetch/ID.jpg."""
    return ids.check(text.partition(".")[0])


_download = download_option("Where the API server serves fetches.")


@click.command()
@click.argument("id", callback=converted(object_id))
@click.option(
    "--output", "-o", metavar="FILE", type=FILE, help="Write to FILE, not to standard output (-)."
)
@click.option(
    "--parallel",
    metavar="N",
    type=click.IntRange(1, MOST_CONNECTIONS),
    default=4,
    show_default=True,
    help=f"Fetch so many parts at once, each of {PART_SIZE >> 20} MiB, which it takes in memory.",
)
@_download
@token_options
@tls_options
def get(
    id: str,
    output: str | None,
    parallel: int,
    download_url: Address,
    credentials: Credentials | None,
    tls: ClientTLS,
) -> None:
    """Fetch the object ID.

    What arrives is checked against the id; FILE appears only when it is whole.
    Ends with 1 when there is no such object, or it could not be had whole.
    Example:

        sos get cd5bd649c4dc46b0bbdf8c94ee53c1198780e430 -o passwd
    """

    async def download(reactor: Any) -> None:
        exchange = exchange_with(
            "--from", download_url, Agent(reactor, tls=tls), reactor, credentials
        )
        downloader = Downloader(exchange, reactor, parallel)
        with progress.of_bytes() as bar:
            task = bar.add_task(output or id[:12], total=None)
            size, body = await downloader.open(id, partial(bar.advance, task))
            bar.update(task, total=size)
            if isinstance(body, bytes):
                with _destination(output) as file:
                    file.write(body)
                return
            async with contextlib.aclosing(body):
                with _destination(output) as file:
                    async for piece in body:
                        file.write(piece)

    run(download)


@contextlib.contextmanager
def _destination(output: str | None) -> Iterator[IO[bytes]]:
    """Open what to write to; a file takes its name when all has been written."""
    if output in (None, "-"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    assert output is not None
    try:
        # What a link points to is replaced, not the link.
        target = Path(output).resolve()
        if target.is_dir() or output.endswith("/"):
            raise IsADirectoryError(errno.EISDIR, "is a directory, name a file")
        if target.exists() and not target.is_file():
            with open(target, "wb") as device:
                yield device
            return
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".sos-", delete=False) as file:
            unfinished = Path(file.name)
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                umask = os.umask(0)
                os.umask(umask)
                unfinished.chmod(0o666 & ~umask)
                unfinished.replace(target)
            except BaseException:
                unfinished.unlink()
                raise
    except OSError as error:
        error.filename, error.filename2 = output, None  # not that of the unfinished file
        raise


@click.command()
@click.argument("id", callback=converted(object_id))
@json_option
@_download
@token_options
@tls_options
def stat(id: str, download_url: Address, credentials: Credentials | None, tls: ClientTLS) -> None:
    """Tell the size and the metadata of the object ID.

    Ends with 1 when there is no such object, or when that cannot be told. Example:

        sos stat cd5bd649c4dc46b0bbdf8c94ee53c1198780e430
    """

    async def describe(reactor: Any) -> None:
        exchange = exchange_with(
            "--from", download_url, Agent(reactor, tls=tls), reactor, credentials
        )
        info = await fetches(exchange, reactor).stat(id)
        metadata = {
            name: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            for name, value in sorted(info.metadata.items())
        }
        lines = [f"id: {info.id}", f"size: {'unknown' if info.size is None else info.size}"]
        lines += [f"{name}: {shown(value)}" for name, value in metadata.items()]
        document = {"id": info.id, "size": info.size, "metadata": metadata}
        tell(document, "\n".join(lines))

    run(describe)
