"""The command line of the simulation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import click

from benchmarks import plot, tables
from benchmarks.scale import figures, losses, picture, report
from benchmarks.scale.assumptions import SIZE, assumptions
from sos.cli.reactor import run


def _counts(context: click.Context, parameter: click.Parameter, text: str) -> list[int]:
    try:
        counts = [int(each) for each in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of numbers") from None
    if any(count <= 0 or count % SIZE for count in counts):
        raise click.BadParameter(f"they come in groups of {SIZE}")
    return counts


@click.command()
@click.option(
    "--servers", default="10,100,1000", callback=_counts, show_default=True, help="Cluster sizes."
)
@click.option("--failures", default=1_000_000, show_default=True, help="Simulated, of a row.")
@click.option("--seed", default=1, show_default=True, help="Of all that is random.")
@click.option("--plot", "picture_path", type=click.Path(path_type=Path), help="Draw it.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write figures.")
def scale(
    servers: list[int], failures: int, seed: int, picture_path: Path | None, output: Path | None
) -> None:
    """Simulate clusters: traffic, rebuilds, growth, balance, losses."""
    if picture_path is not None:
        plot.check_available()
    chance = random.Random(seed)
    results: dict[str, Any] = {
        "seed": seed,
        "assumptions": assumptions(),
        "traffic": run(lambda reactor: figures.control_traffic(servers, reactor, chance)),
        "rebuilds": figures.rebuilds(servers),
        "growth": figures.growth(),
        "new_groups": figures.new_groups(servers),
        "balance": figures.balance(),
        "losses": losses.losses(servers, failures, chance),
        "checks": losses.checks(failures, chance),
        "partitions": losses.partitions(),
    }
    report.show(results)
    tables.save(results, output)
    if picture_path is not None:
        picture.draw(results, picture_path)
