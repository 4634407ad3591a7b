"""Options of the commands that work on the directory of a store."""

from __future__ import annotations

from pathlib import Path

import click

#: The option for an existing store: the parameter ``store``.
store_option = click.option(
    "--store",
    "-s",
    required=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of the store.",
)
