"""``sos import``: import the data directory of an original SOS blob server."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click
from attrs import define
from twisted.internet.defer import FirstError, ensureDeferred, gatherResults

from sos.cli import progress
from sos.cli.files import version_of
from sos.cli.names import printable
from sos.cli.output import document_of, json_option, print_outcome
from sos.cli.reactor import run
from sos.errors import InvalidId, InvalidMetadata, Mismatch, NotFound, SOSError, Unavailable
from sos.files.regular import open_regular, read_regular
from sos.files.umask import withhold
from sos.model import ids, metadata
from sos.stores.local import LocalStore
from sos.transfer import are_same, transfer

_READ_SIZE = 256 * 1024
# Uploads in flight: they share a sync, and each has a file open.
_CONCURRENCY = 32
# Bytes of an ID.json: more than any valid metadata takes, however it is written.
_MOST_OF_METADATA = 64 * 1024


@define
class _Outcome:
    taken: int = 0
    there: int = 0
    failed: int = 0

    @property
    def ok(self) -> bool:
        return not self.failed

    def __str__(self) -> str:
        return f"{self.taken} blobs imported, {self.there} already stored, {self.failed} failed"


@click.command("import")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--store",
    "-s",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the store; created if it does not exist.",
)
@json_option
def import_(directory: Path, store: Path) -> None:
    """Import every blob in DIRECTORY, with its metadata.

    DIRECTORY is the data directory of an original SOS blob server: a flat
    directory with a file for each blob, named by its id, and its X-* headers in
    ID.json.  Each body must match its id.  Blobs that the store has already,
    byte for byte, are skipped, so you can run an interrupted import again.
    Nothing in DIRECTORY changes.  Links, pipes and other special files are
    errors.  Ends with status 1 if a blob could not be imported.  Example:

        sos import /srv/sos/data1 --store /var/lib/sos/data1
    """

    withhold()

    async def work(reactor: Any) -> _Outcome:
        opened = LocalStore(store.absolute(), reactor)
        opened.open()
        outcome = _Outcome()
        try:
            with progress.of_things() as bar:
                task = bar.add_task("importing", total=sum(1 for _ in _bodies(directory)))
                remaining = _bodies(directory)

                async def worker() -> None:
                    for path in remaining:
                        await _take(path, opened, outcome)
                        bar.advance(task)

                workers = [ensureDeferred(worker()) for _ in range(_CONCURRENCY)]
                try:
                    await gatherResults(workers, consumeErrors=True)
                except FirstError as error:
                    error.subFailure.raiseException()
        finally:
            await opened.close()
        return outcome

    outcome = run(work)
    print_outcome(document_of(outcome), outcome)
    raise SystemExit(0 if outcome.ok else 1)


def _bodies(directory: Path) -> Iterator[Path]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.endswith(".json"):
                yield Path(entry.path)


async def _take(path: Path, store: LocalStore, outcome: _Outcome) -> None:
    try:
        id = ids.check(path.name)
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if await _is_there(store, id, file):
                outcome.there += 1
                return
            file.seek(0)
            await transfer(_pieces(file), store.writer(id, _metadata(path), size))
        outcome.taken += 1
    except InvalidId:
        _complain(path, "the name of the file is not an id", outcome)
    except OSError as error:
        place = path if error.filename is None else Path(os.fsdecode(error.filename))
        _complain(place, error.strerror or str(error), outcome)
    except SOSError as error:
        _complain(path, str(error), outcome)


def _complain(path: Path, reason: str, outcome: _Outcome) -> None:
    outcome.failed += 1
    click.echo(printable(f"{path}: {reason}"), err=True)


async def _is_there(store: LocalStore, id: str, file: BinaryIO) -> bool:
    try:
        return await are_same((await store.read(id)).body, _pieces(file))
    except (NotFound, Mismatch, Unavailable):  # replace a damaged blob
        return False


def _metadata(path: Path) -> dict[str, str]:
    try:
        text = read_regular(path.with_name(path.name + ".json"), _MOST_OF_METADATA)
    except FileNotFoundError:
        return {}
    try:
        found = metadata.decode(text)
    except InvalidMetadata as error:
        raise InvalidMetadata(f"{path.name}.json: {error}") from None
    return {
        name: value
        for name, value in ((metadata.canonical_name(n), v) for n, v in found.items())
        if not metadata.is_withheld(name)
    }


async def _pieces(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    version = version_of(file.fileno())
    while piece := file.read(_READ_SIZE):
        yield piece
    if version_of(file.fileno()) != version:
        raise Mismatch("the file changed during the import: run the import again")
