"""What is behind the URL of ``sos status`` may be anything; no terminal gets it as it is."""

from __future__ import annotations

import json
import math

import pytest
from pytest_twisted import ensureDeferred

from sos.cli import status
from sos.errors import Unavailable
from tests.stores.remote.test_store import Scripted
from tests.support.servers import serving

SERVER = {
    "url": "http://a:1",
    "state": "up",
    "reason": None,
    "asked_again": None,
    "readonly": False,
    "preferred": False,
    "weight": 1.0,
    "blobs": 1,
    "size": 1,
    "capacity": 1,
    "free": 1,
    "requests": 1,
    "errors": 0,
    "last_error": None,
    "last_error_ago": None,
    "p50_ms": 1.0,
    "p95_ms": 1.0,
}
DOCUMENT = {
    "version": "0",
    "uptime": 1,
    "settings": {"min-copies": 1},
    "groups": {"g": [SERVER]},
}


async def status_of(reactor, document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    async with serving(Scripted(body=body), reactor) as store:
        return await status._fetch(store.name, None, None, reactor)


@pytest.mark.parametrize(
    "document",
    [
        b"[" * 100_000,
        b"[]",
        {"groups": []},
        DOCUMENT | {"uptime": 1e300},
        DOCUMENT | {"uptime": math.nan},
        DOCUMENT | {"groups": {"g": [SERVER | {"size": 10**400}]}},
        DOCUMENT | {"groups": {"g": [SERVER | {"free": 10**400}]}},
        DOCUMENT | {"groups": {"g": [SERVER | {"asked_again": 10**400}]}},
        DOCUMENT | {"groups": {"g": [SERVER | {"state": "\x1b[2J"}]}},
        DOCUMENT | {"replication": {"last": {"error": "x", "started_at": 1e300, "seconds": 1.0}}},
        DOCUMENT
        | {"replication": {"last": {"error": "x", "started_at": math.inf, "seconds": 1.0}}},
    ],
    ids=lambda document: repr(document)[-40:],
)
@ensureDeferred
async def test_numbers_that_cannot_be_shown(reactor, document):
    """It is no API server then: one line says so, and Python says nothing."""
    with pytest.raises(Unavailable):
        await status_of(reactor, document)


@ensureDeferred
async def test_texts_that_a_terminal_would_obey(reactor, capsys):
    """They are shown with escapes, wherever they stand."""
    bad = "\x1b[2J\n\x07"
    server = SERVER | {"url": f"http://{bad}", "name": bad, "state": "unreachable", "reason": bad}
    last = {"error": bad, "started_at": 1.0, "seconds": 1.0}
    document = DOCUMENT | {"version": bad, "groups": {bad: [server]}, "replication": {"last": last}}
    found = await status_of(reactor, document)
    status._print(status._groups(found), found)
    shown = capsys.readouterr().out
    assert "\\x1b[2J" in shown
    assert all(line.isprintable() for line in shown.splitlines())
