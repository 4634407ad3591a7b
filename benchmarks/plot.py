"""The rates as a picture; needs matplotlib, ``pip install '.[benchmark]'``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click

from benchmarks.rows import YARDSTICK

_SHADES = ("#9cc3e4", "#2b6ca3", "#123a5e")
_INK = "#333333"


def check_available() -> None:
    """Raise, before anything is measured, if no picture can be made of it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise click.ClickException("--plot needs matplotlib: pip install '.[benchmark]'")


def draw(figures: list[dict[str, Any]], path: Path) -> None:
    """Draw a bar for each row and number of connections, with a mark at its target."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(each["row"] for each in figures if each["row"] != YARDSTICK))
    connections = sorted({each["connections"] for each in figures})
    thickness = 0.8 / len(connections)
    figure = Figure(figsize=(8, 1.4 + 0.65 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for number, count in enumerate(connections):
        found = {each["row"]: each for each in figures if each["connections"] == count}
        places = [
            row + (number - (len(connections) - 1) / 2) * thickness for row in range(len(names))
        ]
        ratios = [found[name]["ratio"] or 0 for name in names]
        bars = axes.barh(
            places, ratios, thickness * 0.92, color=_SHADES[number], label=f"{count} connections"
        )
        axes.bar_label(bars, fmt="%.2f", padding=6, fontsize=8, color=_INK)
        marks = [
            (found[name]["target"], place)
            for name, place in zip(names, places, strict=True)
            if found[name]["target"] is not None
        ]
        axes.vlines(
            [ratio for ratio, _ in marks],
            [place - thickness / 2 for _, place in marks],
            [place + thickness / 2 for _, place in marks],
            color=_INK,
            linewidth=2,
            label="" if number else "target",
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("requests a second, as a part of nginx's GET at as many connections")
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    axes.tick_params(left=False, colors=_INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
