"""A ``sos.conf`` that is broken, or made to break something, when it is read again."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText

from sos.daemon.reload import Reloading
from sos.tap import cluster

SERVERS = b"http://a:1\nhttp://b:1\n"

BROKEN = {
    "binary": SERVERS + bytes(range(256)),
    "NUL": SERVERS + b"http://c\0:1\n",
    "surrogates": SERVERS + b"[\xed\xa0\x80]\n",
    "too long": SERVERS + b"#" * (1024 * 1024),
    "a million servers": b"".join(b"http://h:1/%d\n" % n for n in range(100_000)),
    "half a line": SERVERS[:-6],
    "a password": SERVERS + b"http://me:hush@c:1\n",
    "a password and no scheme": SERVERS + b"me:hush@c:1\n",
    "a password with a blank": SERVERS + b"http://m e:hush@c:1\n",
    "a secret for its file": SERVERS + b"[sos]\nsecret-file = hush\n",
    "an escape": SERVERS + b"http://c:1 weight=\x1b[2J\n",
    "a number without end": SERVERS + b"[sos]\nmin-copies = 1" + b"0" * 5000 + b"\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_was_there_before_stays(tmp_path, text):
    """The log names the file, shows no secret, and nothing that a terminal obeys."""
    file = tmp_path / "sos.conf"
    file.write_bytes(SERVERS)
    servers = []
    reloading = Reloading(lambda: servers.append(cluster.load(str(file), None)) or "read", Clock())
    reloading.reload()
    file.write_bytes(text)
    with capturedLogs() as events:
        reloading.reload()
    (event,) = events
    logged = eventAsText(event, includeTimestamp=False, includeSystem=False)
    assert logged.startswith("cannot reload the configuration, keeping the old one: ")
    assert str(file) in logged
    assert logged.isprintable()
    assert "hush" not in logged
    assert len(servers) == 1
    file.write_bytes(SERVERS)
    reloading.reload()
    assert servers[0] == servers[1]
