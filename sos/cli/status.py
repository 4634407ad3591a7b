"""``sos status``: show the health of the servers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import attrs
import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from sos.aio.threads import threads_of
from sos.cli.access import tls_of, token_options
from sos.cli.names import shown
from sos.cli.program import converted
from sos.cli.reactor import run
from sos.cli.servers import cluster_options, configured, groups_of, wanted_copies
from sos.errors import SOSError, Unavailable
from sos.http.client.agent import Agent
from sos.http.tls import ClientTLS
from sos.interfaces import StoreStatus
from sos.model import addresses, conf_parser
from sos.model.membership import Membership
from sos.monitoring.server_health import UP, HealthRecord, ServerHealth, health_of, parse_health
from sos.replication import Policy, Summary, replicate
from sos.replication import Report as Replication
from sos.replication.pass_state import PassState
from sos.scrub import Report
from sos.stores.remote.client import Credentials, Exchange
from sos.stores.replicated.store import ReplicatedStore

_COLUMNS = ("server", "state", "used", "free", "blobs")
#: Columns that only an API server can fill.
_COUNTED = ("requests", "errors", "p50 ms", "p95 ms")
_UNKNOWN = "-"

# Some 500 bytes a server.
_MOST_OF_A_STATUS = 16 * 1024 * 1024
# More characters than any line of the table: programs that read a pipe need whole lines.
_WIDE = 10_000


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.option(
    "--url",
    metavar="URL",
    callback=converted(addresses.server_url),
    help="Ask the API server with this admin port (http://localhost:9993) for the status, "
    "instead of the blob servers.",
)
@cluster_options("Ask these blob servers, as one group.")
@token_options
def status(
    as_json: bool,
    url: str | None,
    blob_server: str | None,
    file: str | None,
    access: dict[str, Any],
    credentials: Credentials | None,
) -> None:
    """Show the health of the blob servers, by group.

    Asks the blob servers directly, or with --url an API server, which adds the
    requests, errors and latencies that it has observed. Ends with status 0 if
    every server is up, each group has enough servers for its copies, and every
    blob has its copies, otherwise with 1. Looks for the chunks of some objects
    only: sos replicate looks for all. With --url, the last pass of the API server
    decides. With --blob-server,
    which need not name all servers, the copies are not checked. Examples:

    \b
        sos status
        sos status --url http://localhost:9993
    """
    if url is not None:
        if blob_server is not None or file is not None:
            raise click.UsageError("--url and --blob-server or --config exclude each other")
        tls = tls_of(access)
        document = run(lambda reactor: _fetch(url, credentials, tls, reactor))
    else:
        document = _seen_from_here(blob_server, file, access)
    groups = _groups(document)
    warnings = _warnings(groups, document)
    up = all(server.state == UP for servers in groups.values() for server in servers)
    errors = document.get("errors", [])
    well = up and not warnings and not errors
    if as_json:
        click.echo(json.dumps({"ok": well, "warnings": warnings, **document}, indent=2))
    else:
        _print(groups, document)
        for error in errors:
            click.echo(f"error: {shown(error)}")
        for warning in warnings:
            click.echo(f"warning: {shown(warning)}")
    raise SystemExit(0 if well else 1)


async def _fetch(
    url: str, credentials: Credentials | None, tls: ClientTLS, reactor: Any
) -> dict[str, Any]:
    exchange = Exchange(url, Agent(reactor, tls=tls), reactor, credentials)
    document = await exchange.document("GET", "/status", _MOST_OF_A_STATUS)
    try:
        groups = _groups(document)
        _warnings(groups, document)
        list(_lines(document))
        for server in (each for servers in groups.values() for each in servers):
            _cells(server), _counts(server)
        if not all(isinstance(each, str) for each in document.get("errors", [])):
            raise Unavailable("an element of its errors is not a string")
    except (
        AttributeError,
        ArithmeticError,
        LookupError,
        OSError,
        TypeError,
        ValueError,
        SOSError,
    ) as error:
        why = f" ({error})" if isinstance(error, SOSError) else ""  # others are Python's own
        raise Unavailable(
            f"{url}/status is not the status of an API server{why}: name its admin port "
            "(--admin-port of sos-api) with --url"
        ) from error
    return document


def _seen_from_here(
    blob_server: str | None, file: str | None, access: dict[str, Any]
) -> dict[str, Any]:
    found = configured(file, blob_server, access)

    # --blob-server need not name all servers.
    settings = {} if blob_server else {"min-copies": wanted_copies(found)}

    async def survey(reactor: Any) -> dict[str, Any]:
        own = Membership.of(found.groups, settings["min-copies"]) if settings else None
        groups = groups_of(found, reactor, membership=own)
        members = ReplicatedStore(groups, threads_of(reactor), reactor)
        servers_by_group = await members.survey()
        document: dict[str, Any] = {
            "settings": settings,
            "errors": members.errors(),
            "groups": {
                group: [attrs.asdict(each) for each in servers]
                for group, servers in servers_by_group.items()
            },
        }
        if settings:
            # A dry run finds the missing copies: the servers can be up and lack some.
            policy = Policy(settings["min-copies"], moves=False, dry_run=True)
            state = PassState(incremental=True)
            summary = await replicate(groups, policy, reactor, Replication(), state)
            document["replication"] = {"last": {"error": None, "summary": attrs.asdict(summary)}}
        return document

    return run(survey)


def _groups(document: Any) -> dict[str, list[ServerHealth]]:
    """Return the health of the servers in *document*; a store of its own counts as one."""
    if "store" not in document:
        return parse_health(document["groups"])
    name, status = document["settings"]["store"], StoreStatus(**document["store"])
    return {"store": [health_of(name, HealthRecord(), status)]}


def _warnings(groups: dict[str, list[ServerHealth]], document: Any) -> list[str]:
    """Return the problems besides servers that are not up."""
    if "store" in document:
        return []
    copies = document["settings"].get("min-copies")
    warnings = conf_parser.too_small(groups, copies) if isinstance(copies, int) else []
    last = (document.get("replication") or {}).get("last") or {}
    if not last and "uptime" in document:
        warnings.append(
            "the API server has not finished a replication pass yet, or runs none "
            "(--replicate-every 0), so missing copies are unknown: run sos status without --url "
            "to look for them"
        )
    if last.get("error"):
        warnings.append(f"the last replication pass failed: {last['error']}")
    if last.get("summary"):
        summary = _known(Summary, last["summary"])
        if not summary.complete:
            warnings.append(f"some objects lack copies: {summary}")
        if summary.unlisted:
            warnings.append(f"could not list the blobs of {', '.join(summary.unlisted)}")
        if summary.broken:
            warnings.append(
                f"{summary.broken:d} objects are lost or lack chunks on all servers: run sos "
                "replicate for their ids, and upload them again"
            )
    return warnings


def _print(groups: dict[str, list[ServerHealth]], document: dict[str, Any]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    for group, servers in groups.items():
        title = Text(shown(group), "bold")
        table = Table(
            title=title, title_justify="left", box=SIMPLE_HEAD if console.is_terminal else None
        )
        counted = "uptime" in document
        for name in (*_COLUMNS, *(_COUNTED if counted else ())):
            table.add_column(name, justify="left" if name in _COLUMNS[:2] else "right")
        for server in servers:
            cells = [*_cells(server), *(_counts(server) if counted else ())]
            table.add_row(*cells)
        console.print(table)
    for line in _lines(document):
        console.print(Text(line))


def _cells(server: ServerHealth) -> list[Text]:
    name = server.url
    for mark in ("readonly", "preferred"):
        if getattr(server, mark):
            name += f" {mark}"
    if server.weight != 1:
        name += f" weight={server.weight:g}"
    if server.name != server.url:
        name += f" name={server.name}"
    state = server.state
    if server.reason is not None:
        state += f": {server.reason}"
    if server.asked_again is not None:
        state += f"; next attempt in {server.asked_again:.0f} s"
    return [
        Text(shown(name)),
        Text(shown(state), "green" if server.state == UP else "red"),
        *(Text(_UNKNOWN if size is None else decimal(size)) for size in (server.size, server.free)),
        _number(server.blobs),
    ]


def _counts(server: ServerHealth) -> list[Text]:
    numbers = server.requests, server.errors, server.p50_ms, server.p95_ms
    return [_number(each) for each in numbers]


def _number(value: float | None) -> Text:
    return Text(
        _UNKNOWN if value is None else f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
    )


def _lines(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines for what an API server reports besides the health of the servers."""
    if "uptime" not in document:
        return
    uptime = timedelta(seconds=round(document["uptime"]))
    yield f"sos-api {shown(document['version'])}, up {uptime}"
    replication = document.get("replication")
    if replication is not None and replication["last"] is not None:
        last = replication["last"]
        result = last["error"] or str(_known(Summary, last["summary"]))
        yield (
            f"last replication pass, {_date(last['started_at'])}, {last['seconds']:.1f} s: "
            f"{shown(result)}"
        )
    if "background" in document:
        background = document["background"]
        yield f"copies in the background: {background['copies']:d}, {decimal(background['bytes'])}"
    scrub = document.get("scrub")
    if scrub is not None:
        yield f"scrub: {_known(Report, scrub)}"


def _known(kind: type[Any], document: dict[str, Any]) -> Any:
    """Return a *kind* with those of its attributes that *document* contains."""
    names = {each.name for each in attrs.fields(kind)}
    return kind(**{name: value for name, value in document.items() if name in names})


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
