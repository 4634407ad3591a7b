"""What daemons and commands make is for their user and group, whatever the umask."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import stat

import pytest
from pytest_twisted import ensureDeferred

from sos.files.umask import withhold
from sos.stores.local import LocalStore
from sos.tap import api
from tests.support.blobs import body_of, content_id, put
from tests.support.http import ask, fetch
from tests.support.options import parsed
from tests.support.ports import free_ports
from tests.support.processes import SOS
from tests.support.waiting import wait_until

UMASKS = ["000", "077"]


def under(umask):
    """Return a program that starts another with this *umask*."""
    return "sh", "-c", f'umask {umask}; exec "$@"', "sh"


def modes_below(directory):
    """Return the mode of everything that is below *directory*, by its path."""
    found = [directory]
    for parent, directories, files in os.walk(directory):
        found += [os.path.join(parent, name) for name in (*directories, *files)]
    return {str(path): os.lstat(path).st_mode for path in found}


def check(directory, umask):
    """Raise unless all below *directory* is as narrow as it should be, and as *umask* asks."""
    modes = modes_below(directory)
    for path, mode in modes.items():
        if stat.S_ISLNK(mode):
            continue
        most = 0o750 if stat.S_ISDIR(mode) else 0o640
        assert stat.S_IMODE(mode) == most & ~int(umask, 8), path
    return modes


@pytest.mark.parametrize("umask", UMASKS)
def test_what_a_daemon_makes(place, umask):
    """The store with all in it, also what was set aside, and the access log, and the next."""
    (port,) = free_ports(1)
    home = place.directory / "kept"
    home.mkdir()
    home.chmod(0o750 & ~int(umask, 8))
    daemon = place.twistd(
        f"sos-blob --port {port} --store kept/data --access-log kept/log",
        port,
        within=under(umask),
    )
    url = f"http://127.0.0.1:{port}/blob/"
    small, large = b"small", body_of(3_000_000)
    for body in (small, large):
        fetch(url + content_id(body), body)
    id = content_id(large)
    path = home / "data" / "bodies" / id[:2] / id[2:4] / id
    path.write_bytes(bytes(3_000_000))
    ask(url + id, large)  # finds it damaged, and sets it aside
    assert wait_until(lambda: list((home / "data" / "quarantine").iterdir()))
    (home / "log").rename(home / "log.1")
    daemon.process.send_signal(signal.SIGHUP)
    assert wait_until((home / "log").exists)
    found = check(home, umask)
    for name in ("store.json", "lock", "index/data.mdb", "index/lock.mdb", f"bodies/{id[:2]}"):
        assert str(home / "data" / name) in found


@pytest.mark.parametrize("umask", UMASKS)
def test_what_commands_make(place, umask):
    """Of a new store, of one that is taken over, of a backup, and of an index made anew."""
    original = place.directory / "original"
    original.mkdir()
    body = body_of(200_000)
    (original / content_id(body)).write_bytes(body)
    for command in (
        "init --store new",
        "import original --store taken",
        "backup --store taken --to copied",
        "scrub --store taken",
        "check --store taken",
    ):
        done = place.run([*under(umask), *SOS], command)
        assert done.returncode == 0, (command, done.stderr)
    (place.directory / "taken" / "index" / "data.mdb").unlink()
    place.run([*under(umask), *SOS], "rebuild --store taken")
    for name in ("new", "taken", "copied"):
        check(place.directory / name, umask)


@pytest.mark.parametrize("umask", UMASKS)
def test_what_is_fetched_is_made_as_the_user_wishes(place, umask):
    """It is the user's: the umask decides, and nobody else."""
    up, down = free_ports(2)
    place.twistd(
        f"sos-api --store data --api-host 127.0.0.1 --upload-port {up} --download-port {down}",
        up,
        down,
    )
    fetch(f"http://127.0.0.1:{up}/upload", b"x")
    place.environment["SOS_DOWNLOAD"] = f"http://127.0.0.1:{down}"
    done = place.run([*under(umask), *SOS], shlex.join(["get", content_id(b"x"), "-o", "file"]))
    assert done.returncode == 0, done.stderr
    mode = stat.S_IMODE((place.directory / "file").stat().st_mode)
    assert mode == 0o666 & ~int(umask, 8)


@ensureDeferred
async def test_a_store_that_is_there_keeps_its_modes(reactor, tmp_path):
    """Who could read it could for a reason."""
    before = os.umask(0)
    try:
        store = LocalStore(tmp_path / "data", reactor)
        store.open()
        info = await put(store, body_of(100_000))
        await store.close()
        modes = modes_below(tmp_path / "data")
        assert stat.S_IMODE(modes[str(tmp_path / "data")]) == 0o777
        withhold()
        store = LocalStore(tmp_path / "data", reactor)
        store.open()
        assert (await store.stat(info.id)).size == 100_000
        await store.close()
        assert modes_below(tmp_path / "data") == modes
        assert os.umask(0o077) == 0o027
        withhold()
        assert os.umask(0) == 0o077
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("unix:/run/admin", "unix:/run/admin:mode=660"),
        ("unix:address=/run/admin:lockfile=0", "unix:address=/run/admin:lockfile=0:mode=660"),
        ("unix:/run/admin:mode=600", "unix:/run/admin:mode=600"),
        ("unix:address=/run/a\\:mode=1", "unix:address=/run/a\\:mode=1:mode=660"),
        ("tcp:1", "tcp:1"),
    ],
)
def test_an_admin_socket_is_for_user_and_group(home, given, meant):
    """Unless it is said whom else it is for: Twisted would let everybody in."""
    assert parsed(api, "--store", "data", "--listen-admin", given)["admins"] == [meant]


def test_nobody_else_reaches_an_admin_socket(place):
    """Whatever the umask."""
    (port,) = free_ports(1)
    path = place.directory / "admin"
    place.twistd(
        f"sos-blob --port {port} --store data --listen-admin unix:{path}", port, within=under("0")
    )
    with socket.socket(socket.AF_UNIX) as client:
        # It listens there after it does at its port.
        assert wait_until(lambda: client.connect_ex(str(path)) == 0)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
