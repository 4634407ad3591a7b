"""``sos drain``: a server that is to go, emptied onto the rest of its group."""

from __future__ import annotations

import sys
from typing import Any

import click
from attrs import evolve

from sos.cli.access import access_options
from sos.cli.completion import FILE
from sos.cli.output import as_json, document_of, json_option, tell
from sos.cli.program import converted
from sos.cli.reactor import run
from sos.cli.replicate import copies_option, one_pass, policy, rate_option, verbose_option
from sos.cli.servers import configured, groups_of, speaker_of
from sos.model import config
from sos.model.config import Config
from sos.replication import Summary


@click.command()
@click.argument("url", callback=converted(config.server_url))
@verbose_option
@copies_option
@rate_option
@json_option
@click.option(
    "--config",
    "-c",
    "file",
    metavar="FILE",
    type=FILE,
    help="Read this file instead of /etc/sos.conf and ~/.sos.conf.",
)
@access_options
def drain(
    url: str,
    verbose: bool,
    min_copies: int | None,
    rate: int | None,
    file: str | None,
    access: dict[str, Any],
) -> None:
    """Empty the server at URL onto the rest of its group, to take it out of use.

    Mark it readonly in sos.conf before, and have the API servers read that
    (SIGHUP): or they would go on storing there. A copy is dropped when all
    servers that should hold the blob are seen to have theirs. Ends with 0 when
    nothing is left on it, and every blob has its copies; then it can be taken out
    of sos.conf. Example:

        sos drain http://old:4001
    """
    found = configured(file, None, access)
    group, name = _found(found, url)
    wanted = evolve(policy(found, min_copies, rate), drained=frozenset([name]))

    async def drained(reactor: Any) -> tuple[Summary, int]:
        groups = groups_of(found, reactor, speaker_of(found, wanted.min_copies))
        summary = await one_pass(groups, wanted, reactor, verbose, group)
        if not as_json():
            click.echo(summary)
        (server,) = (each.store for each in groups[group] if each.name == name)
        return summary, len(await server.listing(limit=1))

    summary, left = run(drained)
    told = {**document_of(summary), "ok": summary.ok and not left, "empty": not left}
    if left:
        if as_json():
            tell(told, "")
        raise click.ClickException(f"{url} still holds blobs")
    rest = "" if summary.ok else "; but not every blob has its copies elsewhere"
    tell(told, f"{url} holds nothing any more{rest}")
    sys.exit(0 if summary.ok else 1)


def _found(found: Config, url: str) -> tuple[str, str]:
    """Return the group and the name of the server at *url*."""
    for group, servers in found.groups.items():
        for server in servers:
            if server.url == url:
                if not server.readonly:
                    raise click.UsageError(
                        f"mark {url} readonly in sos.conf first, and have the API servers read "
                        "that: or they go on storing there"
                    )
                return group, server.name
    raise click.UsageError(f"{url} is none of the servers in sos.conf")
