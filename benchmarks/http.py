"""``python -m benchmarks http``: a blob server over HTTP, beside nginx in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from benchmarks import large, report
from benchmarks.bench import Bench, measured
from benchmarks.rows import BODY, YARDSTICK, Row
from benchmarks.servers import blob_server, blobs, nginx

_CONNECTIONS = (32, 128)


@measured
@click.option("--large/--no-large", "large_too", default=True, help="Bodies of 256 MiB.")
@click.option("--against", metavar="URL", multiple=True, help="Another blob server; repeatable.")
def http(
    bench: Bench,
    large_too: bool,
    against: tuple[str, ...],
    output: Path | None,
    picture: Path | None,
) -> None:
    """Rates, latencies, CPU and memory of a blob server, as ratios to nginx."""
    yardstick = nginx(bench.place / "nginx", bench.stack)
    services = {"blob server": blob_server(bench.place / "blob", bench.stack)}
    services |= {urlsplit(url).netloc or url: blobs(url.rstrip("/")) for url in against}
    body = bytes(BODY)
    rows = [Row(YARDSTICK, yardstick, yardstick.keep(body))]
    for name, service in services.items():
        rows.append(Row(f"{name} GET", service, service.keep(body)))
        rows.append(Row(f"{name} POST", service, service.upload, uploads=True))
    # The last, because the disk is still busy with it when it has ended.
    rows.append(Row("nginx PUT", yardstick, yardstick.upload, uploads=True))
    results: dict[str, Any] = bench.results()
    results["rates"] = bench.rates(rows, _CONNECTIONS)
    if large_too:
        bench.announce("large bodies")
        every = {"nginx": yardstick, **services}
        results["large"] = large.transfers(every, bench.place / "large")
    report.show(results)
    click.echo("(nginx does not sync what it is sent: its PUT is shown for information only)\n")
    report.save(results, output, picture)
