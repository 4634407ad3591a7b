"""Garbage collections with a short grace period, which ``sos gc`` does not offer."""

from __future__ import annotations

import json
import sys
import time

import attrs
from twisted.internet.defer import ensureDeferred

from sos.aio.threads import threads_of
from sos.collection import Limits, Summary, collect
from sos.model.conf_parser import from_urls
from sos.model.membership import Announcer, Membership
from sos.tap import cluster
from tests.support.processes import Place


def collected(place: Place, urls: list[str], copies: int, grace: float) -> Summary:
    """Collect the garbage of the servers at *urls* that is older than *grace* seconds."""
    program = [sys.executable, "-m", "tests.system.faults.collecting"]
    done = place.run(program, f"{','.join(urls)} {copies} {grace}")
    assert done.returncode == 0, done
    return Summary(**json.loads(done.stdout))


def main(urls: str, copies: str, grace: str) -> None:
    """Collect garbage, and print the summary as JSON."""
    from twisted.internet import reactor

    found = from_urls(urls, "urls")
    announcer = Announcer(cluster.announcer_name(), Membership.of(found.groups, int(copies)))
    groups = cluster.remote_groups(found, reactor, "sha1", announcer=announcer)

    async def run() -> None:
        limits = Limits(float(grace), 1e9)
        try:
            summary = await collect(groups, limits, reactor, threads_of(reactor), time.time)
            print(json.dumps(attrs.asdict(summary)))
            await cluster.leave(groups, reactor)
        finally:
            reactor.stop()

    reactor.callWhenRunning(lambda: ensureDeferred(run()))
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
