"""``sos balance``: every copy to where it belongs, and what that has come to."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from sos.cli.names import shown
from sos.cli.reactor import run
from sos.cli.replicate import (
    copies_option,
    one_pass,
    policy,
    rate_option,
    verbose_option,
)
from sos.cli.servers import cluster_options, configured, groups_of
from sos.errors import SOSError
from sos.interfaces import Groups, Member
from sos.replication import Summary

_UNKNOWN = "-"


@click.command()
@verbose_option
@copies_option
@rate_option
@cluster_options("Balance these, as one group.")
def balance(
    verbose: bool,
    min_copies: int | None,
    rate: int | None,
    blob_server: str | None,
    file: str | None,
    access: dict[str, Any],
) -> None:
    """Bring every copy to where it belongs, and show what each server holds.

    This is the pass of sos replicate, as it is wanted after a server was added
    or a weight was changed: the share of a server is that of its weight. Ends
    with 1 when not every blob has its copies afterwards. Example:

        sos balance --rate 50M
    """
    found = configured(file, blob_server, access)

    async def balanced(reactor: Any) -> tuple[Summary, Table]:
        groups = groups_of(found, reactor)
        summary = await one_pass(groups, policy(found, min_copies, rate), reactor, verbose)
        return summary, await _table(groups)

    summary, table = run(balanced)
    Console().print(table)
    click.echo(summary)
    sys.exit(0 if summary.ok else 1)


async def _table(groups: Groups) -> Table:
    """Tell what part of its group's bytes each server holds, and what part is its share."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("group", "server"):
        table.add_column(name)
    for name in ("bytes", "part", "share"):
        table.add_column(name, justify="right")
    for group, members in groups.items():
        sizes = [await _size(member) for member in members]
        held = sum(size or 0 for size in sizes)
        weights = [0.0 if member.readonly else member.weight for member in members]
        for member, size, weight in zip(members, sizes, weights, strict=True):
            table.add_row(
                Text(shown(group)),
                Text(shown(member.store.name)),
                _UNKNOWN if size is None else decimal(size),
                _UNKNOWN if size is None or not held else f"{size / held:.1%}",
                f"{weight / sum(weights):.1%}" if sum(weights) else _UNKNOWN,
            )
    return table


async def _size(member: Member) -> int | None:
    try:
        return (await member.store.status()).size
    except SOSError:
        return None
