"""``python -m benchmarks engines``: the stores side by side, each in its client's process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import tables
from benchmarks.disk import syncs_per_second
from benchmarks.launchers import LAUNCHERS, Launched
from benchmarks.processes import Process

SIZES = (1 << 10, 1 << 20)
CONCURRENCIES = (1, 32)

_COLUMNS = ("", "put/s", "p50 ms", "p99 ms", "get/s", "p50 ms", "p99 ms")


@click.command()
@click.option("--engines", "names", default=",".join(LAUNCHERS), show_default=True, help="Which.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=4.0,
    show_default=True,
    help="Of puts, and of gets, of each size and number at once.",
)
@click.option("--dir", "place", type=click.Path(path_type=Path), help="Where to store them.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def engines(names: str, seconds: float, place: Path | None, output: Path | None) -> None:
    """Puts and gets of small and of large blobs on every engine, and its memory."""
    chosen = names.split(",")
    if unknown := set(chosen) - set(LAUNCHERS):
        raise click.BadParameter(f"no engine is called {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(dir=place, prefix="sos-benchmark-") as made:
        directory = Path(made).absolute()
        results: dict[str, Any] = {
            "cpus": os.cpu_count(),
            "syncs": syncs_per_second(directory / "syncs"),
            "seconds": seconds,
            "engines": {},
        }
        for name in chosen:
            click.echo(name, err=True)
            (directory / name).mkdir()
            try:
                results["engines"][name] = measure(name, directory / name, seconds)
            except (ImportError, OSError) as error:
                click.echo(f"{name} is left out: {error}", err=True)
    show(results)
    tables.save(results, output)


def show(results: dict[str, Any]) -> None:
    """Print the figures of a run."""
    for size in SIZES:
        for at_once in CONCURRENCIES:
            rows = [
                [name, *_cells(found["steps"], size, at_once)]
                for name, found in results["engines"].items()
            ]
            tables.show(f"Blobs of {_bytes(size)}, {at_once} at once", _COLUMNS, rows)
    rows = [
        [name, _mebibytes(found["engine_bytes"]), _mebibytes(found["client_peak_bytes"])]
        for name, found in results["engines"].items()
    ]
    tables.show("Memory in MiB, when all was stored", ("", "engine", "client, at most"), rows)
    click.echo(f"(one fdatasync after another on this disk: {results['syncs']:,}/s)")


def measure(name: str, directory: Path, seconds: float) -> dict[str, Any]:
    """Return the figures of the engine *name*; raises as its launcher does."""
    with LAUNCHERS[name](directory) as launched:
        steps, peak = _exercised(launched, seconds)
        sizes = [resident(process) for process in launched.processes]
    return {"steps": steps, "client_peak_bytes": peak, "engine_bytes": sum(sizes) or None}


def _exercised(launched: Launched, seconds: float) -> tuple[list[dict[str, Any]], int]:
    """Have a process put and get; return its figures, and the most memory it had."""
    task = {"place": launched.place, "sizes": SIZES, "concurrencies": CONCURRENCIES}
    command = [
        sys.executable,
        "-m",
        "benchmarks.exercise",
        json.dumps({**task, "seconds": seconds}),
    ]
    environment = {**os.environ, **launched.environment}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        result = json.loads(child.stdout.readline() or "null")
        child.wait()
    if result is None:
        raise click.ClickException(f"{launched.place} could not be measured")
    return result["steps"], result["peak_bytes"]


def resident(process: Process) -> int:
    """Return the bytes that a process and its children have resident, shared ones once."""
    return sum(map(_share, process.tree()))


def _share(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.partition("\nPss:")[2].split()[0]) * 1024


def _cells(steps: Sequence[dict[str, Any]], size: int, at_once: int) -> list[Any]:
    cells: list[Any] = []
    for direction in ("put", "get"):
        (found,) = (
            each
            for each in steps
            if (each["direction"], each["size"], each["at_once"]) == (direction, size, at_once)
        )
        cells.append(round(found["per_second"]))
        cells += [f"{found[f'{part}_seconds'] * 1e3:.2f}" for part in ("p50", "p99")]
    return cells


def _bytes(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / (1 << 20):.0f}"
