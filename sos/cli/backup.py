"""``sos backup``: copy a store that is in use."""

from __future__ import annotations

from pathlib import Path

import click

from sos.cli import progress
from sos.cli.output import document_of, json_option, tell
from sos.cli.program import refused
from sos.cli.stores import store_option
from sos.files.umask import withhold
from sos.stores.local.backup import backup as back_up


@click.command()
@store_option
@click.option(
    "--to",
    "target",
    required=True,
    metavar="DIR2",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the backup is or will be: new, empty, or a backup of the same store.",
)
@json_option
def backup(store: Path, target: Path) -> None:
    """Make or update a consistent copy of a store, which a daemon may have open.

    The copy opens as a store.  On the same file system bodies in files are linked, so that they
    take no space, nor survive that disk; on another they are copied and verified.  The next
    backup brings what is new, and removes what the store has no more.  One that was broken off
    leaves the earlier one, or does not open as a store until it was run again.  Ends with 1
    when it failed, or when blobs were left out because they are damaged.  Example:

        sos backup --store /var/lib/sos/data1 --to /mnt/backup/data1
    """
    withhold()
    with progress.of_things() as bar:
        task = bar.add_task("bodies in files", total=None)

        def warn(text: str) -> None:
            click.echo(text, err=True)

        def show(done: int, all: int) -> None:
            bar.update(task, completed=done, total=all)

        with refused():
            report = back_up(store.absolute(), target.absolute(), warn, show)
    tell(document_of(report), report)
    raise SystemExit(0 if report.ok else 1)
