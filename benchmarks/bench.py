"""What the benchmarks of whole servers have in common: their options, and how rows are measured."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from benchmarks import plot
from benchmarks.disk import syncs_per_second
from benchmarks.processes import find
from benchmarks.rows import BODY, Rounds, Row, summary


@frozen
class Bench:
    """One run.

    :param place: where everything is stored.
    :param stack: stops what is started.
    :param seconds: of a round.
    :param rounds: of each row.
    """

    place: Path
    stack: contextlib.ExitStack
    seconds: float
    rounds: int

    def results(self) -> dict[str, Any]:
        """Return what holds for all figures of this run."""
        return {
            "cpus": os.cpu_count(),
            "syncs": syncs_per_second(self.place / "syncs"),
            "body": BODY,
            "seconds": self.seconds,
            "rounds": self.rounds,
        }

    def rates(self, rows: Sequence[Row], connections: Sequence[int]) -> list[dict[str, Any]]:
        """Measure *rows*, the first of which is the yardstick, at each number of connections."""
        figures = []
        for count in connections:
            yardstick, *others = every = [Rounds(row) for row in rows]
            for number in range(self.rounds):
                self.announce(f"{count} connections, round {number + 1} of {self.rounds}")
                for each in others:
                    # The yardstick beside each of them: a machine is not the same all the time.
                    yardstick.measure(count, self.seconds)
                    each.measure(count, self.seconds)
                os.sync()  # what nginx has left unwritten is not for the next to wait for
            figures += summary(every, count)
        return figures

    def announce(self, text: str) -> None:
        """Say what is being done."""
        click.echo(text, err=True)


def measured(command: Callable[..., None]) -> click.Command:
    """Make a command of a function that takes a :class:`Bench`, and where to write the figures."""

    @functools.wraps(command)
    def run(seconds: float, rounds: int, place: Path | None, **options: Any) -> None:
        find("wrk", "wrk")
        find("nginx", "nginx-light")
        if options["picture"] is not None:
            plot.check_available()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped
        with (
            tempfile.TemporaryDirectory(dir=place, prefix="sos-benchmark-") as made,
            contextlib.ExitStack() as stack,
        ):
            command(bench=Bench(Path(made).absolute(), stack, seconds, rounds), **options)

    for option in (
        click.option("--plot", "picture", type=click.Path(path_type=Path), help="Draw the rates."),
        click.option("--json", "output", type=click.Path(path_type=Path), help="Write figures."),
        click.option(
            "--dir",
            "place",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Where everything is stored.",
        ),
        click.option(
            "--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Of a row."
        ),
        click.option(
            "--seconds",
            type=click.FloatRange(min=0.2),
            default=2.0,
            show_default=True,
            help="A round.",
        ),
    ):
        run = option(run)
    return click.command()(run)
