"""The figures of the simulation as tables."""

from __future__ import annotations

from typing import Any

import click

from benchmarks import tables
from benchmarks.scale.assumptions import COMPARED, SIZE
from benchmarks.scale.losses import HARSH

_MB, _TB = 1e6, 1e12


def show(results: dict[str, Any]) -> None:
    """Print the figures of a run."""
    assumed = results["assumptions"]
    click.echo(
        f"{assumed['objects']:,} objects of {assumed['object_bytes'] / _MB:g} MB; links of"
        f" {assumed['link_bytes_per_second'] / _MB:g} MB/s each way, disks of"
        f" {assumed['disk_bytes_per_second'] / _MB:g} MB/s;\n"
        f"an API server for {assumed['servers_by_api']} servers; a failed server is given up"
        f" after {assumed['detection_seconds']:g} s; seed {results['seed']}\n"
    )
    _show_traffic(results["traffic"])
    _show_rebuilds(results["rebuilds"])
    _show_growth(results["growth"], results["new_groups"])
    _show_balance(results["balance"])
    _show_losses(results["losses"], assumed["failures_per_year"])
    _show_checks(results["checks"])
    _show_partitions(results["partitions"])


def _show_traffic(rows: list[dict[str, Any]]) -> None:
    columns = ["servers", "objects by partition", "as it was", "in sync: by server", "in all"]
    columns += ["0.1 % differ", "1 % differ", "all differ", "HEAD of each"]
    cells = [
        [
            f"{row['servers']:,}",
            round(row["partition_objects"]),
            f"{row['idle_bytes'] / _MB:.3f}",
            f"{row['server_bytes'] / _MB:.3f}",
            *(f"{row['bytes'][share] / _MB:,.1f}" for share in ("0.0", "0.001", "0.01")),
            *(f"{each / _MB:,.0f}" for each in (row["bytes"]["1.0"], row["head_for_each_bytes"])),
        ]
        for row in rows
    ]
    title = f"Control traffic of a pass in MB, 2 copies, groups of {SIZE}"
    tables.show(title, columns, cells)


def _show_rebuilds(rows: list[dict[str, Any]]) -> None:
    columns = ("servers", "in groups of", "TB to copy", "from", "to", "by servers h", "by APIs h")
    cells = [
        [
            f"{row['servers']:,}",
            row["size"],
            f"{row['bytes'] / _TB:.2f}",
            row["sources"],
            row["targets"],
            _hours(row["server_seconds"]),
            _hours(row["api_seconds"]),
            _hours(row["detected_seconds"]),
        ]
        for row in rows
    ]
    title = "A server is lost, 2 copies: until all has two again, the worst case"
    tables.show(title, (*columns, "from the failure h"), cells)


def _show_growth(servers: list[dict[str, Any]], groups: list[dict[str, Any]]) -> None:
    columns = ("servers before", "copies moved", "at most", "least possible", "moved elsewhere")
    cells = [
        [
            row["size"],
            *(f"{row[name]:.2%}" for name in ("moved", "most_moved", "least")),
            row["elsewhere"],
        ]
        for row in servers
    ]
    tables.show("A server more in a group, 2 copies", columns, cells)
    columns = ("groups before", "ids to the new one", "its share", "ids elsewhere", "copies moved")
    cells = [
        [
            row["groups"],
            *(f"{row[name]:.2%}" for name in ("to_new", "share", "elsewhere")),
            0,  # a group never copies from another
        ]
        for row in groups
    ]
    tables.show(f"A group of {SIZE} more", columns, cells)


def _show_balance(rows: list[dict[str, Any]]) -> None:
    columns = ("in groups of", "groups", "largest, mean", "largest", "least")
    cells = [
        [
            row["size"],
            row["groups"],
            *(
                f"{row[name]:.3f}"
                for name in ("mean_largest", "largest", "least", "light", "heavy")
            ),
        ]
        for row in rows
    ]
    title = "Copies on a server over its weight's share, 2 copies; at last with weights 1 and 2"
    tables.show(title, (*columns, "of weight 1", "of weight 2"), cells)


def _show_losses(rows: list[dict[str, Any]], failures: float) -> None:
    columns = ("servers", "in groups of", "copies", "repair h", "copysets", "lost")
    cells = [
        [
            f"{row['servers']:,}",
            row["size"],
            row["copies"],
            _hours(row["repair_seconds"]),
            round(row["sets"]),
            f"{row['probability']:.1e}",
            _simulated(row["simulated"]),
            round(row["objects_at_once"]),
        ]
        for row in rows
    ]
    title = f"Probability of any loss in a year in which {failures:.0%} of the servers fail"
    tables.show(title, (*columns, "simulated", "objects then"), cells)


def _show_checks(rows: list[dict[str, Any]]) -> None:
    columns = ("in groups of", "copies", "simulated losses", "over closed form", "+-")
    cells = [
        [
            row["size"],
            row["copies"],
            row["losses"],
            f"{row['ratio']:.2f}",
            f"{row['error']:.2f}",
        ]
        for row in rows
    ]
    title = f"The closed form where {HARSH:g} servers of a group are failed at any time"
    tables.show(title, columns, cells)


def _show_partitions(rows: list[dict[str, Any]]) -> None:
    columns = ("in groups of", "partitions", "copysets", "of all", "lost", "objects then")
    cells = [
        [
            row["size"],
            row["partitions"],
            row["sets"],
            f"{row['set_share']:.1%}",
            f"{row['probability']:.1e}",
            round(row["objects_at_once"]),
        ]
        for row in rows
    ]
    title = f"{COMPARED} servers, 3 copies, if a group had other numbers of partitions"
    tables.show(title, columns, cells)


def _simulated(figures: dict[str, float] | None) -> str:
    if figures is None:
        return ""
    error = figures["high"] / figures["probability"] - 1
    return f"{figures['probability']:.1e} +-{error:.0%}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}"
