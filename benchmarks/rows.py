"""One line of the table of rates: what is asked of whom, and what the rounds came to."""

from __future__ import annotations

import secrets
from statistics import median
from typing import Any

from attrs import define, field, frozen

from benchmarks import wrk
from benchmarks.processes import Process, private_peaks
from benchmarks.servers import Service
from benchmarks.wrk import MARK, Load, Outcome

#: Bytes of every body.
BODY = 1024

#: What the other rows are measured by.
YARDSTICK = "nginx GET"

#: By row and connections: the least part of nginx's GET rate that is good enough.
TARGETS = {
    "blob server GET": {32: 0.45, 128: 0.50},
    "blob server POST": {32: 0.15, 128: 0.20},
}


@frozen
class Row:
    """A name, the service that is asked, and whether for uploads."""

    name: str
    service: Service
    url: str
    uploads: bool = False

    def load(self) -> Load:
        """Return the requests of one round: uploads are of what was never there before."""
        if not self.uploads:
            return Load(self.url)
        token = secrets.token_hex(2)
        body = (token + MARK if not self.service.named else "").ljust(BODY, "x")
        return Load(self.service.upload_url(token + MARK), self.service.method, body)


@frozen
class Round:
    """One round of a row: what wrk has seen, and what the servers have used for it."""

    outcome: Outcome
    cpu_seconds: float | None
    peak_memory: dict[str, int]


@define
class Rounds:
    """The rounds of one row at one number of connections."""

    row: Row
    rounds: list[Round] = field(factory=list)

    def measure(self, connections: int, seconds: float) -> None:
        """Make another round."""
        processes = self.row.service.processes
        before = _cpu_seconds(processes)
        with private_peaks(processes) as peaks:
            outcome = wrk.run(self.row.load(), connections, seconds)
        cpu = _cpu_seconds(processes) - before if processes else None
        self.rounds.append(Round(outcome, cpu, peaks))


def summary(measured: list[Rounds], connections: int) -> list[dict[str, Any]]:
    """Return the figures of each row: medians over its rounds, ratios to the yardstick's."""
    yardstick = next(each for each in measured if each.row.name == YARDSTICK)
    whole = median(each.outcome.rate for each in yardstick.rounds)
    return [_figures(each, connections, whole) for each in measured]


def _figures(measured: Rounds, connections: int, yardstick: float) -> dict[str, Any]:
    rounds = measured.rounds
    outcomes = [each.outcome for each in rounds]
    rate = median(each.rate for each in outcomes)
    requests = sum(each.requests for each in outcomes)
    cpu = [each.cpu_seconds for each in rounds if each.cpu_seconds is not None]
    return {
        "row": measured.row.name,
        "connections": connections,
        "requests_per_second": round(rate, 1),
        "ratio": round(rate / yardstick, 4) if yardstick else None,
        "target": TARGETS.get(measured.row.name, {}).get(connections),
        "p50_seconds": median(each.p50 for each in outcomes),
        "p99_seconds": median(each.p99 for each in outcomes),
        "cpu_seconds_per_request": sum(cpu) / requests if cpu and requests else None,
        "peak_bytes": {
            name: max(each.peak_memory[name] for each in rounds) for name in rounds[0].peak_memory
        },
        "refused": sum(each.refused for each in outcomes),
        "socket_errors": sum(each.socket_errors for each in outcomes),
        "rounds": [each.rate for each in outcomes],
    }


def _cpu_seconds(processes: tuple[Process, ...]) -> float:
    return sum(process.cpu_seconds() for process in processes)
