"""``sos rebuild``: rebuild the index of a damaged store."""

from __future__ import annotations

from pathlib import Path

import click

from sos.cli import progress
from sos.cli.output import document_of, json_option, print_outcome
from sos.cli.program import refused
from sos.cli.stores import store_option
from sos.files.umask import withhold
from sos.stores.local.rebuild import Report
from sos.stores.local.rebuild import rebuild as rebuild_store


@click.command()
@store_option
@json_option
def rebuild(store: Path) -> None:
    """Rebuild the index of a store whose index is lost or damaged.

    Stop the daemon that uses it first.  Recovers blobs from the readable parts of the old index,
    and from the body files, whose trailers contain ids and metadata; verifies each body.
    Deletes nothing: it renames the old index to index.old-TIME, and moves bodies without
    metadata to recovered/, and files that it cannot identify to quarantine/.  Prints each lost
    blob; replication restores it if another server has a copy.  Ends with status 1 if blobs are
    lost, or may be.  Example:

        sos rebuild --store /var/lib/sos/data1
    """
    withhold()
    with progress.of_things() as bar:
        task = bar.add_task("rebuilding", total=None)

        def warn(text: str) -> None:
            click.echo(text, err=True)

        def show(report: Report) -> None:
            bar.update(task, completed=report.kept + report.from_files)

        with refused():
            report = rebuild_store(store.absolute(), warn, show)
    print_outcome(document_of(report), report)
    raise SystemExit(0 if report.ok else 1)
