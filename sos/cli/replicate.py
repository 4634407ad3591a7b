"""``sos replicate``: one pass, by hand or from cron."""

from __future__ import annotations

import sys
from typing import Any

import click

from sos import config, ids
from sos.cli import progress
from sos.cli.reactor import converted, run
from sos.cli.servers import cluster_options, configured
from sos.replication import Summary
from sos.replication import replicate as replicate_groups
from sos.tap import cluster

_DEFAULT_COPIES = 2


@click.command()
@click.option("--verbose", "-v", is_flag=True, help="Print a line for each copy made.")
@click.option(
    "--min-copies",
    metavar="N",
    callback=converted(config.copies),
    help="Servers of a group that should hold each blob.  [default: 2]",
)
@cluster_options("Replicate among these, as one group.")
def replicate(
    verbose: bool, min_copies: int | None, blob_server: str | None, file: str | None
) -> None:
    """Copy what too few servers of its group hold.

    Ends with 1 when not every blob has its copies afterwards, or when a server
    could not say what it holds.  Example, for a cron job:

        sos replicate --min-copies 3
    """
    found = configured(file, blob_server)
    copies = min_copies or found.settings.get("min-copies", _DEFAULT_COPIES)

    async def one_pass(reactor: Any) -> Summary:
        groups = cluster.remote_groups(found, reactor, ids.DEFAULT_ALGORITHM)
        with progress.of_things() as bar:
            task = bar.add_task("copying", total=None)

            def show(summary: Summary) -> None:
                done = summary.copied + summary.failed
                bar.update(task, total=summary.planned, completed=done)

            def note(text: str) -> None:
                if verbose:
                    click.echo(text)

            def warn(text: str) -> None:
                click.echo(text, err=True)

            return await replicate_groups(groups, copies, show, note, warn)

    summary = run(one_pass)
    click.echo(summary)
    sys.exit(0 if summary.ok else 1)
