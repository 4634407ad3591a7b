"""``sos replicate``: one pass, by hand or from cron."""

from __future__ import annotations

import sys
from typing import Any

import click

from sos.cli import progress
from sos.cli.output import as_json, document_of, json_option, tell
from sos.cli.program import converted
from sos.cli.reactor import run
from sos.cli.servers import cluster_options, configured, groups_of, speaker_of, wanted_copies
from sos.interfaces import Groups
from sos.model import config
from sos.model.config import Config
from sos.model.plan import ALL
from sos.replication import Policy, Report, Summary
from sos.replication import replicate as replicate_groups
from sos.tap import cluster


def _copies(text: str) -> int:
    return ALL if text == "all" else config.copies(text)


verbose_option = click.option("--verbose", "-v", is_flag=True, help="Print a line for each copy.")
copies_option = click.option(
    "--min-copies",
    metavar="N|all",
    callback=converted(_copies),
    help="Servers of a group that should hold each blob.  [default: as sos.conf says, or 2]",
)
rate_option = click.option(
    "--rate",
    metavar="SIZE",
    callback=converted(config.limit),
    help="Copy at most so many bytes a second (8M).",
)


@click.command()
@verbose_option
@copies_option
@rate_option
@click.option("--dry-run", "-n", is_flag=True, help="Only print what would be done.")
@click.option("--group", metavar="NAME", help="Replicate in this group alone.")
@json_option
@cluster_options("Replicate among these, as one group.")
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
    """Bring every blob to the servers of its group that should hold it.

    Only what differs is compared, only what is missing is copied, and nothing is
    ever dropped: see sos balance. API servers keep as many copies as their own
    --min-copies says, or that of sos.conf, and drop what is more. Ends
    with 1 when not every blob has its copies afterwards, when there is an object
    of which no server has all chunks, or when a server could not say what it holds.
    Examples, the first for a cron job:

    \b
        sos replicate --min-copies 3
        sos replicate --dry-run
    """
    found = configured(file, blob_server, access)
    if group is not None and group not in found.groups:
        known = ", ".join(found.groups)
        raise click.UsageError(f"there is no group {group}; there are {known}")
    wanted = policy(found, min_copies, rate, dry_run=dry_run, moves=False)
    speaker = speaker_of(found, wanted.min_copies)
    summary = run(
        lambda reactor: one_pass(
            groups_of(found, reactor, speaker), wanted, reactor, verbose or dry_run, group
        )
    )
    tell(document_of(summary), summary)
    sys.exit(0 if summary.ok else 1)


def policy(found: Config, min_copies: int | None, rate: int | None, **more: Any) -> Policy:
    """Return what the options say, or what *found* does where they do not.

    :param more: other arguments of the :class:`~sos.replication.Policy`.
    """
    return Policy(min_copies or wanted_copies(found), rate or 0, **more)


async def one_pass(
    groups: Groups, policy: Policy, reactor: Any, verbose: bool, group: str | None = None
) -> Summary:
    """Make a pass over *groups*, or one of them, and show how it goes."""
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
