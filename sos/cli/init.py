"""``sos init``: make a store before a daemon needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sos.cli.reactor import run
from sos.errors import StoreUnusable
from sos.files.umask import withhold
from sos.stores.local import LocalStore
from sos.stores.local.disk import MARKER


@click.command()
@click.option(
    "--store",
    "-s",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The store's directory: an empty one, or none in one that there is.",
)
def init(store: Path) -> None:
    """Make a new store, as the user who runs this.

    A blob server makes its own, unless it is told by --require-store that its
    disk may not be mounted. Ends with 1 when there is a store already, or when
    none can be made. Example:

        sos init --store /var/lib/sos/disk1
    """

    withhold()

    async def make(reactor: Any) -> None:
        directory = store.absolute()
        if (directory / MARKER).exists():
            raise StoreUnusable(f"{directory} is a store already")
        made = LocalStore(directory, reactor)
        made.open()
        await made.close()

    run(make)
    click.echo(f"created a new store in {store}")
