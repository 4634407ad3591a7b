"""How a command shows who it is: its options."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

_CLUSTER_FILES = {
    "secret-file": "The key that blob servers ask for.",
}


def access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for how blob servers are spoken to: the parameter ``access``.

    That holds those that are given, by the names of the settings that they stand for.
    """

    @wraps(command)
    def with_access(**values: Any) -> Any:
        given = {name: values.pop(name.replace("-", "_")) for name in _CLUSTER_FILES}
        access = {name: value for name, value in given.items() if value is not None}
        return command(access=access, **values)

    for name, help in reversed(_CLUSTER_FILES.items()):
        with_access = click.option(f"--{name}", metavar="FILE", help=help)(with_access)
    return with_access
