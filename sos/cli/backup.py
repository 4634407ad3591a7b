"""``sos backup``: copy a store while a daemon uses it."""

from __future__ import annotations

from pathlib import Path

import click

from sos.cli import progress
from sos.cli.output import document_of, json_option, print_outcome
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
    help="Directory of the backup: new, empty, or an earlier backup of the same store.",
)
@json_option
def backup(store: Path, target: Path) -> None:
    """Back up a store, also while a daemon uses it.

    The backup is consistent, and itself a store.  On the same file system it links body files:
    they take no space, but are lost with that disk.  On another file system it copies and
    verifies them.  The next backup to the same directory adds new blobs, and removes those that
    the store no longer has.  If a backup is interrupted, the earlier one stays as it was, or no
    daemon opens the directory until you run the backup again.  Ends with status 1 if the backup
    failed, or left out damaged blobs.  Example:

        sos backup --store /var/lib/sos/data1 --to /mnt/backup/data1
    """
    withhold()
    with progress.of_things() as bar:
        task = bar.add_task("body files", total=None)

        def warn(text: str) -> None:
            click.echo(text, err=True)

        def show(done: int, all: int) -> None:
            bar.update(task, completed=done, total=all)

        with refused():
            report = back_up(store.absolute(), target.absolute(), warn, show)
    print_outcome(document_of(report), report)
    raise SystemExit(0 if report.ok else 1)
