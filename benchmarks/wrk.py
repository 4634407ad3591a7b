"""The load generator ``wrk``: one round of it, and what it prints."""

from __future__ import annotations

import math
import re
import signal
import subprocess
from pathlib import Path

import click
from attrs import frozen

#: Stands for the digits that are another in each request.
MARK = "nnnnnnnnnnnn"

_UNIQUE = Path(__file__).with_name("unique.lua")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@frozen
class Load:
    """The requests of a round; they differ if :data:`MARK` is in the URL or in the body."""

    url: str
    method: str = "GET"
    body: str | None = None


@frozen
class Outcome:
    """What one round came to; times are in seconds."""

    requests: int
    rate: float
    p50: float
    p99: float
    refused: int
    socket_errors: int


def run(load: Load, connections: int, seconds: float) -> Outcome:
    """Put *load* on a server for *seconds*, from one thread."""
    # wrk takes whole seconds only, but tells what it has when it is interrupted.
    limit = math.ceil(seconds) + 1
    command = ["wrk", "-t1", f"-c{connections}", f"-d{limit}s", "--latency"]
    if load.method == "GET":
        command.append(load.url)
    else:
        command += ["-s", str(_UNIQUE), load.url, "--", MARK, load.method, load.body or ""]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as wrk:
        try:
            output = _interrupted(wrk, seconds)
        finally:
            wrk.kill()
    if wrk.returncode:
        raise click.ClickException(f"wrk {load.url}: {output.strip()}")
    return parse(output)


def _interrupted(wrk: subprocess.Popen[str], seconds: float) -> str:
    try:
        return wrk.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        wrk.send_signal(signal.SIGINT)
        return wrk.communicate()[0]


def parse(output: str) -> Outcome:
    """Read what ``wrk --latency`` has printed."""
    return Outcome(
        requests=int(_search(r"^ *(\d+) requests in ", output)),
        rate=float(_search(r"^Requests/sec: +([\d.]+)$", output)),
        p50=_duration(_search(r"^ +50% +(\S+) *$", output)),
        p99=_duration(_search(r"^ +99% +(\S+) *$", output)),
        refused=int(_search(r"^ *Non-2xx or 3xx responses: (\d+)$", output, "0")),
        socket_errors=sum(
            int(count)
            for count in re.findall(r"\d+", _search(r"^ *Socket errors: (.*)$", output, ""))
        ),
    )


def _search(pattern: str, output: str, default: str | None = None) -> str:
    found = re.search(pattern, output, re.MULTILINE)
    if found is not None:
        return found[1]
    if default is None:
        raise click.ClickException(f"wrk has not printed {pattern!r}:\n{output}")
    return default


def _duration(text: str) -> float:
    """Return the seconds of ``3.82ms``."""
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]
