"""OpenStack Swift with its S3 interface, as real processes in one directory.

One proxy, one account server, one container server, and three object servers
with a device each, on which every object has three copies.  Run as a program
it is one of these servers: Swift's own commands cannot be told where
``swift.conf`` is.
"""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
from pathlib import Path

#: Who may use it, as ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``.
ACCESS_KEY, SECRET_KEY = "test:tester", "testing"
#: The region that it says it is in.
REGION = "us-east-1"

# Six processes import a good deal; on a machine that is busy that takes a while.
_START_SECONDS = 90.0
_HOST = "127.0.0.1"
_OBJECT_SERVERS = ("object1", "object2", "object3")
# Without this file's directory on the path, where it would be taken for Swift itself.
_PROGRAM = [sys.executable, "-P", __file__]
_SERVERS = ("account", "container", *_OBJECT_SERVERS, "proxy")

_SWIFT_CONF = """
[swift-hash]
swift_hash_path_prefix = sos
swift_hash_path_suffix = sos

[storage-policy:0]
name = three
default = yes
"""

_STORAGE_CONF = """
[DEFAULT]
bind_ip = {host}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {directory}
devices = {directory}/{name}
mount_check = false
# A listing is to have what has been stored: the default of a second is soon over
# on a machine that is busy, and what comes late is left to a daemon.
container_update_timeout = 30
conn_timeout = 5
node_timeout = 30
fallocate_reserve = 0

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
allow_open_expired = false
"""

_PROXY_CONF = """
[DEFAULT]
bind_ip = {host}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {directory}

[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats s3api tempauth copy slo dlo proxy-server

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
paste.filter_factory = __main__:remember
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {region}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
conn_timeout = 2
node_timeout = 20
"""


class Swift:
    """A Swift of its own, whose servers can be killed, frozen and started again.

    :param directory: for its files; it is on a file system with extended attributes.
    """

    def __init__(self, directory: Path) -> None:
        from tests.support.ports import free_ports

        self.directory = directory
        self.environment = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._ports = dict(zip(_SERVERS, free_ports(len(_SERVERS)), strict=True))
        self.port = self._ports["proxy"]
        self.endpoint = f"http://{_HOST}:{self.port}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._configure()

    def url(self, bucket: str, prefix: str = "") -> str:
        """Return what to give to ``--store``."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}&region={REGION}"

    def start(self, *names: str) -> None:
        """Start the servers *names*, or all, and wait until they listen."""
        from tests.support.waiting import listens, wait_until

        for name in names or _SERVERS:
            with open(self.directory / f"{name}.log", "ab") as log:
                self._running[name] = subprocess.Popen(
                    [*_PROGRAM, "server", str(self.directory), name],
                    env={"PATH": os.environ["PATH"], "HOME": str(self.directory)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        for name in names or _SERVERS:
            started = wait_until(
                lambda name=name: listens(self._ports[name]) or self._running[name].poll(),
                _START_SECONDS,
            )
            assert started, f"{name} does not start"
            assert self._running[name].poll() is None, self._log(name)

    def _log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()[-2000:]

    @property
    def pids(self) -> dict[str, int]:
        """The processes of its servers."""
        return {name: process.pid for name, process in self._running.items()}

    def kill(self, name: str) -> None:
        """Kill one: ``proxy``, ``account``, ``container``, ``object1`` to ``object3``."""
        self._running[name].kill()
        self._running[name].wait(60)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to one: SIGSTOP freezes it, SIGCONT lets it go on."""
        self._running[name].send_signal(number)

    def stop(self) -> None:
        """End all of them."""
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)  # what is frozen cannot end
                process.kill()
                process.wait(60)

    def _configure(self) -> None:
        values = {
            "host": _HOST,
            "user": getpass.getuser(),
            "directory": self.directory,
            "region": REGION,
            "secret": SECRET_KEY,
        }
        (self.directory / "swift.conf").write_text(_SWIFT_CONF)
        for name, port in self._ports.items():
            kind = _kind(name)
            text = _PROXY_CONF if kind == "proxy" else _STORAGE_CONF
            text = text.format(**values, name=name, kind=kind, port=port)
            (self.directory / f"{name}.conf").write_text(text)
            if kind != "proxy":
                (self.directory / name / "device").mkdir(parents=True)

        servers = {"account": ["account"], "container": ["container"], "object": _OBJECT_SERVERS}
        rings = [
            f"{kind}:{','.join(str(self._ports[name]) for name in names)}"
            for kind, names in servers.items()
        ]
        subprocess.run([*_PROGRAM, "rings", str(self.directory), *rings], check=True)


class _Remembered(dict):
    """Has the methods of a memcached's client that a proxy uses, for a proxy by itself.

    Without one it asks for the account and the container at each request.
    """

    def __bool__(self):
        return True  # though there is nothing in it yet

    def get(self, key, raise_on_error=False):
        return super().get(key)

    def set(self, key, value, **options):
        self[key] = value

    def delete(self, key, server_key=None):
        self.pop(key, None)


def remember(configuration, **local):
    """Return a filter (paste.deploy) that gives the proxy something to remember by."""
    remembered = _Remembered()

    def wrap(application):
        def call(environment, start_response):
            environment["swift.cache"] = remembered
            return application(environment, start_response)

        return call

    return wrap


def _serve(directory: str, name: str) -> None:
    from swift.common import utils

    # What is imported next reads it at once.
    utils.SWIFT_CONF_FILE = f"{directory}/swift.conf"
    from swift.common.wsgi import run_wsgi

    sys.exit(run_wsgi(f"{directory}/{name}.conf", f"{_kind(name)}-server", verbose=True))


def _build_rings(directory: str, rings: list[str]) -> None:
    from swift.common.ring import RingBuilder

    for ring in rings:
        kind, _, ports = ring.partition(":")
        builder = RingBuilder(part_power=4, replicas=len(ports.split(",")), min_part_hours=0)
        for zone, port in enumerate(ports.split(","), 1):
            place = {"ip": _HOST, "port": int(port), "device": "device"}
            builder.add_dev({"region": 1, "zone": zone, "weight": 1, **place})
        builder.rebalance()
        builder.get_ring().save(f"{directory}/{kind}.ring.gz")


def _kind(name: str) -> str:
    return name.rstrip("123")


if __name__ == "__main__":
    if sys.argv[1] == "rings":
        _build_rings(sys.argv[2], sys.argv[3:])
    else:
        _serve(*sys.argv[2:])
