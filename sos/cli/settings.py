"""Settings of sos.conf, where a command needs one and no server."""

from __future__ import annotations

import click

from sos.errors import ConfigError
from sos.tap import cluster


def setting(name: str, given: str | None, file: str | None) -> str:
    """Return *given*, or what sos.conf sets for *name*.

    :param file: read this, and not the usual ones.
    :raises click.UsageError: when there is neither.
    """
    if given is not None:
        return given
    try:
        found = cluster.load(file, None).settings.get(name)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if found is None:
        raise click.UsageError(f"name the file by --{name}, or as {name} in [sos] of sos.conf")
    return str(found)
