"""``sos balance``: move every copy to its replica set, and show the distribution."""

from __future__ import annotations

import sys
from typing import Any

import click
from attrs import asdict, frozen
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from sos.cli.names import shown
from sos.cli.output import as_json, document_of, json_option, print_outcome
from sos.cli.reactor import run
from sos.cli.replicate import (
    copies_option,
    one_pass,
    policy,
    rate_option,
    verbose_option,
)
from sos.cli.servers import announcer_of, cluster_options, configured, groups_of
from sos.errors import SOSError
from sos.interfaces import Groups, Member
from sos.replication import Summary

_UNKNOWN = "-"


@click.command()
@verbose_option
@copies_option
@rate_option
@json_option
@cluster_options("Balance these blob servers, as one group.")
def balance(
    verbose: bool,
    min_copies: int | None,
    rate: int | None,
    blob_server: str | None,
    file: str | None,
    access: dict[str, Any],
) -> None:
    """Move copies to their replica sets; print each server's share.

    Run it after you added a server or changed a weight, if you do not want to wait for
    the passes of the API servers, which do the same. Each server of a group gets a share
    in proportion to its weight. A surplus copy is deleted once every server of the blob's
    replica set has confirmed its own. Ends with status 1 if a blob lacks copies, or
    has surplus ones, afterwards. Example:

        sos balance --rate 50M
    """
    found = configured(file, blob_server, access)

    async def balanced(reactor: Any) -> tuple[Summary, list[_Row]]:
        wanted = policy(found, min_copies, rate)
        groups = groups_of(found, reactor, announcer_of(found, wanted.min_copies))
        summary = await one_pass(groups, wanted, reactor, verbose)
        return summary, await _rows(groups)

    summary, rows = run(balanced)
    if not as_json():
        Console().print(_table(rows))
    document = {**document_of(summary), "balance": [asdict(row) for row in rows]}
    print_outcome(document, summary)
    sys.exit(0 if summary.ok and not summary.staying else 1)


@frozen
class _Row:
    """The amount of data on a server.

    :param size: in bytes, None if it is unknown.
    :param part: its present fraction of the bytes in its group.
    :param share: the fraction that its weight gives it.
    """

    group: str
    server: str
    size: int | None
    part: float | None
    share: float | None


async def _rows(groups: Groups) -> list[_Row]:
    rows = []
    for group, members in groups.items():
        sizes = [await _size(member) for member in members]
        held = sum(size or 0 for size in sizes)
        weights = [0.0 if member.readonly else member.weight for member in members]
        for member, size, weight in zip(members, sizes, weights, strict=True):
            part = None if size is None or not held else size / held
            share = weight / sum(weights) if sum(weights) else None
            rows.append(_Row(group, member.name, size, part, share))
    return rows


def _table(rows: list[_Row]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name in ("group", "server"):
        table.add_column(name)
    for name in ("bytes", "part", "share"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            Text(shown(row.group)),
            Text(shown(row.server)),
            _UNKNOWN if row.size is None else decimal(row.size),
            *(_UNKNOWN if part is None else f"{part:.1%}" for part in (row.part, row.share)),
        )
    return table


async def _size(member: Member) -> int | None:
    try:
        return (await member.store.status()).size
    except SOSError:
        return None
