"""``sos balance``: every copy to where it belongs, and what that has come to."""

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
from sos.cli.output import as_json, document_of, json_option, tell
from sos.cli.reactor import run
from sos.cli.replicate import (
    copies_option,
    one_pass,
    policy,
    rate_option,
    verbose_option,
)
from sos.cli.servers import cluster_options, configured, groups_of, speaker_of
from sos.errors import SOSError
from sos.interfaces import Groups, Member
from sos.replication import Summary

_UNKNOWN = "-"


@click.command()
@verbose_option
@copies_option
@rate_option
@json_option
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

    This is the pass that API servers make by themselves, as it is wanted after a server was added
    or a weight was changed: the share of a server is that of its weight. A copy
    that lies elsewhere is dropped when all that it belongs to are seen to have
    theirs. Ends with 1 when not every blob has its copies afterwards, and those
    alone. Example:

        sos balance --rate 50M
    """
    found = configured(file, blob_server, access)

    async def balanced(reactor: Any) -> tuple[Summary, list[_Row]]:
        wanted = policy(found, min_copies, rate)
        groups = groups_of(found, reactor, speaker_of(found, wanted.min_copies))
        summary = await one_pass(groups, wanted, reactor, verbose)
        return summary, await _rows(groups)

    summary, rows = run(balanced)
    if not as_json():
        Console().print(_table(rows))
    told = {**document_of(summary), "balance": [asdict(row) for row in rows]}
    tell(told, summary)
    sys.exit(0 if summary.ok and not summary.staying else 1)


@frozen
class _Row:
    """What a server holds.

    :param size: in bytes, None when that is not known.
    :param part: of what its group holds.
    :param share: the part that is to be its.
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
