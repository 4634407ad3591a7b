"""``sos rebuild``: make a new index of what is left of a store."""

from __future__ import annotations

from pathlib import Path

import click

from sos.cli import progress
from sos.cli.output import document_of, json_option, tell
from sos.cli.program import refused
from sos.cli.stores import store_option
from sos.files.umask import withhold
from sos.stores.local.rebuild import Report
from sos.stores.local.rebuild import rebuild as rebuild_store


@click.command()
@store_option
@json_option
def rebuild(store: Path) -> None:
    """Make a new index for a store whose index is lost or damaged.

    No daemon may have it open.  Blobs are taken from the old index where that can be read, and
    from the files of bodies, behind which their ids and metadata stand; each body is verified.
    Nothing is deleted: the old index is called index.old-TIME then.  Bodies whose metadata is
    lost go to recovered/, and files that prove nothing to quarantine/.  What is lost is
    printed, for replication to bring.  Ends with 1 when anything is lost, or can be.  Example:

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
    tell(document_of(report), report)
    raise SystemExit(0 if report.ok else 1)
