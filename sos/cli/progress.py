"""Progress bars: on a terminal, and nowhere else."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


def of_bytes() -> Progress:
    """Return a bar that counts bytes, with their rate."""
    return _bar(DownloadColumn(), TransferSpeedColumn())


def of_things() -> Progress:
    """Return a bar that counts steps."""
    return _bar(MofNCompleteColumn())


def _bar(*columns: object) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),  # it can be the name of any file
        BarColumn(),
        *columns,  # type: ignore[arg-type]
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
