"""The behaviour of all commands: loading, errors and exit statuses."""

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
    """The commands by name, imported on first use.

    Importing all of them takes longer than most commands run.

    :param places: the object of each command, as in ``sos.cli.objects:get``.
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
    """The group of commands, which prints each error as one line.

    The exit status is 2 for an invalid argument, and 1 for any later error.
    """

    def make_context(self, info_name: str | None, *args: Any, **more: Any) -> click.Context:
        with _in_one_line():
            # Messages name the program "sos", however it was started.
            return super().make_context(self.name, *args, **more)

    def invoke(self, context: click.Context) -> Any:
        with _in_one_line():
            return super().invoke(context)


def explained(error: BaseException) -> str:
    """Return the message of an error, without the errno that Python puts before it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def converted(convert: Callable[[Any], T]) -> Callable[..., T | None]:
    """Return a callback for a click option that converts its value by *convert*."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> T | None:
        try:
            return None if value is None else convert(value)
        except (ValueError, InvalidRequest) as error:
            raise click.BadParameter(str(error)) from None

    return callback


@contextmanager
def refused() -> Iterator[None]:
    """Turn an SOSError into a one-line message and exit status 1."""
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
        # The reader of the output has closed it.
        _discard_output()
        raise SystemExit(1) from None
    except OSError as error:
        # An error of a file has its name.
        place = "" if error.filename else "standard output: "
        _discard_output()
        raise click.ClickException(f"{place}{explained(error)}") from None


def _discard_output() -> None:
    """Redirect buffered output to /dev/null, where Python's last flush cannot fail."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
