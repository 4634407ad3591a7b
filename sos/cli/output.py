"""What a command has found, for who reads it or for a program."""

from __future__ import annotations

import json
from typing import Any

import attrs
import click

_WANTED = "sos.cli.output.json"


def _remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[_WANTED] = value


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_remember,
    help="Print a JSON document, and all else to standard error.",
)
json_lines_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_remember,
    help="Print JSON, an object a line, for each of them.",
)


def as_json() -> bool:
    """Tell whether one of these options was given to the command that runs."""
    return bool(click.get_current_context().meta.get(_WANTED))


def tell(document: dict[str, Any], text: object) -> None:
    """Print what has come of a command: *document* as JSON, or else *text*."""
    click.echo(json.dumps(document, indent=2) if as_json() else text)


def tell_line(document: dict[str, Any]) -> None:
    """Print one of several things as JSON."""
    click.echo(json.dumps(document))


def document_of(outcome: Any) -> dict[str, Any]:
    """Return the members of an attrs value, and before them whether it is ``ok``."""
    return {"ok": outcome.ok, **attrs.asdict(outcome)}
