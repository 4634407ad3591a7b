"""The simulation as a picture; needs matplotlib, ``pip install '.[benchmark]'``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.scale.assumptions import COMPARED, SIZES

_SHADES = ("#9cc3e4", "#2b6ca3", "#123a5e")
_INK = "#333333"


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw traffic, rebuilds, losses and balance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    ((traffic, rebuilds), (losses, balance)) = figure.subplots(2, 2)
    _draw_traffic(traffic, results["traffic"])
    _draw_rebuilds(rebuilds, results["rebuilds"])
    _draw_losses(losses, [row for row in results["losses"] if row["servers"] == COMPARED])
    _draw_balance(balance, results["balance"])
    for axes in (traffic, rebuilds, losses, balance):
        axes.tick_params(colors=_INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def _draw_traffic(axes: Any, rows: list[dict[str, Any]]) -> None:
    for row, shade in zip(rows, _shades(len(rows)), strict=True):
        # With as much room for each share: one of them is none at all.
        sizes = [each / 1e6 for each in row["bytes"].values()]
        axes.plot(sizes, marker="o", color=shade, label=f"{row['servers']:,} servers")
    heads = rows[0]["head_for_each_bytes"] / 1e6
    axes.axhline(heads, color=_INK, linestyle=":", label="a HEAD for each object")
    shares = [f"{float(share) * 100:g}" for share in rows[0]["bytes"]]
    axes.set_xticks(range(len(shares)), shares)
    axes.set_yscale("log")
    axes.set_xlabel("% of the partitions differ")
    axes.set_ylabel("MB")
    axes.set_title("Control traffic of a pass", fontsize=10)


def _draw_rebuilds(axes: Any, rows: list[dict[str, Any]]) -> None:
    clusters = list(dict.fromkeys(row["servers"] for row in rows))
    for servers, shade in zip(clusters, _shades(len(clusters)), strict=True):
        found = [row for row in rows if row["servers"] == servers]
        hours = [row["detected_seconds"] / 3600 for row in found]
        _by_size(axes, found, hours, shade, f"{servers:,} servers")
    axes.set_yscale("log")
    axes.set_ylabel("hours from the failure")
    axes.set_title("Until a lost server's copies are there again", fontsize=10)


def _draw_losses(axes: Any, rows: list[dict[str, Any]]) -> None:
    for copies, shade in ((2, _SHADES[1]), (3, _SHADES[2])):
        found = [row for row in rows if row["copies"] == copies]
        _by_size(axes, found, [row["probability"] for row in found], shade, f"{copies} copies")
    seen = [row for row in rows if row["simulated"]]
    chances = [row["simulated"]["probability"] for row in seen]
    errors = [
        [row["simulated"]["probability"] - row["simulated"]["low"] for row in seen],
        [row["simulated"]["high"] - row["simulated"]["probability"] for row in seen],
    ]
    sizes = [row["size"] for row in seen]
    axes.errorbar(sizes, chances, errors, fmt="x", color=_INK, capsize=3, label="simulated")
    axes.set_yscale("log")
    axes.set_ylabel("probability in a year")
    axes.set_title(f"Loss of anything, {COMPARED} servers", fontsize=10)


def _draw_balance(axes: Any, rows: list[dict[str, Any]]) -> None:
    lines = {"largest": "largest", "mean_largest": "largest, mean of groups", "least": "least"}
    for (name, label), shade in zip(lines.items(), reversed(_SHADES), strict=True):
        _by_size(axes, rows, [row[name] for row in rows], shade, label)
    axes.axhline(1, color=_INK, linewidth=0.8)
    axes.set_ylabel("copies over its share")
    axes.set_title("What a server holds", fontsize=10)


def _by_size(
    axes: Any, rows: list[dict[str, Any]], values: list[float], shade: str, label: str
) -> None:
    sizes = [row["size"] for row in rows]
    axes.plot(sizes, values, marker="o", color=shade, label=label)
    axes.set_xscale("log")
    axes.set_xticks(SIZES, SIZES)
    axes.minorticks_off()
    axes.set_xlabel("servers of a group")


def _shades(count: int) -> list[str]:
    return [_SHADES[number % len(_SHADES)] for number in range(count)]
