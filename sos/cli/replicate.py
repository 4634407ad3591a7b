"""``sos replicate``: run one anti-entropy pass, by hand or from cron."""

from __future__ import annotations

import sys
from typing import Any

import click

from sos.cli import progress
from sos.cli.output import as_json, document_of, json_option, print_outcome
from sos.cli.program import converted
from sos.cli.reactor import run
from sos.cli.servers import announcer_of, cluster_options, configured, groups_of, wanted_copies
from sos.interfaces import Groups
from sos.model import quantities
from sos.model.conf_parser import Config
from sos.replication import Policy, Report, Summary
from sos.replication import replicate as replicate_groups
from sos.replication.plan import ALL
from sos.tap import cluster


def _copies(text: str) -> int:
    return ALL if text == "all" else quantities.copies(text)


verbose_option = click.option("--verbose", "-v", is_flag=True, help="Print each copy.")
copies_option = click.option(
    "--min-copies",
    metavar="N|all",
    callback=converted(_copies),
    help="Copies of each blob in its group; all: one on every server.  "
    "[default: min-copies of sos.conf, or 2]",
)
rate_option = click.option(
    "--rate",
    metavar="SIZE",
    callback=converted(quantities.limit),
    help="Copy at most SIZE bytes per second (64K, 8M).  [default: no limit]",
)


@click.command()
@verbose_option
@copies_option
@rate_option
@click.option("--dry-run", "-n", is_flag=True, help="Print the steps of the pass; change nothing.")
@click.option("--group", metavar="NAME", help="Replicate only this group.  [default: all]")
@json_option
@cluster_options("Replicate among these blob servers, as one group.")
def replicate(
    verbose: bool,
    min_copies: int | None,
    rate: int | None,
    dry_run: bool,
    group: str | None,
    blob_server: str | None,
    file: str | None,
    access: dict[str, Any],
) -> None:
    """Copy every blob to its replica set: run one anti-entropy pass.

    Compares only the partitions that differ between servers, and copies only missing
    blobs. Deletes nothing: sos balance does. Note that API servers delete copies in
    excess of their own min-copies, from --min-copies or sos.conf. Ends with
    status 1 if a blob lacks copies afterwards, a chunk of an object is on no server,
    servers have different bodies for one id, a step failed, or a server did not list
    its blobs. With --dry-run, copies that would be made do not count. Examples, the
    first for a cron job:

    \b
        sos replicate --min-copies 3
        sos replicate --dry-run
    """
    found = configured(file, blob_server, access)
    if group is not None and group not in found.groups:
        known = ", ".join(found.groups)
        raise click.UsageError(f"there is no group {group}; the groups are {known}")
    wanted = policy(found, min_copies, rate, dry_run=dry_run, moves=False)
    announcer = announcer_of(found, wanted.min_copies)
    summary = run(
        lambda reactor: one_pass(
            groups_of(found, reactor, announcer), wanted, reactor, verbose or dry_run, group
        )
    )
    print_outcome(document_of(summary), summary)
    sys.exit(0 if summary.ok else 1)


def policy(found: Config, min_copies: int | None, rate: int | None, **more: Any) -> Policy:
    """Return the policy from the options, with defaults from *found*.

    :param more: other arguments of the :class:`~sos.replication.Policy`.
    """
    return Policy(min_copies or wanted_copies(found), rate or 0, **more)


async def one_pass(
    groups: Groups, policy: Policy, reactor: Any, verbose: bool, group: str | None = None
) -> Summary:
    """Run a pass over *groups*, or over the one named *group*, and show its progress."""
    wanted = groups if group is None else {group: groups[group]}
    with progress.of_things() as bar:
        comparing = bar.add_task("comparing", total=None)
        copying = bar.add_task("copying", total=None)

        def show(summary: Summary) -> None:
            bar.update(comparing, total=summary.differing, completed=summary.compared)
            bar.update(copying, total=summary.planned, completed=summary.copied)

        def note(text: str) -> None:
            if verbose:
                click.echo(text, err=as_json())

        def warn(text: str) -> None:
            click.echo(text, err=True)

        report = Report(show, note, warn)
        try:
            return await replicate_groups(wanted, policy, reactor, report, everywhere=groups)
        finally:
            await cluster.leave(groups, reactor)
