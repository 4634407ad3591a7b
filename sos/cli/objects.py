"""``sos get``, ``sos stat``: what API servers have stored."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from sos import ids
from sos.cli import progress
from sos.cli.reactor import converted, run
from sos.cli.servers import download_option, fetches
from sos.interfaces import IBlobStore
from sos.stores.exchange import Exchange
from sos.wire.agent import Agent


def _id(text: str) -> str:
    """Take the id from *text*, which may have an extension as in /fetch/ID.jpg."""
    return ids.check(text.partition(".")[0])


_download = download_option("Where the API server serves fetches.")


@click.command()
@click.argument("id", callback=converted(_id))
@click.option("--output", "-o", metavar="FILE", help="Write to FILE, not to standard output (-).")
@_download
def get(id: str, output: str | None, download_url: str) -> None:
    """Fetch the object ID.

    What arrives is checked against the id; FILE appears only when it is whole.
    Example:

        sos get cd5bd649c4dc46b0bbdf8c94ee53c1198780e430 -o passwd
    """

    async def download(reactor: Any) -> None:
        blob = await _store(reactor, download_url).read(id)
        with progress.of_bytes() as bar, _destination(output) as file:
            if isinstance(blob.body, bytes):
                file.write(blob.body)
                return
            task = bar.add_task(output or id[:12], total=blob.info.size)
            async with contextlib.aclosing(blob.body):
                async for piece in blob.body:
                    file.write(piece)
                    bar.advance(task, len(piece))

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
@click.argument("id", callback=converted(_id))
@_download
def stat(id: str, download_url: str) -> None:
    """Tell the size and the metadata of the object ID."""

    async def describe(reactor: Any) -> None:
        info = await _store(reactor, download_url).stat(id)
        click.echo(f"id: {info.id}")
        click.echo(f"size: {'unknown' if info.size is None else info.size}")
        for name, value in sorted(info.metadata.items()):
            shown = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            click.echo(f"{name}: {shown}")

    run(describe)


def _store(reactor: Any, url: str) -> IBlobStore:
    return fetches(Exchange(url, Agent(reactor), reactor), reactor)
