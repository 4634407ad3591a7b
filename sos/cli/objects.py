"""``sos put``, ``sos get``, ``sos stat``: a client of the API servers."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_format
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import IO, Any

import click
from rich.progress import Progress, TaskID

from sos import config, ids
from sos import metadata as metadata_format
from sos.cli import progress
from sos.cli.reactor import converted, explained, run
from sos.digest import BodyDigest
from sos.errors import Mismatch, SOSError
from sos.interfaces import BlobInfo, IBlobStore
from sos.stores.exchange import Exchange, Upload
from sos.stores.lane import threads_of
from sos.stores.remote import RemoteStore
from sos.transfer import transfer
from sos.wire.agent import Agent

_READ_SIZE = 256 * 1024


def _metadata(values: tuple[str, ...]) -> dict[str, str]:
    headers = []
    for value in values:
        name, colon, text = value.partition(":")
        if not (colon and name.lower().startswith("x-")):
            raise ValueError(f"{value!r} is not a header to keep: 'X-Name: value'")
        if metadata_format.is_excluded(metadata_format.canonical_name(name)):
            raise ValueError(f"{name} is never kept: it is for proxies, browsers or credentials")
        headers.append((name.encode(), text.strip().encode("utf-8", "surrogateescape")))
    return metadata_format.from_headers(headers)


def _id(text: str) -> str:
    """Take the id from *text*, which may have an extension as in /fetch/ID.jpg."""
    return ids.check(text.partition(".")[0])


_download = click.option(
    "--from",
    "server",
    metavar="URL",
    default="http://localhost:9992",
    envvar="SOS_DOWNLOAD",
    show_default=True,
    show_envvar=True,
    callback=converted(config.server_url),
    help="Where the API server serves fetches.",
)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--to",
    "server",
    metavar="URL",
    default="http://localhost:9991",
    envvar="SOS_UPLOAD",
    show_default=True,
    show_envvar=True,
    callback=converted(config.server_url),
    help="Where the API server takes uploads.",
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
def put(files: tuple[str, ...], server: str, metadata: dict[str, str]) -> None:
    """Upload each FILE, and print its id and name.

    A FILE of - is standard input.  Example:

        sos put photo.jpg -H 'X-Mime-Type: image/jpeg'
    """

    async def upload(reactor: Any) -> bool:
        exchange = Exchange(server, Agent(reactor), reactor)
        whole = True
        with progress.of_bytes() as bar:
            for name in files:
                try:
                    info = await _put(exchange, name, metadata, bar)
                except (OSError, SOSError) as error:
                    click.echo(f"Error: {_about(name, error)}", err=True)
                    whole = False
                else:
                    click.echo(f"{info.id}  {name}")
        return whole

    if not run(upload):
        raise SystemExit(1)


def _about(name: str, error: Exception) -> str:
    return explained(error) if isinstance(error, OSError) else f"{name}: {explained(error)}"


async def _put(exchange: Exchange, name: str, metadata: dict[str, str], bar: Progress) -> BlobInfo:
    with _source(name) as file:
        status = os.fstat(file.fileno())
        # What is no regular file does not know its size; files of /proc say 0.
        size = status.st_size or None if stat_format.S_ISREG(status.st_mode) else None
        digests = [BodyDigest(None, algorithm) for algorithm in ids.ALGORITHMS]
        task = bar.add_task(name, total=size)
        upload = Upload(exchange, "/upload", None, metadata, size)
        info = await transfer(_pieces(file, digests, bar, task), upload)
        bar.remove_task(task)
    if info.id not in [digest.verified_id() for digest in digests]:
        raise Mismatch(f"the server stored it as {info.id}, which is not the hash of its content")
    return info


@contextlib.contextmanager
def _source(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
    else:
        with open(name, "rb") as file:
            yield file


async def _pieces(
    file: IO[bytes], digests: list[BodyDigest], bar: Progress, task: TaskID
) -> AsyncGenerator[bytes, None]:
    while piece := file.read(_READ_SIZE):
        for digest in digests:
            digest.update(piece)
        yield piece
        bar.advance(task, len(piece))


@click.command()
@click.argument("id", callback=converted(_id))
@click.option("--output", "-o", metavar="FILE", help="Write to FILE, not to standard output (-).")
@_download
def get(id: str, output: str | None, server: str) -> None:
    """Fetch the object ID.

    What arrives is checked against the id; FILE appears only when it is whole.
    Example:

        sos get cd5bd649c4dc46b0bbdf8c94ee53c1198780e430 -o passwd
    """

    async def download(reactor: Any) -> None:
        blob = await _store(reactor, server).read(id)
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
def stat(id: str, server: str) -> None:
    """Tell the size and the metadata of the object ID."""

    async def describe(reactor: Any) -> None:
        info = await _store(reactor, server).stat(id)
        click.echo(f"id: {info.id}")
        click.echo(f"size: {'unknown' if info.size is None else info.size}")
        for name, value in sorted(info.metadata.items()):
            shown = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            click.echo(f"{name}: {shown}")

    run(describe)


def _store(reactor: Any, server: str) -> IBlobStore:
    exchange = Exchange(server, Agent(reactor), reactor)
    return RemoteStore(exchange, threads_of(reactor), path="/fetch/")
