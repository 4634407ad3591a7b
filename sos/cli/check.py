"""``sos check``: verify a store without changing it."""

from __future__ import annotations

from pathlib import Path

import click

from sos.cli import progress
from sos.cli.output import document_of, json_option, print_outcome
from sos.cli.program import refused
from sos.cli.stores import store_option
from sos.files.umask import withhold
from sos.stores.local.check import Finding, Report
from sos.stores.local.check import check as check_store


@click.command()
@store_option
@json_option
def check(store: Path) -> None:
    """Verify that a store is intact, without changing it.

    Stop the daemon that uses it first.  Reads everything: the structure of the index, each
    record, and each body with its block hashes; recomputes the digests of the partitions; and
    looks for files without a record.  Prints a line for each fault.  Ends with status 1 if
    there is any.  Example:

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
    print_outcome(document_of(report), report)
    raise SystemExit(0 if report.ok else 1)
