"""``sos scrub``: scrub a store while no daemon uses it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from sos.cli import progress
from sos.cli.output import document_of, json_option, print_outcome
from sos.cli.program import converted
from sos.cli.reactor import run
from sos.cli.stores import store_option
from sos.files.umask import withhold
from sos.model import quantities
from sos.scrub import Report
from sos.scrub import scrub as scrub_store
from sos.stores.local import LocalStore


@click.command()
@store_option
@click.option(
    "--rate",
    metavar="BYTES",
    callback=converted(quantities.size),
    help="Read at most BYTES per second (64K, 8M).  [default: no limit]",
)
@json_option
def scrub(store: Path, rate: int | None) -> None:
    """Verify every blob of a store, and quarantine damaged ones.

    Stop the daemon that uses the store first.  A running daemon scrubs its store
    by itself: see --scrub-every of twistd sos-blob.  Ends with status 1 if a
    blob is damaged or unreadable.  Example:

        sos scrub --store /var/lib/sos/data1
    """

    withhold()

    async def one_pass(reactor: Any) -> Report:
        opened = LocalStore(store.absolute(), reactor, require=True)
        opened.open()
        try:
            total = (await opened.status()).blobs
            report = Report()
            with progress.of_things() as bar:
                task = bar.add_task("checking", total=total)

                def show(report: Report) -> None:
                    bar.update(task, completed=report.checked)

                def warn(text: str) -> None:
                    click.echo(text, err=True)

                await scrub_store(
                    opened.disk_order(), report, reactor, rate or 0, time.time, show, warn
                )
            return report
        finally:
            await opened.close()

    report = run(one_pass)
    print_outcome(document_of(report), report)
    raise SystemExit(0 if report.ok else 1)
