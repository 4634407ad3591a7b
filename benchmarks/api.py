"""``python -m benchmarks api``: a cluster over HTTP, beside nginx in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks import large, report
from benchmarks.bench import Bench, measured
from benchmarks.rows import BODY, YARDSTICK, Row
from benchmarks.servers import cluster, nginx

_CONNECTIONS = (32, 128)


@measured
@click.option("--large/--no-large", "large_too", default=True, help="Bodies of 64 and 256 MiB.")
def api(bench: Bench, large_too: bool, output: Path | None, picture: Path | None) -> None:
    """Rates, latencies, CPU and memory of an API server over two blob servers.

    With one copy of each upload, as many as the original system makes before it
    answers, and with two, which is the default; with one API server, and with two that
    share their ports.
    """
    yardstick = nginx(bench.place / "nginx", bench.stack)
    usual = cluster(bench.place / "usual", bench.stack)
    one_copy = cluster(bench.place / "one-copy", bench.stack, "--min-copies", "1")
    two = cluster(bench.place / "two", bench.stack, api_servers=2)
    body = bytes(BODY)
    rows = [
        Row(YARDSTICK, yardstick, yardstick.keep(body)),
        Row("API fetch", usual, usual.keep(body)),
        Row("2 API servers, fetch", two, two.keep(body)),
        Row("API upload, 1 copy", one_copy, one_copy.upload, uploads=True),
        Row("API upload", usual, usual.upload, uploads=True),
        Row("2 API servers, upload", two, two.upload, uploads=True),
    ]
    results: dict[str, Any] = bench.results()
    results["rates"] = bench.rates(rows, _CONNECTIONS)
    if large_too:
        bench.announce("large bodies")
        services = {"nginx": yardstick, "API": usual}
        results["large"] = large.transfers(services, bench.place / "large")
        results["at_once"] = large.at_once(usual, bench.place / "at-once")
    report.show(results)
    report.save(results, output, picture)
