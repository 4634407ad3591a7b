"""``sos check``: tell whether a store is whole, and change nothing."""

from __future__ import annotations

from pathlib import Path

import click

from sos.cli import progress
from sos.cli.output import document_of, json_option, tell
from sos.cli.program import refused
from sos.cli.stores import store_option
from sos.files.umask import withhold
from sos.stores.local.check import Finding, Report
from sos.stores.local.check import check as check_store


@click.command()
@store_option
@json_option
def check(store: Path) -> None:
    """Check that a store is whole, and change nothing in it.

    No daemon may have it open.  Everything is read: the structure of the index, each record,
    each body with the hashes of its blocks, and the files, of which each has to belong to a
    record; digests are counted anew.  What is found is printed, a line for each.  Ends with 1
    when anything was found.  Example:

        sos check --store /var/lib/sos/data1
    """
    withhold()
    with progress.of_things() as bar:
        task = bar.add_task("checking", total=None)

        def found(finding: Finding) -> None:
            click.echo(finding, err=True)

        def show(report: Report) -> None:
            bar.update(task, completed=report.checked)

        with refused():
            report = check_store(store.absolute(), found, show)
    tell(document_of(report), report)
    raise SystemExit(0 if report.ok else 1)
