"""``sos get`` and ``sos stat``: read objects from API servers."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

import click

from sos.cli import progress
from sos.cli.access import tls_options, token_options
from sos.cli.address import Address
from sos.cli.completion import FILE
from sos.cli.downloads import PART_SIZE, Downloader
from sos.cli.names import object_id, shown
from sos.cli.output import json_option, print_outcome
from sos.cli.program import converted
from sos.cli.reactor import run
from sos.cli.servers import download_option, exchange_with, fetches
from sos.http.client.agent import MOST_CONNECTIONS, Agent
from sos.http.tls import ClientTLS
from sos.stores.remote.client import Credentials

_download = download_option("URL of the API server's download port.")


@click.command()
@click.argument("id", callback=converted(object_id))
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    type=FILE,
    help="Write to FILE; - is standard output.  [default: standard output]",
)
@click.option(
    "--parallel",
    metavar="N",
    type=click.IntRange(1, MOST_CONNECTIONS),
    default=4,
    show_default=True,
    help=f"Fetch up to N parts in parallel. Each takes {PART_SIZE >> 20} MiB of memory.",
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
    """Download the object ID.

    Verifies the bytes against the id. FILE appears only after the whole object has
    arrived. Ends with status 1 if there is no such object, or the download failed.
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
    """Open the output; a file gets its name after it has been written completely."""
    if output in (None, "-"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    assert output is not None
    try:
        # Replace the target of a symbolic link, not the link.
        target = Path(output).resolve()
        if target.is_dir() or output.endswith("/"):
            raise IsADirectoryError(errno.EISDIR, "is a directory; name a file")
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
        error.filename, error.filename2 = output, None  # instead of the temporary file
        raise


@click.command()
@click.argument("id", callback=converted(object_id))
@json_option
@_download
@token_options
@tls_options
def stat(id: str, download_url: Address, credentials: Credentials | None, tls: ClientTLS) -> None:
    """Print the size of the object ID, when it expires if it does, and its metadata.

    Ends with status 1 if there is no such object, or the request failed. Example:

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
        expires = None
        if info.expires_at is not None:
            expires = datetime.fromtimestamp(info.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            lines.append(f"expires: {expires}")
        lines += [f"{name}: {shown(value)}" for name, value in metadata.items()]
        document = {
            "id": info.id,
            "size": info.size,
            "metadata": metadata,
            "expires_at": info.expires_at,
        }
        print_outcome(document, "\n".join(lines))

    run(describe)
