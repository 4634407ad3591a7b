"""``python -m benchmarks http``: whole servers over HTTP, beside nginx in the same run."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks import large, plot, tables
from benchmarks.disk import syncs_per_second
from benchmarks.processes import find
from benchmarks.rows import BODY, YARDSTICK, Rounds, rows, summary
from benchmarks.servers import Servers, start

CONNECTIONS = (32, 128)

_COLUMNS = (
    f"{BODY} bytes",
    "req/s",
    "x nginx",
    "target",
    "p50 ms",
    "p99 ms",
    "CPU us",
    "peak MiB",
    "errors",
)


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="A round."
)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Of each row."
)
@click.option("--large/--no-large", "large_too", default=True, help="Bodies of 64 and 256 MiB.")
@click.option("--against", metavar="URL", multiple=True, help="Another blob server; repeatable.")
@click.option(
    "--dir",
    "place",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where everything is stored.",
)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="Draw the rates here.")
def http(
    seconds: float,
    rounds: int,
    large_too: bool,
    against: tuple[str, ...],
    place: Path | None,
    output: Path | None,
    picture: Path | None,
) -> None:
    """Rates, latencies, CPU and memory of the servers, as ratios to nginx."""
    find("wrk", "wrk")
    find("nginx", "nginx-light")
    if picture is not None:
        plot.check_available()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped
    with (
        tempfile.TemporaryDirectory(dir=place, prefix="sos-benchmark-") as made,
        contextlib.ExitStack() as stack,
    ):
        directory = Path(made).absolute()
        results: dict[str, Any] = {
            "cpus": os.cpu_count(),
            "syncs": syncs_per_second(directory / "syncs"),
            "body": BODY,
            "seconds": seconds,
            "rounds": rounds,
        }
        servers = start(directory, against, stack)
        results["rates"] = _measure(servers, seconds, rounds)
        if large_too:
            _tell("large bodies")
            results["large"] = large.measure(servers, directory / "large")
    _show(results)
    tables.save(results, output)
    if picture is not None:
        plot.draw(results["rates"], picture)
    refused = sum(each["refused"] for each in results["rates"])
    if refused:
        raise click.ClickException(f"{refused} answers were errors: the figures mean nothing")


def _measure(servers: Servers, seconds: float, count: int) -> list[dict[str, Any]]:
    every = rows(servers)
    figures = []
    for connections in CONNECTIONS:
        yardstick, *others = measured = [Rounds(row) for row in every]
        for number in range(count):
            _tell(f"{connections} connections, round {number + 1} of {count}")
            for each in others:
                # The yardstick beside each of them: a machine is not the same all the time.
                yardstick.measure(connections, seconds)
                each.measure(connections, seconds)
            os.sync()  # what nginx has left unwritten is not for the next to wait for
        figures += summary(measured, connections)
    return figures


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _show(results: dict[str, Any]) -> None:
    for connections in CONNECTIONS:
        found = [each for each in results["rates"] if each["connections"] == connections]
        title = f"{connections} connections; CPU of all servers by request, peak of the largest"
        tables.show(title, _COLUMNS, [_cells(each) for each in found])
    click.echo("(nginx does not sync what it is sent: its PUT is shown for information only)\n")
    if "large" in results:
        _show_large(results["large"])
    click.echo(f"(one fdatasync after another on this disk: {results['syncs']:,}/s)")


def _cells(figures: dict[str, Any]) -> list[Any]:
    cpu = figures["cpu_seconds_per_request"]
    return [
        figures["row"],
        round(figures["requests_per_second"]),
        f"{figures['ratio']:.2f}" if figures["row"] != YARDSTICK else "1",
        "" if figures["target"] is None else f">= {figures['target']:.2f}",
        f"{figures['p50_seconds'] * 1e3:.2f}",
        f"{figures['p99_seconds'] * 1e3:.2f}",
        "" if cpu is None else f"{cpu * 1e6:.0f}",
        _mebibytes(max(figures["peak_bytes"].values(), default=None)),
        figures["refused"] + figures["socket_errors"],
    ]


def _show_large(figures: dict[str, Any]) -> None:
    columns = (f"{figures['size'] >> 20} MiB", "seconds", "x nginx", "target", "peak MiB")
    cells = [
        [
            f"{each['service']} {each['direction']}",
            f"{each['seconds']:.2f}",
            f"{each['ratio']:.2f}",
            "" if each["target"] is None else f"<= {each['target']:.1f}",
            _peaks(each["peak_bytes"]),
        ]
        for each in figures["transfers"]
    ]
    tables.show(f"Large bodies, by {figures['client']}", columns, cells)
    once = figures["at_once"]
    title = f"{once['uploads']} uploads of {once['size'] >> 20} MiB at once through the API"
    row = [f"{once['seconds']:.1f} s", _peaks(once["peak_bytes"]), _mebibytes(once["target"])]
    tables.show(title, ("time", "peak MiB", "target: each <="), [row])


def _peaks(peaks: dict[str, int]) -> str:
    return ", ".join(f"{name} {_mebibytes(peak)}" for name, peak in peaks.items())


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / (1 << 20):.0f}"
