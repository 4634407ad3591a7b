"""``sos init``: create a store before a daemon opens it."""

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
    help="Directory of the store: an empty one, or a new one in an existing directory.",
)
def init(store: Path) -> None:
    """Create an empty store, owned by the user who runs the command.

    A blob server creates its store by itself, unless you start it with
    --require-store, so that it does not write to the mount point of a disk that is
    not mounted. Ends with status 1 if the directory has a store already, or if the
    store cannot be created. Example:

        sos init --store /var/lib/sos/disk1
    """

    withhold()

    async def make(reactor: Any) -> None:
        directory = store.absolute()
        if (directory / MARKER).exists():
            raise StoreUnusable(f"{directory} already contains a store")
        made = LocalStore(directory, reactor)
        made.open()
        await made.close()

    run(make)
    click.echo(f"created a new store in {store}")
