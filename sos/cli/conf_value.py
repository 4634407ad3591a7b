"""The option that names sos.conf, and its settings for commands that need no servers."""

from __future__ import annotations

import click

from sos.cli.completion import FILE
from sos.errors import ConfigError
from sos.tap import cluster

#: Its value is the parameter ``file``.
config_option = click.option(
    "--config",
    "-c",
    "file",
    metavar="FILE",
    type=FILE,
    help="Read this configuration file instead of /etc/sos.conf and ~/.sos.conf.",
)


def conf_value(name: str, given: str | None, file: str | None) -> str:
    """Return *given*, or else the setting *name* of sos.conf.

    :param file: a configuration file to read instead of the default ones.
    :raises click.UsageError: if neither is set.
    """
    if given is not None:
        return given
    try:
        found = cluster.load(file, None).settings.get(name)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if found is None:
        raise click.UsageError(
            f"no {name} is set: name one with --{name}, or in the section [sos] of sos.conf"
        )
    return str(found)
