"""The result of a command, as text for people or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import click

Command = Callable[..., Any]

_WANTED = "sos.cli.output.json"


def _remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[_WANTED] = value


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_remember,
    help="Print the result as a JSON document; print everything else to standard error.",
)


def json_lines_option_for(what: str) -> Callable[[Command], Command]:
    """Return the option of a command that prints a line for each *what*."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_remember,
        help=f"Print a JSON object for each {what}, one a line.",
    )


def as_json() -> bool:
    """Return whether the current command has one of these options set."""
    return bool(click.get_current_context().meta.get(_WANTED))


def print_outcome(document: dict[str, Any], text: object) -> None:
    """Print the result of a command: *document* with ``--json``, otherwise *text*."""
    click.echo(json.dumps(document, indent=2) if as_json() else text)


def print_line(document: dict[str, Any]) -> None:
    """Print one of several results as JSON."""
    click.echo(json.dumps(document))


def document_of(outcome: Any) -> dict[str, Any]:
    """Return the attributes of an attrs value as a dictionary, ``ok`` first."""
    return {"ok": outcome.ok, **attrs.asdict(outcome)}
