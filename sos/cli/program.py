"""What holds for the whole command: how it ends when something goes wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any, TypeVar

import click

from sos.errors import InvalidRequest, SOSError

T = TypeVar("T")


class Commands(Mapping[str, click.Command]):
    """The commands by name, each of which is loaded when it is asked for.

    To load them all takes longer than most of them run.

    :param places: where each is, as in ``sos.cli.objects:get``.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> click.Command:
        found: click.Command = resolve_name(self._places[name])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Program(click.Group):
    """The commands, of which each error is one line.

    A wrong argument ends with 2, and what goes wrong later with 1.
    """

    def make_context(self, info_name: str | None, *args: Any, **more: Any) -> click.Context:
        with _in_one_line():
            # What it is called in a message does not depend on how it was started.
            return super().make_context(self.name, *args, **more)

    def invoke(self, context: click.Context) -> Any:
        with _in_one_line():
            return super().invoke(context)


def explained(error: BaseException) -> str:
    """Say what went wrong without the numbers that Python puts before it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def converted(convert: Callable[[Any], T]) -> Callable[..., T | None]:
    """Return a callback for a click option that takes what *convert* makes of it."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> T | None:
        try:
            return None if value is None else convert(value)
        except (ValueError, InvalidRequest) as error:
            raise click.BadParameter(str(error)) from None

    return callback


@contextmanager
def refused() -> Iterator[None]:
    """Let an error of ours become one line and exit status 1."""
    try:
        yield
    except SOSError as error:
        raise click.ClickException(str(error)) from None


class _WrongUsage(click.ClickException):
    exit_code = 2


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            raise
        text = " ".join(error.format_message().split()).rstrip(".")
        command = error.ctx.command_path if error.ctx else "sos"
        raise _WrongUsage(f"{text}; see {command} --help") from None
    except BrokenPipeError:
        # Who read the output has had enough of it.
        _discard_output()
        raise SystemExit(1) from None
    except OSError as error:
        # One of a file names it.
        place = "" if error.filename else "standard output: "
        _discard_output()
        raise click.ClickException(f"{place}{explained(error)}") from None


def _discard_output() -> None:
    """Let Python write what it still has to where it cannot fail."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
