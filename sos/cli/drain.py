"""``sos drain``: move the blobs of a server to the rest of its group."""

from __future__ import annotations

import sys
from typing import Any

import click
from attrs import evolve

from sos.cli.access import access_options
from sos.cli.conf_value import config_option
from sos.cli.output import as_json, document_of, json_option, print_outcome
from sos.cli.program import converted
from sos.cli.reactor import run
from sos.cli.replicate import copies_option, one_pass, policy, rate_option, verbose_option
from sos.cli.servers import announcer_of, configured, groups_of
from sos.model import addresses
from sos.model.conf_parser import Config
from sos.replication import Summary


@click.command()
@click.argument("url", callback=converted(addresses.server_url))
@verbose_option
@copies_option
@rate_option
@json_option
@config_option
@access_options
def drain(
    url: str,
    verbose: bool,
    min_copies: int | None,
    rate: int | None,
    file: str | None,
    access: dict[str, Any],
) -> None:
    """Move all blobs of the server at URL to others of its group.

    First mark it readonly in sos.conf, and reload the API servers (SIGHUP), or
    they continue to write to it. A copy is deleted once every server of the
    blob's replica set has confirmed its own. Ends with status 0 if the server is
    empty and every blob has its copies, otherwise with 1. After status 0 you can
    remove the server from sos.conf. Example:

        sos drain http://old:4001
    """
    found = configured(file, None, access)
    group, name = _found(found, url)
    wanted = evolve(policy(found, min_copies, rate), drained=frozenset([name]))

    async def drained(reactor: Any) -> tuple[Summary, int]:
        groups = groups_of(found, reactor, announcer_of(found, wanted.min_copies))
        summary = await one_pass(groups, wanted, reactor, verbose, group)
        if not as_json():
            click.echo(summary)
        (server,) = (each.store for each in groups[group] if each.name == name)
        return summary, len(await server.listing(limit=1))

    summary, left = run(drained)
    document = {**document_of(summary), "ok": summary.ok and not left, "empty": not left}
    if left:
        if as_json():
            print_outcome(document, "")
        raise click.ClickException(
            f"{url} still holds blobs: remedy the errors above, then run sos drain {url} again"
        )
    rest = "" if summary.ok else ", but some blobs lack copies on the other servers"
    print_outcome(document, f"{url} is empty{rest}")
    sys.exit(0 if summary.ok else 1)


def _found(found: Config, url: str) -> tuple[str, str]:
    """Return the group and the name of the server at *url*."""
    for group, servers in found.groups.items():
        for server in servers:
            if server.url == url:
                if not server.readonly:
                    raise click.UsageError(
                        f"{url} is not marked readonly: mark it in sos.conf, and reload the API "
                        "servers (SIGHUP), or they continue to write to it"
                    )
                return group, server.name
    raise click.UsageError(f"sos.conf does not list the server {url}")
