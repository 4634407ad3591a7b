"""What the benchmarks of whole servers tell: tables, JSON, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks import plot, tables
from benchmarks.rows import BODY, YARDSTICK

_COLUMNS = (
    f"{BODY} bytes",
    "req/s",
    "x nginx",
    "target",
    "p50 ms",
    "p99 ms",
    "CPU us",
    "own MiB",
    "errors",
)


def show(results: dict[str, Any]) -> None:
    """Print the figures of a run."""
    for connections in sorted({each["connections"] for each in results["rates"]}):
        found = [each for each in results["rates"] if each["connections"] == connections]
        title = (
            f"{connections} connections; CPU of all servers by request, own memory of the largest"
        )
        tables.show(title, _COLUMNS, [_cells(each) for each in found])
    if "large" in results:
        _show_large(results["large"])
    if "at_once" in results:
        _show_at_once(results["at_once"])
    click.echo(f"(one fdatasync after another on this disk: {results['syncs']:,}/s)")


def save(results: dict[str, Any], output: Path | None, picture: Path | None) -> None:
    """Write the figures and the picture, and complain if they mean nothing."""
    tables.save(results, output)
    if picture is not None:
        plot.draw(results["rates"], picture)
    refused = sum(each["refused"] for each in results["rates"])
    if refused:
        raise click.ClickException(f"{refused} answers were errors: the figures mean nothing")


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
    columns = (f"{figures['size'] >> 20} MiB", "seconds", "x nginx", "target", "own MiB")
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


def _show_at_once(figures: dict[str, Any]) -> None:
    title = f"{figures['uploads']} uploads of {figures['size'] >> 20} MiB at once"
    row = [f"{figures['seconds']:.1f} s", _peaks(figures["peak_bytes"])]
    tables.show(
        title, ("time", "own MiB", "target: each <="), [[*row, _mebibytes(figures["target"])]]
    )


def _peaks(peaks: dict[str, int]) -> str:
    return ", ".join(f"{name} {_mebibytes(peak)}" for name, peak in peaks.items())


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / (1 << 20):.0f}"
