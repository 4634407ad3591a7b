"""``sos rm``: delete objects."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import click
from attrs import define, field

from sos.aio.gather import for_each
from sos.cli import progress
from sos.cli.access import tls_options, token_options
from sos.cli.address import Address
from sos.cli.completion import FILE
from sos.cli.names import listed_id, object_id, shown
from sos.cli.output import as_json, json_lines_option_for, print_line
from sos.cli.program import converted
from sos.cli.reactor import run
from sos.cli.servers import exchange_with, upload_option
from sos.cli.stored_objects import StoredObjects, Unsupported
from sos.errors import Deleted, Forbidden, InvalidId, NotFound, SOSError
from sos.http.client.agent import MOST_CONNECTIONS, Agent
from sos.http.tls import ClientTLS
from sos.stores.remote.client import Credentials

_STDIN = "-"


def _ids(texts: Iterable[str]) -> list[str]:
    return [object_id(text) for text in texts]


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...", callback=converted(_ids))
@click.option(
    "--from-file",
    "list_file",
    metavar="FILE",
    type=FILE,
    help="Delete the objects listed in FILE as well; - is standard input. Each line begins with an "
    "id, as in the output of sos put; the rest of the line is ignored.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print the ids that would be deleted, and contact no server."
)
@click.option(
    "--yes", "-y", is_flag=True, help="Do not ask before more than one object is deleted."
)
@click.option(
    "--force", "-f", is_flag=True, help="Ignore objects that do not exist or were deleted before."
)
@click.option(
    "--parallel",
    metavar="N",
    type=click.IntRange(1, MOST_CONNECTIONS),
    default=4,
    show_default=True,
    help="Delete up to N objects in parallel.",
)
@json_lines_option_for("object")
@upload_option("URL of the API server's upload port, which also deletes.")
@token_options
@tls_options
def rm(
    ids: Sequence[str],
    list_file: str | None,
    dry_run: bool,
    yes: bool,
    force: bool,
    parallel: int,
    upload_url: Address,
    credentials: Credentials | None,
    tls: ClientTLS,
) -> None:
    """Delete the objects with these IDs on all servers.

    The server must permit it (sos-api --allow-delete), and the token must have the scope
    delete. An ID may have an extension.  Prints the id of each object when it is deleted.
    Asks first if there is more than one; if standard input is not a terminal, --yes is
    required then.  Ends with status 1 if an object was not deleted, or did not exist
    without --force.  Examples:

        sos rm cd5bd649c4dc46b0bbdf8c94ee53c1198780e430

        sos rm --yes --from-file photos.ids
    """
    if not ids and list_file is None:
        raise click.UsageError("name the ids of the objects to delete, or a file with --from-file")
    listed = [] if list_file is None else _listed(list_file)
    wanted = list(dict.fromkeys([*ids, *listed]))
    if dry_run:
        for id in wanted:
            _print(id, "planned")
        return
    if len(wanted) > 1 and not yes:
        _ask(len(wanted), upload_url.url)

    async def delete(reactor: Any) -> bool:
        agent = Agent(reactor, tls=tls)
        exchange = exchange_with("--to", upload_url, agent, reactor, credentials)
        with progress.of_things() as bar:
            task = bar.add_task("deleting", total=len(wanted))
            deletions = Deletions(StoredObjects(exchange), force, partial(bar.advance, task))
            await for_each(wanted, deletions.delete, parallel)
        if deletions.refusal is not None:
            raise deletions.refusal
        return not deletions.failed

    if not run(delete):
        raise SystemExit(1)


def _listed(name: str) -> list[str]:
    """Return the ids in the file *name*; raise UsageError if a line has none."""
    with click.open_file(name, "rb") as file:
        lines = file.read().split(b"\n")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            id = listed_id(line.decode("utf-8", "replace"))
        except InvalidId as error:
            place = "standard input" if name == _STDIN else name
            raise click.UsageError(f"{place}, line {number}: {error}") from None
        if id is not None:
            found.append(id)
    return found


def _ask(count: int, url: str) -> None:
    """Ask whether to delete *count* objects; raise Abort if not."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(
            f"{count} objects would be deleted, and standard input is not a terminal to ask on: "
            "add --yes, or look with --dry-run first"
        )
    click.confirm(f"Delete {count} objects on {url}?", abort=True, err=True)


@define
class Deletions:
    """Deletes objects, and prints what becomes of each.

    :param force: whether objects that do not exist are no failure.
    :param advance: called after each object.
    :ivar failed: whether an object was not deleted.
    :ivar refusal: why the server deletes nothing for this client.  No more requests are sent then.
    """

    objects: StoredObjects
    force: bool
    advance: Callable[[], object]
    failed: bool = field(init=False, default=False)
    refusal: SOSError | None = field(init=False, default=None)

    async def delete(self, id: str) -> None:
        """Delete one object."""
        if self.refusal is not None:
            return
        try:
            servers = await self.objects.delete(id)
        except NotFound as error:
            if not self.force:
                was = isinstance(error, Deleted)
                self._fail(id, "it was deleted before" if was else "there is no such object")
            _print_json(id, "missing")
        except Unsupported as error:
            self.refusal = error
        except Forbidden as error:
            if not _is_of(id, error):
                self.refusal = error
                return
            self._fail(id, error)
            _print_json(id, "failed", error=str(error))
        except SOSError as error:
            self._fail(id, error)
            _print_json(id, "failed", error=str(error))
        else:
            _print(id, "deleted", servers=servers)
        self.advance()

    def _fail(self, id: str, reason: object) -> None:
        self.failed = True
        click.echo(f"Error: {shown(f'{id}: {reason}')}", err=True)


def _is_of(id: str, error: Forbidden) -> bool:
    """Return whether a refusal is about this object, which is too young, and not about all."""
    return f": {id} must not be deleted" in str(error)


def _print(id: str, status: str, **more: object) -> None:
    if as_json():
        _print_json(id, status, **more)
    else:
        click.echo(id)


def _print_json(id: str, status: str, **more: object) -> None:
    if as_json():
        print_line({"id": id, "status": status, **more})
