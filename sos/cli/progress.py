"""Progress bars, on terminals only."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text


def of_bytes() -> Progress:
    """Return a bar for a number of bytes, with their rate."""
    return _bar(DownloadColumn(), TransferSpeedColumn())


def of_things() -> Progress:
    """Return a bar for a number of steps, with their rate."""
    return _bar(MofNCompleteColumn(), _RateColumn())


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


def _bar(*columns: object) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),  # a file name can look like markup
        BarColumn(),
        *columns,  # type: ignore[arg-type]
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
