"""``sos compact``: shrink the index of a store."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from sos.cli.output import json_option, print_outcome
from sos.cli.program import refused
from sos.cli.stores import store_option
from sos.files.umask import withhold
from sos.stores.local.compact import compact as compact_store


@click.command()
@store_option
@json_option
def compact(store: Path) -> None:
    """Give the free space in a store's index back to the disk.

    Stop the daemon that uses it first, and let a backup of it end.  A store reuses the space of
    dropped small blobs for new ones, but its index file does not shrink by itself.  This needs as
    much free space on the disk as the index has after it.  If it is interrupted, the store stays
    as it was, or is compacted.  Bodies over 64 KiB are files of their own, whose space is free as
    soon as they are dropped.  Ends with status 1 if it failed.
    Example:

        sos compact --store /var/lib/sos/data1
    """
    withhold()
    with refused():
        report = compact_store(store.absolute())
    print_outcome({"ok": True, **attrs.asdict(report)}, report)
