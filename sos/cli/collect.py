"""``sos gc``: collect garbage, by hand or from cron."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from sos.aio.threads import threads_of
from sos.cli import progress
from sos.cli.output import as_json, document_of, json_option, print_outcome
from sos.cli.reactor import run
from sos.cli.servers import announcer_of, cluster_options, configured, groups_of, wanted_copies
from sos.collection import Limits, Report, Summary
from sos.collection import collect as collect_garbage
from sos.interfaces import Groups
from sos.model.conf_parser import Config
from sos.model.settings import SETTINGS
from sos.tap import cluster


@click.command()
@click.option("--verbose", "-v", is_flag=True, help="Print each object and chunk that is removed.")
@click.option("--dry-run", "-n", is_flag=True, help="Print what would be removed; remove nothing.")
@json_option
@cluster_options("Collect the garbage of these blob servers. Name all of the cluster.")
def gc(
    verbose: bool,
    dry_run: bool,
    blob_server: str | None,
    file: str | None,
    access: dict[str, Any],
) -> None:
    """Remove expired objects, chunks that no object needs any more, and old tombstones.

    Chunks are left over when large objects are deleted and when uploads break off. Reads the
    manifests of all objects, and removes the chunks that none of them names, that were stored
    longer ago than gc-grace, and that nobody has uploaded as an object. Removes nothing if a server
    does not answer, a manifest cannot be read, or a chunk of an object is on none of the servers.
    Chunks that SOS 0.1.0 stored stay. API servers do the same every gc-every. Ends with status 1 if
    it was not completed. Examples:

    \b
        sos gc --dry-run
        sos gc --json
    """
    found = configured(file, blob_server, access)
    announcer = announcer_of(found, wanted_copies(found))
    summary = run(
        lambda reactor: _collected(
            groups_of(found, reactor, announcer), found, reactor, verbose or dry_run, dry_run
        )
    )
    print_outcome(document_of(summary), summary)
    sys.exit(0 if summary.ok else 1)


async def _collected(
    groups: Groups, found: Config, reactor: Any, verbose: bool, dry_run: bool
) -> Summary:
    with progress.of_things() as bar:
        marking = bar.add_task("reading manifests", total=None)
        sweeping = bar.add_task("searching", total=None)

        def show(summary: Summary) -> None:
            bar.update(marking, total=summary.partitions, completed=summary.marked)
            bar.update(sweeping, total=summary.partitions, completed=summary.swept)

        def note(text: str) -> None:
            if verbose:
                click.echo(text, err=as_json())

        limits = Limits(*(_setting(found, name) for name in ("gc-grace", "tombstone-age")))
        threads = threads_of(reactor)
        try:
            return await collect_garbage(
                groups, limits, reactor, threads, time.time, Report(show, note), dry_run
            )
        finally:
            await cluster.leave(groups, reactor)


def _setting(found: Config, name: str) -> float:
    value: Any = found.settings.get(name, SETTINGS[name].default)
    return float(value)
