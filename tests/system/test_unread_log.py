"""Daemons whose log goes to a pipe that nobody reads, as real processes."""

from __future__ import annotations

import signal
import subprocess

from tests.support.http import connect
from tests.support.ports import free_ports
from tests.support.processes import TWISTD
from tests.support.waiting import listens, wait_until

# More lines than a pipe holds: 64 KiB.
_REQUESTS = 2_000


def test_a_log_that_is_read_late_holds_no_request_up(place):
    """And all of it is there in the end."""
    (port,) = free_ports(1)
    command = f"-n sos-blob --port {port} --store data --verbose"
    with subprocess.Popen(
        [*TWISTD, *command.split()],
        cwd=place.directory,
        env=place.environment,
        stdout=subprocess.PIPE,
    ) as daemon:
        try:
            assert wait_until(lambda: listens(port))
            client = connect(f"http://127.0.0.1:{port}")
            for _ in range(_REQUESTS):
                client.request("GET", "/blob/none")
                client.getresponse().read()
            client.close()
            dropped = 0
            while dropped < _REQUESTS:
                dropped += b"GET /blob/none" in daemon.stdout.readline()
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate(timeout=60)
